"""Grad-CAM before instance normalization: its weights are zero by construction, and rounding noise is no map."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn

from explainable_model import ExplainableModel, lower
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


def by_hand(maps: torch.Tensor) -> torch.Tensor:
    deviation, mean = torch.std_mean(maps, (2, 3), keepdim=True)
    return (maps - mean) / (deviation + 1e-5)


class Functional(nn.Module):
    """A normalization of each channel that no module does."""

    def __init__(self, norm: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.conv, self.head, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 4), norm

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.conv(image)).tanh().square().mean((2, 3)))


FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "instance_norm": nn.functional.instance_norm,
    "group_norm": lambda maps: nn.functional.group_norm(maps, 8),
    "layer_norm": lambda maps: nn.functional.layer_norm(maps, maps.shape[2:]),
    "by hand": by_hand,
    "centered": lambda maps: maps - maps.mean((2, 3), keepdim=True),
}


@pytest.mark.filterwarnings("ignore::explainable_model.errors.ZeroMapWarning")
@pytest.mark.parametrize(
    ("name", "method"),
    [
        *((name, "gradcam") for name in FUNCTIONS),
        *(("instance_norm", m) for m in ("finercam", "shapleycam")),
        ("by hand", "guided_gradcam"),
    ],
)
def test_every_method_that_averages_and_every_way_to_normalize(name: str, method: str) -> None:
    network, image = seeded(Functional(FUNCTIONS[name])), images(2, (3, 24, 24))
    explainable = ExplainableModel(network, "conv", method)
    assert explainable(image).cam.abs().max() == 0
    if name == "by hand":
        assert lower(explainable, image)(image).cam.abs().max() == 0
    assert ExplainableModel(network, "conv", "hirescam")(image).cam.max() > 0.5
