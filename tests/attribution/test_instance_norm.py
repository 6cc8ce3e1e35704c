"""Grad-CAM before instance normalization: its weights are zero by construction, and rounding noise is no map."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from explainable_model import ExplainableModel, lower
from explainable_model.errors import CancelledMapWarning, ZeroMapWarning
from tests.support.nets import images, seeded


def network(norm: Callable[[], nn.Module]) -> nn.Module:
    return seeded(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), norm(), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.Tanh(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
        )
    )  # fmt: skip


@pytest.mark.parametrize("norm", [lambda: nn.InstanceNorm2d(8, affine=True), lambda: nn.GroupNorm(8, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rounding_noise_is_a_map_of_zeros(norm: Callable[[], nn.Module], dtype: torch.dtype) -> None:
    image = images(2, (3, 24, 24)).to(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a map of zeros may be warned of
        explainable = ExplainableModel(network(norm).to(dtype), "0")
        assert explainable(image).cam.abs().max() == 0
    assert ExplainableModel(network(norm).to(dtype), "0", "layercam")(image).cam.max() > 0.5
    assert ExplainableModel(network(norm).to(dtype), "3")(image).cam.max() > 0.5


def test_the_lowered_map_is_zero_as_well() -> None:
    image = images(2, (3, 24, 24))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lowered = lower(ExplainableModel(network(lambda: nn.InstanceNorm2d(8)), "0"), image)
    assert lowered(image).cam.abs().max() == 0


@pytest.mark.parametrize("norm", [lambda: nn.GroupNorm(2, 8), lambda: nn.BatchNorm2d(8)])
def test_other_normalizations_keep_their_map(norm: Callable[[], nn.Module]) -> None:
    assert ExplainableModel(network(norm), "0")(images(2, (3, 24, 24))).cam.max() > 0.5


NORMALIZATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "instance_norm": functional.instance_norm,
    "group_norm": lambda values: functional.group_norm(values, values.shape[1]),
    "layer_norm": lambda values: functional.layer_norm(values, values.shape[2:]),
    "batch_norm": lambda values: functional.batch_norm(values.flatten(0, 1)[None], None, None, training=True).reshape(
        values.shape
    ),
    "by hand": lambda values: (values - values.mean((2, 3), True)) / (values.var((2, 3), keepdim=True) + 1e-5).sqrt(),
    "mean alone": lambda values: values - values.mean((2, 3), True),
}


class Functional(nn.Module):
    def __init__(self, norm: Callable[[Tensor], Tensor], *, pools: bool = False) -> None:
        super().__init__()
        self.body, self.head, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3), nn.Linear(8, 4)
        self.norm, self.pools = norm, pools

    def forward(self, image: Tensor) -> Tensor:
        if self.pools:
            return self.fc(self.norm(self.head(self.body(image))).mean((2, 3)))
        return self.fc(self.head(self.norm(self.body(image)).relu()).tanh().mean((2, 3)))


@pytest.mark.parametrize("norm", NORMALIZATIONS.values(), ids=NORMALIZATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_function_that_normalizes_is_seen(norm: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    image = images(2, (3, 24, 24)).to(dtype)
    explainable = ExplainableModel(seeded(Functional(norm)).to(dtype), "body")
    with pytest.warns(ZeroMapWarning):
        assert explainable(image).cam.abs().max() == 0
    assert ExplainableModel(seeded(Functional(norm)).to(dtype), "body", "layercam")(image).cam.max() > 0.5
    assert ExplainableModel(seeded(Functional(norm)).to(dtype), "head")(image).cam.max() > 0.5


@pytest.mark.parametrize("layer", ["body", "head"])
@pytest.mark.parametrize("method", ["gradcam", "layercam", "gradcam++"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_score_that_is_constant_has_no_map(layer: str, method: str, dtype: torch.dtype) -> None:
    network = seeded(Functional(functional.instance_norm, pools=True)).to(dtype)
    with pytest.warns(ZeroMapWarning, match="The signed map is zero, too: the gradient of the score vanishes"):
        assert ExplainableModel(network, layer, method)(images(2, (3, 24, 24)).to(dtype)).cam.abs().max() == 0


def test_a_tiny_gradient_that_is_no_rounding_stays() -> None:
    network: Any = seeded(Functional(lambda values: 1e-12 * values)).double()
    network.fc.bias.data += 100
    assert ExplainableModel(network, "body", "layercam")(images(2, (3, 24, 24)).double(), [1, 2]).cam.max() > 0.5


@pytest.mark.parametrize("name", ["instance_norm", "by hand"])
def test_the_lowered_map_of_a_function_is_zero_as_well(name: str) -> None:
    image = images(2, (3, 24, 24))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lowered = lower(ExplainableModel(seeded(Functional(NORMALIZATIONS[name])), "body"), image)
    assert lowered(image).cam.abs().max() == 0


@pytest.mark.filterwarnings("ignore::explainable_model.errors.ZeroMapWarning")
@pytest.mark.parametrize(
    ("name", "method"),
    [
        *((name, "gradcam") for name in NORMALIZATIONS if name != "batch_norm"),
        *(("instance_norm", m) for m in ("finercam", "shapleycam")),
        ("by hand", "guided_gradcam"),
    ],
)
def test_every_method_that_averages_and_every_way_to_normalize(name: str, method: str) -> None:
    network, image = seeded(Functional(NORMALIZATIONS[name])), images(2, (3, 24, 24))
    explainable = ExplainableModel(network, "body", method)
    assert explainable(image).cam.abs().max() == 0
    if name == "by hand":
        assert lower(explainable, image)(image).cam.abs().max() == 0
    assert ExplainableModel(network, "body", "hirescam")(image).cam.max() > 0.5


class Centers(nn.Module):
    """Centers of gravity of heat maps, as networks for landmarks return them: a softmax over all positions."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.act, self.heat = nn.Conv2d(3, 8, 3, 2, 1), nn.Tanh(), nn.Conv2d(8, 4, 1)

    def forward(self, image: Tensor) -> Tensor:
        heat = self.heat(self.act(self.body(image))).flatten(2).softmax(2)
        return heat @ torch.linspace(-1, 1, heat.shape[2], dtype=image.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_softmax_over_all_positions_is_seen(dtype: torch.dtype) -> None:
    network, image = seeded(Centers()).to(dtype), images(2, (3, 24, 24)).to(dtype)
    with pytest.warns(ZeroMapWarning, match="its mean does .* 'layercam' or 'hirescam'"):
        assert ExplainableModel(network, "act")(image).cam.abs().max() == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZeroMapWarning)
        assert lower(ExplainableModel(network, "act"), image)(image).cam.abs().max() == 0
    assert ExplainableModel(network, "act", "layercam")(image).cam.max() > 0.5


