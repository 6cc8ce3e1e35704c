"""A layer that returns several maps: the prediction may read one of them, or several."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel, lower
from explainable_model.errors import LayerError
from tests.support.nets import images, seeded


class Levels(NamedTuple):
    fine: Tensor
    coarse: Tensor


class Body(nn.Module):
    def __init__(self, pack: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.first, self.second, self.pack = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 6, 3, 2, 1), pack

    def forward(self, image: Tensor) -> Any:
        fine = self.first(image).relu()
        return self.pack(fine, self.second(fine).relu())


class Net(nn.Module):
    """Reads the levels that it is told to."""

    def __init__(self, pack: Callable[[Tensor, Tensor], Any], read: tuple[int, ...] = (0, 1)) -> None:
        super().__init__()
        self.body, self.read, self.fc = Body(pack), read, nn.Linear(6 * len(read), 4)

    def forward(self, image: Tensor) -> Tensor:
        found = self.body(image)
        levels = list(found.values()) if isinstance(found, dict) else list(found)
        return self.fc(torch.cat([levels[n].mean((2, 3)) for n in self.read], 1))


PACKS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "[1]": lambda fine, coarse: [fine, coarse],
    "['p4']": lambda fine, coarse: {"p3": fine, "p4": coarse},
    "['coarse']": Levels,
}


@pytest.mark.parametrize("place", PACKS)
def test_several_maps_that_are_read_are_refused(place: str) -> None:
    network, image = seeded(Net(PACKS[place])), images(2, (3, 16, 16))
    with pytest.raises(LayerError) as refused:
        ExplainableModel(network, "body")(image)
    words = "target_layer 'body' returns several maps that the prediction of Net depends on: (2, 6, 8, 8), "
    assert f"{words}{place} (2, 6, 4, 4). Name the layer inside" in str(refused.value)
    with pytest.raises(LayerError, match="returns several maps"):
        lower(ExplainableModel(network, "body"), image)


def test_the_layers_inside_and_the_first_are_explained() -> None:
    network, image = seeded(Net(PACKS["[1]"])), images(2, (3, 16, 16))
    meant = ExplainableModel(network, "body", reshape_transform=lambda maps: maps)(image).cam
    fine = network.body.first(image).relu().detach().requires_grad_()
    (gradient,) = torch.autograd.grad(
        network.fc.weight[network(image).argmax(1), :6].mul(fine.mean((2, 3))).sum(), fine
    )
    cam = (gradient.mean((2, 3), keepdim=True) * fine).sum(1).relu().detach()
    cam = (cam - cam.amin((1, 2), keepdim=True)) / (cam.amax((1, 2), keepdim=True) - cam.amin((1, 2), keepdim=True))
    cam = nn.functional.interpolate(cam[:, None], image.shape[2:], mode="bilinear")[:, 0]
    assert (meant - cam).abs().max() < 1e-5
    assert ExplainableModel(network)(image).cam.shape == meant.shape
    assert ExplainableModel(network, "body.second")(image).cam.shape == meant.shape


def test_one_map_that_is_read_is_explained() -> None:
    network, image = seeded(Net(PACKS["[1]"], (0,))), images(2, (3, 16, 16))
    assert ExplainableModel(network, "body")(image).cam.amax() > 0.5
