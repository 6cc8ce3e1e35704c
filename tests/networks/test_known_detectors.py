"""Detectors that say themselves how a photo becomes their image."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import nn

from explainable_model import ExplainableModel, explain
from explainable_model.imaging.preprocess import Preprocess
from explainable_model.networks.known import find_class_names, find_preprocess
from tests.support.detectors import SIZE, tiny_retinanet, tiny_ssd

BARE: Any = {"mean": (0.0,) * 3, "std": (1.0,) * 3}


def yolo(kind: str, parent: type[nn.Module] = nn.Module, **attributes: Any) -> nn.Module:
    """A network of a class that is called as ultralytics calls its own."""
    network: nn.Module = type(kind, (parent,), {"__module__": "ultralytics.nn.tasks"})()
    for name, value in attributes.items():
        setattr(network, name, value)
    return network


def test_torchvision_squashes_or_keeps_the_shape() -> None:
    assert find_preprocess(tiny_ssd()) == Preprocess(SIZE, **BARE)
    assert find_preprocess(tiny_retinanet()) == Preprocess(SIZE, **BARE, pad=(0.485 + 0.456 + 0.406) / 3)
    wrapped = ExplainableModel(tiny_ssd(), task="detection")
    assert find_preprocess(wrapped.model) == Preprocess(SIZE, **BARE)


@pytest.mark.parametrize(("arguments", "side"), [({}, 640), ({"imgsz": 320}, 320), (SimpleNamespace(imgsz=96), 96)])
def test_ultralytics_has_a_letterbox(arguments: Any, side: int) -> None:
    network = yolo("DetectionModel", args=arguments, names={1: "dog", 0: "cat"})
    inside: Any = SimpleNamespace(model=network)  # as ultralytics.YOLO has it
    for model in (network, inside):
        assert find_preprocess(model) == Preprocess((side, side), **BARE, pad=114 / 255)
        assert find_class_names(model) == ("cat", "dog")
    assert find_preprocess(yolo("PoseModel", type(network))) is not None


def test_other_networks_of_ultralytics_do_not_say_it() -> None:
    assert find_preprocess(yolo("ClassificationModel")) is None
    detector = type(yolo("DetectionModel"))
    assert find_preprocess(yolo("RTDETRDetectionModel", detector)) is None


def test_a_photo_is_explained_by_a_bare_detector() -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8))
    answer: Any = explain(photo, tiny_retinanet(), task="detection", top_k=3)
    assert answer.explainer.preprocess.pad is not None
    assert len(answer) == 3
    assert (answer.boxes <= np.array([60, 40, 60, 40])).all()
