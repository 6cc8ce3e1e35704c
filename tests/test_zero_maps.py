"""A map of zeros says why, a map of one position is refused, and half precision does not dim a map."""

import warnings
from typing import Any

import pytest
import torch
from torch import nn

from explainable_model import ExplainableModel
from explainable_model.attribution.postprocess import scale
from explainable_model.errors import LayerError, ZeroMapWarning
from explainable_model.model import lower
from explainable_model.targets import Difference
from tests.support.nets import SmallNet, images, seeded

SIZE = (3, 16, 16)


def network() -> Any:
    """Class 1 has no weights, class 2 negative ones alone; the others are as they come."""
    net: Any = seeded(SmallNet()).double()
    with torch.no_grad():
        net.fc.weight[1] = 0
        net.fc.weight[2] = -net.fc.weight[2].abs()
        net.fc.weight[3] = net.fc.weight[3].abs()
    return net


def explained(class_idx: int, method: str = "gradcam", **options: Any) -> Any:
    return ExplainableModel(network(), "block", method, **options)(images(1, SIZE).double(), torch.tensor([class_idx]))


@pytest.mark.parametrize(
    ("class_idx", "method", "message"),
    [
        (
            1,
            "gradcam",
            "The map of class 1 is zero everywhere .1 of 1 maps are.. The signed map is zero, too: the grad",
        ),
        (2, "gradcam", "The map of class 2 is zero everywhere .* nowhere positive: all evidence .* against the class"),
        (1, "smoothgradcam++", "The map of class 1 .* The signed map is zero, too"),
    ],
)
def test_a_map_of_zeros_says_why(class_idx: int, method: str, message: str) -> None:
    with pytest.warns(ZeroMapWarning, match=message):
        assert not explained(class_idx, method).cam.any()


def test_a_map_of_several_layers_says_what_to_try() -> None:
    with pytest.warns(ZeroMapWarning, match="Try signed=True, another layer, or method 'layercam' or 'eigencam'"):
        ExplainableModel(network(), ["stem", "block"])(images(1, SIZE).double(), torch.tensor([1]))


def test_the_reason_costs_no_second_run() -> None:
    net, runs = network(), []
    net.register_forward_hook(lambda *_: runs.append(1))
    explainable = ExplainableModel(net, "block")
    with pytest.warns(ZeroMapWarning, match="nowhere positive"):
        explainable(images(1, SIZE).double(), torch.tensor([2]))
    assert len(runs) == 1


@pytest.mark.parametrize("layer", [None, "block"])
def test_a_class_compared_with_itself_is_named(layer: str | None) -> None:
    net, image = network(), images(1, SIZE).double()
    predicted = int(net(image).argmax())
    explainable = ExplainableModel(net, layer, target=Difference(predicted))

    with pytest.warns(
        ZeroMapWarning, match=rf"Class {predicted} is compared with itself: Difference\(other={predicted}\)"
    ):
        assert not explainable(image).cam.any()
    assert explainable.target_layer == "block"


def test_other_maps_are_silent() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert explained(3).cam.any()
        assert explained(2, signed=True, normalize="max").cam.any()
        lowered = lower(ExplainableModel(network(), "block"), images(2, SIZE).double())
        assert not lowered(images(1, SIZE).double(), torch.tensor([1])).cam.any(), "a graph does not warn"


def test_a_layer_of_one_position_is_refused() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    explainable = ExplainableModel(seeded(net), "1")
    with pytest.raises(LayerError, match=r"'1' has a map of one position for an image of \(16, 16\)"):
        explainable(images(1, SIZE))
    with pytest.raises(LayerError, match="has a map of one position"):
        ExplainableModel(seeded(net), "1", example=images(1, SIZE))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("normalize", ["minmax", "max"])
def test_small_maps_of_half_precision_are_not_dim(dtype: torch.dtype, normalize: str) -> None:
    cam = torch.tensor([[[0.0, 1e-6], [2e-6, 4e-6]]], dtype=dtype)
    scaled = scale(cam, normalize, (1, 2))
    assert scaled.dtype == dtype
    assert (scaled.double() - torch.tensor([[[0.0, 0.25], [0.5, 1.0]]])).abs().max() < 0.02


def test_an_export_is_quiet_about_the_map_of_a_placeholder() -> None:
    net = network()
    with torch.no_grad():
        net.fc.weight[:] = -net.fc.weight.abs()
    explainable, image = ExplainableModel(net, "block"), images(1, SIZE).double()
    lower(explainable, torch.zeros_like(image))  # a warning would be an error here
    with pytest.warns(ZeroMapWarning, match="is zero everywhere"):
        lower(explainable, image)
    with pytest.warns(ZeroMapWarning, match="is zero everywhere"):
        explainable(torch.zeros_like(image))
