"""Grad-CAM where channels have gradients of mean zero by construction: its weights are zero, and noise is no map."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from explainable_model import ExplainableModel, lower
from explainable_model.errors import ZeroMapWarning
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


class Centers(nn.Module):
    """Centers of gravity of heat maps, as networks for landmarks return them: a softmax over all positions."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.act, self.heat = nn.Conv2d(3, 8, 3, 2, 1), nn.Tanh(), nn.Conv2d(8, 4, 1)

    def forward(self, image: Tensor) -> Tensor:
        heat = self.heat(self.act(self.body(image))).flatten(2).softmax(2)
        return heat @ torch.linspace(-1, 1, heat.shape[2], dtype=image.dtype)


class NormByHand(nn.Module):
    """Instance normalization without a module for it."""

    def __init__(self, *, by_hand: bool) -> None:
        super().__init__()
        self.body, self.next, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1), nn.Linear(8, 4)
        self.by_hand = by_hand

    def forward(self, image: Tensor) -> Tensor:
        features = self.body(image)
        if self.by_hand:
            features = (features - features.mean((2, 3), True)) / features.std((2, 3), keepdim=True)
        else:
            features = functional.instance_norm(features)
        return self.head(self.next(features.relu()).relu().mean((2, 3)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("build", "layer"),
    [
        (Centers, "act"),
        (lambda: NormByHand(by_hand=True), "body"),
        (lambda: NormByHand(by_hand=False), "body"),
    ],
)
def test_functions_with_such_gradients(build: Callable[[], nn.Module], layer: str, dtype: torch.dtype) -> None:
    network, image = seeded(build()).to(dtype), images(2, (3, 24, 24)).to(dtype)
    explainable = ExplainableModel(network, layer)
    with pytest.warns(ZeroMapWarning, match="its mean does .* 'layercam' or 'hirescam'"):
        assert explainable(image).cam.abs().max() == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZeroMapWarning)
        lowered = lower(explainable, image)
    assert lowered(image).cam.abs().max() == 0
    assert ExplainableModel(network, layer, "layercam")(image).cam.max() > 0.5
