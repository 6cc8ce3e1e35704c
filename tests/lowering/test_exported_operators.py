"""Operators that ONNX's exporter lacks, or that few networks have: eager, lowered and in ONNX Runtime alike."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel, export, load, lower
from tests.support.nets import images, seeded


class Through(nn.Module):
    """A convolution, a function of its output, and a classifier."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, stride=3), nn.Linear(4, 3)
        self.function = function

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(self.function(self.conv(image)).flatten(2).mean(2))


def running(values: Tensor) -> Tensor:
    values = values.cumprod(2) + values.logcumsumexp(3)
    return values.cummax(2).values - values.cummin(3).values - values.amax() + values.amin()


FUNCTIONS = {"running": running}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_eager_lowered_and_onnx_agree(name: str, tmp_path: Path) -> None:
    size, network = (3, 12, 12), seeded(Through(FUNCTIONS[name]))
    explainable = ExplainableModel(network, "conv", normalize=False, signed=True)
    session = load(export(explainable, tmp_path / "net.onnx", images(1, size)))
    image = images(3, size, seed=5)
    want, got = explainable(image), session(image)
    assert want.cam.abs().max() > 1e-3
    assert torch.allclose(torch.from_numpy(got.cam), want.cam, atol=1e-5)
    assert torch.allclose(torch.from_numpy(got.logits), want.logits, atol=1e-5)
    exact = ExplainableModel(network.double(), "conv", normalize=False, signed=True)
    lowered = lower(exact, images(1, size).double())
    assert torch.allclose(lowered(image.double()).cam, exact(image.double()).cam, atol=1e-10)
