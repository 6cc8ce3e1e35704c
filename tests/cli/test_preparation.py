"""What the command line says about photos and classes, beside what the network says itself."""

from argparse import Namespace
from types import SimpleNamespace
from typing import Any

from torch import nn

from explainable_model import NamedModel, Preprocess
from explainable_model.cli.preparation import apply_preparation
from tests.support.detectors import tiny_retinanet
from tests.support.nets import SmallNet

NOTHING = dict.fromkeys(("size", "mean", "std", "resize", "pad", "preprocess", "class_names"))


def apply(model: nn.Module, **given: Any) -> NamedModel:
    return apply_preparation(NamedModel(model), Namespace(**{**NOTHING, **given}))


def test_one_number_stands_for_every_channel_of_a_detector() -> None:
    detector = tiny_retinanet()
    known = apply(detector).preprocess
    assert known is not None
    assert known.pad is not None
    numbers = Preprocess((80, 96), (0.0,) * 3, (1.0,) * 3)
    assert apply(detector, size=(80, 96), mean=(0.0,), std=(1.0,)).preprocess == numbers
    half = apply(detector, mean=(0.5,)).preprocess
    assert half is not None
    assert (half.mean, half.pad) == ((0.5,) * 3, known.pad)
    resized = apply(detector, resize=90, size=(80, 80)).preprocess
    assert resized is not None
    assert (resized.resize, resized.pad) == (90, None)
    bordered = apply(detector, size=(80, 96), mean=(0.0,), std=(1.0,), pad=0.25).preprocess
    assert bordered is not None
    assert bordered.pad == 0.25


def test_the_classes_that_a_network_names() -> None:
    network = SmallNet()
    network.config = SimpleNamespace(id2label={0: "cat", 1: "dog"})
    assert apply(network).class_names == ("cat", "dog")