class ChannelNorm(nn.Module):
    """Normalizes the channels of each position, as layer norms of ConvNeXt and of vision transformers do."""

    def __init__(self, eps: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8, eps=eps)

    def forward(self, maps: Tensor) -> Tensor:
        return self.norm(maps.movedim(1, -1)).movedim(-1, 1)


@pytest.mark.parametrize("lowers", [False, True])
def test_products_that_cancel_before_a_norm_of_channels_are_no_map(lowers: bool) -> None:
    """The score does not change with the layer's scale, so that ``sum_k g_k A_k`` is zero at every position."""
    image, net = images(2, (3, 24, 24)), network(ChannelNorm)
    explainable = ExplainableModel(net, "0", "hirescam", signed=True)
    if lowers:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert lower(explainable, image)(image).cam.abs().max() == 0
        return
    with pytest.warns(ZeroMapWarning, match="its products with the activations cancel"):
        assert explainable(image).cam.abs().max() == 0
    for layer, method in (("0", "gradcam"), ("0", "layercam"), ("1", "hirescam"), ("3", "hirescam")):
        assert ExplainableModel(net, layer, method, signed=True)(image).cam.abs().max() > 0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("eps", [1e-5, 1e-6])
def test_products_that_cancel_in_half_precision_are_no_map(dtype: torch.dtype, eps: float) -> None:
    """The gradients have the rounding of half precision, whatever adds up the products."""
    image, net = images(2, (3, 24, 24)).to(dtype), network(lambda: ChannelNorm(eps)).to(dtype)
    with pytest.warns(ZeroMapWarning, match="its products with the activations cancel"):
        assert ExplainableModel(net, "0", "hirescam", signed=True)(image).cam.abs().max() == 0
    for layer in ("1", "3"):
        assert ExplainableModel(net, layer, "hirescam", signed=True)(image).cam.abs().max() > 0.5


@pytest.mark.parametrize("eps", [1e-5, 1e-6])
def test_a_map_that_the_epsilon_of_a_norm_leaves_is_told(eps: float) -> None:
    """In exact numbers, too, the map is ``eps / (variance + eps)`` of its products: float64 has the same one."""
    image, net = images(2, (3, 24, 24)).double(), network(lambda: ChannelNorm(eps)).double()
    message = r"HiResCAM adds up cancel at every position of '0': no sum exceeds \de-0\d .* \(2 of 2 maps\)"
    with pytest.warns(CancelledMapWarning, match=message):
        assert ExplainableModel(net, "0", "hirescam")(image, [1, 2]).cam.max() == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for layer, method in (("0", "layercam"), ("1", "hirescam"), ("3", "hirescam")):
            ExplainableModel(net, layer, method, signed=True)(image, [1, 2])
