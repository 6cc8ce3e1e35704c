"""Operators that ONNX's exporter lacks, or that few networks have: eager, lowered and in ONNX Runtime alike."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

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


FILTER = torch.view_as_complex(torch.randn(4, 4, 3, 2, generator=torch.Generator().manual_seed(1)))


def filtered(values: Tensor) -> Tensor:
    """A global filter, as in GFNet."""
    spectrum = torch.fft.rfft2(values, norm="ortho")
    return torch.fft.irfft2(spectrum * FILTER.to(spectrum.dtype) + spectrum.roll(1, 2), s=(4, 4), norm="ortho")


def odd_length(values: Tensor) -> Tensor:
    """Transforms of an odd length, there and back, and a magnitude."""
    spectrum = torch.fft.rfft(values[..., :3], dim=3)
    return torch.fft.irfft(spectrum / 2, n=3, dim=3) * torch.fft.fft2(values[..., :3]).abs()


def complex_parts(values: Tensor) -> Tensor:
    """A complex tensor from its parts, and its parts again."""
    spectrum = torch.fft.ifft(torch.complex(values, values * values), dim=2)
    return spectrum.real * values + spectrum.imag


def leaky(values: Tensor) -> Tensor:
    """A random slope, which evaluation fixes at its mean."""
    return torch.nn.functional.rrelu(values, 0.1, 0.5)


def pooled(values: Tensor) -> Tensor:
    """Average pooling with divisors of its own, of windows that reach over the end and of some that do not."""
    inside = functional.avg_pool2d(values, (2, 3), 1, (1, 0), divisor_override=5)
    over = functional.avg_pool2d(values, 3, 2, 1, ceil_mode=True, divisor_override=2)
    behind = functional.avg_pool2d(values, 1, 3, 0, ceil_mode=True, divisor_override=3)
    volume = functional.avg_pool3d(values.unsqueeze(1), (3, 1, 2), divisor_override=4)
    return inside.mean((2, 3), keepdim=True) + over.sum((2, 3), keepdim=True) + behind.amax() + volume.amin() * values


FUNCTIONS = {
    "leaky": leaky, "running": running, "filtered": filtered, "odd": odd_length, "parts": complex_parts,
    "pooled": pooled,
}  # fmt: skip


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


class TwoPools(nn.Module):
    """Two summaries of a map side by side, and probabilities, whose gradient depends on the map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, stride=3), nn.Linear(8, 3)

    def forward(self, image: Tensor) -> Tensor:
        values = self.conv(image).tanh().flatten(2)
        return self.fc(torch.cat([values.mean(2), values.amax(2)], 1).square()).sigmoid()


def test_second_derivatives_of_joined_features() -> None:
    network = seeded(TwoPools()).double()
    explainable = ExplainableModel(network, "conv", "shapleycam", normalize=False, signed=True)
    lowered = lower(explainable, images(1, (3, 12, 12)).double())
    image = images(3, (3, 12, 12), seed=5).double()
    want = explainable(image).cam
    assert want.abs().max() > 1e-6
    assert torch.allclose(lowered(image).cam, want, atol=1e-12)
