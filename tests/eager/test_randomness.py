"""Networks whose answer is another one at each call, and those that only draw random numbers."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from explainable_model import ExplainableModel, export, lower
from explainable_model.errors import ModelError
from tests.support.nets import SmallNet, images, seeded


class Drawing(nn.Module):
    """Adds to the image of a small network what a function draws."""

    def __init__(self, draw: Any) -> None:
        super().__init__()
        self.net, self.draw, self.calls = SmallNet(), draw, 0

    def forward(self, image: Tensor) -> Tensor:
        self.calls += 1
        return self.net(self.draw(image))


RANDOM = {
    "noise": lambda image: image + 0.1 * torch.randn_like(image),
    "dropout": functional.dropout,
    "mask": lambda image: image * torch.bernoulli(torch.full_like(image, 0.9)),
    "python": lambda image: image * random.random(),
}


@pytest.mark.parametrize("draw", RANDOM.values(), ids=RANDOM)
@pytest.mark.parametrize("method", ["gradcam", "ablationcam"])
def test_a_random_network_is_refused(draw: Any, method: str) -> None:
    explainable = ExplainableModel(seeded(Drawing(draw)), "net.block", method)
    for call in (explainable, explainable.attribute):
        with pytest.raises(ModelError, match="Drawing is random.*dropout with training=True"):
            call(images(1))


class Dropped(SmallNet):
    def forward(self, image: Tensor) -> Tensor:
        return functional.dropout(super().forward(image), 0.5, training=True)


def test_nothing_random_is_exported(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for network in (Dropped(), Drawing(RANDOM["noise"]), Drawing(lambda image: image * generator.random())):
        layer = "block" if isinstance(network, Dropped) else "net.block"
        explainable = ExplainableModel(seeded(network), layer)
        with pytest.raises(ModelError, match="is random"):
            lower(explainable, images(1))
        with pytest.raises(ModelError, match="is random"):
            export(explainable, tmp_path / "network.onnx", images(1))
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_draws_and_does_not_use_it_is_right() -> None:
    network: Any = seeded(Drawing(lambda image: image + 0 * torch.randn_like(image)))
    explainable = ExplainableModel(network, "net.block")
    wanted = ExplainableModel(network.net, "block")(images(2))
    assert torch.equal(explainable(images(2)).cam, wanted.cam)
    before = network.calls
    assert torch.equal(explainable(images(2)).cam, wanted.cam)
    assert network.calls == before + 1, "it is compared once"
