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


def logits() -> NamedModel:
    """One logit per class."""
    return named()


def softmax() -> NamedModel:
    """Probabilities that sum to one."""
    return NamedModel(nn.Sequential(named().model, nn.Softmax(1)).eval(), PREPROCESS, CLASS_NAMES)


def sigmoid() -> NamedModel:
    """One head with a sigmoid for each of 14 classes."""
    return NamedModel(seeded(ManyHeads(14)), PREPROCESS, tuple(f"finding {n}" for n in range(14)))


def binary() -> NamedModel:
    """One sigmoid, of an absent class."""
    model = nn.Sequential(seeded(TinyResNet(1)), Shift(-3.0), nn.Sigmoid()).eval()
    return NamedModel(model, PREPROCESS, ("pneumonia",))


def binary_logits() -> NamedModel:
    """One logit, of a present class, which only the user can know."""
    model = nn.Sequential(seeded(TinyResNet(1)), Shift(1.0)).eval()
    return NamedModel(model, PREPROCESS, ("pneumonia",), "binary_logits")


def age() -> NamedModel:
    """One number, of which nothing says what it means."""
    return NamedModel(binary_logits().model, PREPROCESS, ("age",))


def sigmoid_logits() -> NamedModel:
    """Logits of classes that are each present or absent, which only the user can know."""
    return NamedModel(named().model, PREPROCESS, CLASS_NAMES, "sigmoid_logits")


def scores() -> NamedModel:
    """Values that are no probabilities."""
    return NamedModel(named().model, PREPROCESS, CLASS_NAMES, "scores")


class Shift(nn.Module):
    """Adds a number."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values + self.shift


class ManyHeads(nn.Module):
    """One linear layer and sigmoid per class, joined."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = TinyResNet(8)
        self.heads = nn.ModuleList(nn.Linear(8, 1) for _ in range(classes))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = self.body(image)
        return torch.cat([torch.sigmoid(head(features)) for head in self.heads], 1)


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
