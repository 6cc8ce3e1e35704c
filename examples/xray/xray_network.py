"""The classifier of chest X-rays: five residual blocks, one 8 x 8 convolution, a sigmoid."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import explainable_model as xm

HERE = Path(__file__).parent
WEIGHTS = HERE / "weights.safetensors"
LAYER = "blocks.4"  # the last residual block: (N, 16 width, 8, 8)
PREPARATION = xm.Preprocess((256, 256), mean=(0.5,) * 3, std=(0.5,) * 3, resize=None)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a 1 x 1 convolution; halves the sides of the image."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), nn.BatchNorm2d(outputs))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, image: Tensor) -> Tensor:
        return self.relu(self.body(image) + self.shortcut(image))


class XrayNetwork(nn.Module):
    """Takes ``(N, 3, 256, 256)`` and returns the probability of an opacity, ``(N, 1, 1, 1)``.

    Args:
        width: channels of the first block; each of the other four doubles them.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        channels = [3, *(width << block for block in range(5))]
        self.blocks = nn.Sequential(*map(ResidualBlock, channels[:-1], channels[1:]))
        self.head = nn.Sequential(nn.Conv2d(channels[-1], 1, 8, bias=False), nn.Dropout(0.1))
        self.sigmoid = nn.Sigmoid()
        with (
            torch.no_grad()
        ):  # at first the same weight everywhere: training learns what an opacity is before where it may be
            self.head[0].weight.copy_(torch.randn(1, channels[-1], 1, 1).mul(0.1 / 64).expand(1, -1, 8, 8))

    def forward(self, image: Tensor) -> Tensor:
        return self.sigmoid(self.head(self.blocks(image)))


def load_network(weights: Path = WEIGHTS) -> XrayNetwork:
    """Make the network with its trained weights, which are stored in float16."""
    network = XrayNetwork()
    network.load_state_dict({name: _widen(value) for name, value in load_file(weights).items()})
    return network.eval()


def _widen(value: Tensor) -> Tensor:
    return value.float() if value.dtype == torch.float16 else value


def load_classifier() -> xm.NamedModel:
    """Make the network with its preparation and its class, as ``--model xray_network:load_classifier`` takes it."""
    return xm.NamedModel(load_network(), PREPARATION, ("simulated opacity",), "binary")
