"""Values of options that are refused, and the noise that options shape."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from explainable_model import ExplainableModel
from explainable_model.attribution.noise import gaussian_noise
from explainable_model.errors import LayerError, ModelError
from explainable_model.methods import METHODS
from tests.support.method_checks import assert_equal_in_onnx_runtime
from tests.test_map_options import network, pictures


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "gradcam9"}, ValueError, "Unknown method 'gradcam9'; known methods: gradcam, gradcam\\+\\+, "),
        ({"fusion": "sum"}, ValueError, "Unknown fusion 'sum'; known fusions: mean, max, product, layercam"),
        ({"normalize": "l2"}, ValueError, "normalize is 'l2'; expected one of minmax, max, none, True or False"),
        ({"upsample": "cubic"}, ValueError, "upsample is 'cubic'; expected one of bilinear, bicubic, nearest, none"),
        ({"size": (0, 4)}, ValueError, r"size is \(0, 4\); expected positive lengths"),
        ({"size": (4, 4), "upsample": False}, ValueError, r"size is \(4, 4\) with upsample='none'"),
        ({"chunk_size": 0}, ValueError, "chunk_size is 0; expected how many copies"),
        (
            {"method": "smoothgrad", "options": {"sample": 3}},
            ValueError,
            r"Method 'smoothgrad' has no option 'sample'; its options are: samples=16, noise=0.15, seed=0\.",
        ),
        ({"options": {"gamma": 3}}, ValueError, r"Method 'gradcam' has no option 'gamma'; its options are: none\."),
        ({"target_layer": []}, LayerError, r"target_layer is \[\]; expected different layers, or None"),
        ({"target_layer": ["block", "block"]}, LayerError, "expected different layers"),
    ],
    ids=str,
)
def test_refusals(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ExplainableModel(network(), **{"target_layer": "block", **options})


@pytest.mark.parametrize(
    ("method", "option", "value", "message"),
    [
        ("smoothgrad", "samples", 0, r"'samples' of method 'smoothgrad' is 0; expected an integer of at least 1\."),
        ("smoothgrad", "samples", 2.5, "is 2.5; expected an integer of at least 1"),
        ("smoothgrad", "samples", True, "is True; expected an integer of at least 1"),
        ("smoothgrad", "noise", -0.1, "is -0.1; expected a finite number of at least 0"),
        ("smoothgrad", "seed", -1, "is -1; expected an integer of at least 0 and of at most 2147483646"),
        ("smoothgradcam++", "samples", -2, "is -2; expected an integer of at least 1"),
        ("integrated_gradients", "steps", -3, "is -3; expected an integer of at least 1"),
        ("integrated_gradients", "baseline", float("inf"), r"is inf; expected a finite number or a tensor of images\."),
        (
            "integrated_gradients",
            "baseline",
            torch.ones(3, 4, 4).int(),
            r"is a tensor of torch.int32, shape \(3, 4, 4\)",
        ),
        ("expected_gradients", "baseline", torch.full((2, 3, 4, 4), float("nan")), "expected finite floating point"),
        ("smoothgrad", "noise", torch.ones(3, 4, 4), r"is a Tensor of shape \(3, 4, 4\); expected a finite number"),
        ("rise", "keep", 1.0, r"is 1.0; expected a finite number between 0 and 1\."),
        ("rise", "cells", 0, "is 0; expected an integer of at least 1"),
        ("occlusion", "window", -1, "is -1; expected an integer of at least 0"),
        ("finercam", "gamma", float("nan"), "is nan; expected a finite number of at least 0"),
        ("finercam", "references", "3", "is '3'; expected an integer of at least 1"),
        ("iscam", "samples", 1, "is 1; expected an integer of at least 2"),
        ("sscam", "noise", None, "is None; expected a finite number of at least 0"),
        ("reciprocam", "gaussian", 1, "is 1; expected True or False"),
        ("legrad", "first", 0.0, r"is 0.0; expected an integer\."),
        ("rollout", "heads", "median", r"'heads' of method 'rollout' is 'median'; expected 'mean', 'max', 'min'\."),
        ("dff", "concept", -1, "is -1; expected an integer of at least 0"),
        ("rollout", "heads", 1, "is 1; expected 'mean'"),
        ("rollout", "discard", 1.0, r"is 1.0; expected a finite number of at least 0 and below 1\."),
    ],
)
def test_values_out_of_range(method: str, option: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExplainableModel(network(), "block", method, options={option: value})


def test_every_option_has_a_kind_and_takes_its_default() -> None:
    for method in METHODS.values():
        assert method.check_options(method.options) == method.options


@pytest.mark.parametrize(
    "wrong", [lambda scores: scores.sum(), lambda scores: scores[:1], lambda scores: scores[:, None]]
)
def test_targets_of_another_length(wrong: Callable[[Tensor], Tensor]) -> None:
    explainable = ExplainableModel(network(), "block", target=lambda output, class_idx: wrong(output[:, 0]))
    with pytest.raises(ModelError, match=r"The target's score is \(.*\); expected one value per image, shape \(2,\)"):
        explainable(pictures())


def test_logits_that_are_no_numbers() -> None:
    broken = network()
    with torch.no_grad():
        broken.fc.bias[1] = float("nan")  # type: ignore[operator, union-attr]
    with pytest.raises(ModelError, match="SmallNet returned NaN logits for a finite image"):
        ExplainableModel(broken, "block")(pictures())


# Noise


def test_noise_is_normal_and_uncorrelated() -> None:
    noise = gaussian_noise(torch.zeros(1, 3, 64, 64, dtype=torch.float64), 8, seed=0).flatten(1)
    count = noise.shape[1]
    assert noise.mean(1).abs().max() < 4 / count**0.5
    assert (noise.std(1) - 1).abs().max() < 4 / (2 * count) ** 0.5
    assert ((noise.abs() < 1).double().mean() - 0.6827).abs() < 0.01
    assert ((noise.abs() > 2).double().mean() - 0.0455).abs() < 0.005
    others = gaussian_noise(torch.zeros(1, 3, 64, 64, dtype=torch.float64), 8, seed=1).flatten(1)
    correlation = torch.corrcoef(torch.cat([noise, others])) - torch.eye(16)
    assert correlation.abs().max() < 5 / count**0.5, "copies and seeds are independent"
    for shift in (1, 64):  # neighbors in a row and in a column
        assert (noise[:, shift:] * noise[:, :-shift]).mean(1).abs().max() < 5 / count**0.5


def test_noise_is_the_same_everywhere() -> None:
    image = torch.zeros(2, 3, 8, 8)
    assert torch.equal(gaussian_noise(image, 4, 0), gaussian_noise(image[:1], 4, 0)), "whatever the batch"
    assert torch.equal(gaussian_noise(image, 4, 0)[:2], gaussian_noise(image, 2, 0)), "however many copies"
    assert not torch.equal(gaussian_noise(image, 4, 0), gaussian_noise(image, 4, 1))
    assert_equal_in_onnx_runtime(lambda image: gaussian_noise(image, 3, 5) + 0 * image[:1], [(3, 8, 8)], 1e-5)
