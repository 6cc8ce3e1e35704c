"""Networks that the command line is given by name: ``tests.support.cli_nets:named``."""

import torch
from torch import nn

from explainable_model.imaging.preprocess import Preprocess
from explainable_model.networks.named import NamedModel
from tests.support.nets import TinyResNet, TinySegmenter, seeded

CLASS_NAMES = ("tabby, tabby cat", "tiger cat", "crane, bird", "crane, machine", "espresso")
PREPROCESS = Preprocess(size=(32, 32), resize=36)
PREPROCESS_WIDE = Preprocess(size=(24, 48), mean=(0.5,) * 3, std=(0.25,) * 3, resize=None)


def named() -> NamedModel:
    """Known images and class names."""
    print("a network may print")
    return NamedModel(seeded(TinyResNet(len(CLASS_NAMES))), PREPROCESS, CLASS_NAMES)


def other() -> NamedModel:
    """The same network with other weights."""
    return NamedModel(seeded(TinyResNet(len(CLASS_NAMES)), seed=1), PREPROCESS, CLASS_NAMES)


def wide() -> NamedModel:
    """Images that are not square, no class names."""
    return NamedModel(seeded(TinyResNet(3)), PREPROCESS_WIDE)


def bare() -> nn.Module:
    """Nothing known but the network."""
    return seeded(TinyResNet(3))


def segmenter() -> NamedModel:
    """Logits that are not one number per class."""
    return NamedModel(seeded(TinySegmenter()), PREPROCESS)


def broken() -> nn.Module:
    """Raises."""
    raise KeyError("weights.bin")


def interrupted() -> nn.Module:
    """As if Ctrl-C were pressed while it loads."""
    raise KeyboardInterrupt


def number() -> int:
    """Not a network."""
    return 3


def fixed() -> nn.Module:
    """Takes 8 x 8 pixels only."""
    return seeded(Fixed())


class Fixed(nn.Module):
    """Refuses any size but 8 x 8."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.fc = nn.Linear(2 * 36, 2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv(image).flatten(1))
