"""Every family as an artifact: other images, another batch, the same boxes and maps."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from explainable_model import ExplainableModel, export, load, lower, read_metadata
from explainable_model.errors import InputError, VerificationError
from explainable_model.explanation import DETECTION_NAMES
from tests.support.detectors import SIZE, TORCHVISION, photos, tiny_fcos
from tests.support.transformers_detectors import TRANSFORMERS, make_detr

FORMATS = ("onnx", "ts", "pt2")
SLOW: Any = {name: (make, SIZE, {}) for name, make in TORCHVISION.items()}
SLOW |= {name: (lambda name=name: make_detr(name), (96, 128), {"score_threshold": 0.15}) for name in TRANSFORMERS}


def compare(explainable: Any, path: Path, image: torch.Tensor) -> None:
    """The artifact's answer is the network's."""
    (boxes, scores, labels, valid), cam = load(path)(image.numpy())
    want, maps = explainable(image)
    np.testing.assert_allclose(boxes, want.boxes, atol=2e-2)
    np.testing.assert_allclose(scores, want.scores, atol=1e-4)
    np.testing.assert_allclose(cam, maps, atol=1e-3)
    assert np.array_equal(labels, want.labels)
    assert np.array_equal(valid, want.valid)
    assert valid.any()


def test_fcos_in_onnx(tmp_path: Path) -> None:
    explainable: Any = ExplainableModel(tiny_fcos(), task="detection", top_k=2, method="hirescam")
    path = export(explainable, tmp_path / "fcos.onnx", photos(2), class_names=["cat", "dog"])
    compare(explainable, path, photos(3, seed=7))
    metadata = read_metadata(path)
    assert metadata.detection == {
        "task": "detection",
        "family": "fcos",
        "score": "class",
        "score_threshold": 0.2,
        "iou_threshold": 0.6,
        "max_boxes": 2,
        "region": None,
    }
    assert list(metadata.to_dict()["outputs"]) == list(DETECTION_NAMES)
    assert metadata.class_names == ["cat", "dog"]
    session: Any = load(path)
    turned, _ = session(photos(1).numpy(), np.array([[1, 0]]))
    straight, _ = session(photos(1).numpy())
    assert np.array_equal(turned.boxes, straight.boxes[:, ::-1])
    with pytest.raises(InputError, match="finds 2 boxes: expected a rank from 0 to 1"):
        session(photos(1).numpy(), np.array([[2, 0]]))


@pytest.mark.parametrize("name", SLOW)
def test_every_family_in_every_format(name: str, tmp_path: Path) -> None:
    make, size, options = SLOW[name]
    explainable: Any = ExplainableModel(make(), task="detection", top_k=3, method="hirescam", **options)
    lowered = lower(explainable, photos(2, size))
    for suffix in FORMATS:
        path = export(lowered, tmp_path / f"network.{suffix}", photos(2, size))
        for batch in (1, 3):
            compare(explainable, path, photos(batch, size, seed=7 + batch))


def test_nothing_is_written_without_a_box(tmp_path: Path) -> None:
    explainable: Any = ExplainableModel(tiny_fcos(), task="detection", top_k=2, score_threshold=0.999)
    with pytest.raises(VerificationError, match="found no box in the example"):
        export(explainable, tmp_path / "fcos.ts", photos(1))
    assert not list(tmp_path.iterdir())
