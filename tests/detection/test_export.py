"""Every family as an artifact: other images, another batch, the same boxes and maps."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from explainable_model import ExplainableModel, export, load, lower, read_metadata
from explainable_model.cli.main import main
from explainable_model.errors import InputError, VerificationError
from explainable_model.explanation import DETECTION_NAMES
from tests.support.detectors import SIZE, photos, tiny_faster_rcnn, tiny_fcos, tiny_retinanet, tiny_ssd
from tests.support.transformers_detectors import make_detr

DETR_SIZE = (96, 128)
DETR = {"score_threshold": 0.15}

# An ONNX file takes ten seconds to write: families whose operators others have are written as TorchScript alone.
FAMILIES: Any = {
    "retinanet": (tiny_retinanet, SIZE, {}, ("ts",)),
    "ssd": (tiny_ssd, SIZE, {}, ("onnx", "ts", "pt2")),
    "faster_rcnn": (tiny_faster_rcnn, SIZE, {}, ("onnx", "ts")),
    "detr": (partial(make_detr, "detr"), DETR_SIZE, DETR, ("onnx", "ts")),
    "conditional_detr": (partial(make_detr, "conditional_detr"), DETR_SIZE, DETR, ("ts",)),
    "deformable_detr": (partial(make_detr, "deformable_detr"), DETR_SIZE, DETR, ("ts",)),
    "yolos": (partial(make_detr, "yolos"), DETR_SIZE, DETR, ("ts",)),
}


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
    assert metadata.model == "FCOS"
    assert metadata.detection == {
        "task": "detection",
        "family": "fcos",
        "score": "class",
        "score_threshold": 0.2,
        "iou_threshold": 0.6,
        "max_boxes": 2,
        "region": None,
        "by_box": False,
    }
    assert list(metadata.to_dict()["outputs"]) == list(DETECTION_NAMES)
    assert metadata.class_names == ["cat", "dog"]
    session: Any = load(path)
    turned, _ = session(photos(1).numpy(), np.array([[1, 0]]))
    straight, _ = session(photos(1).numpy())
    assert np.array_equal(turned.boxes, straight.boxes[:, ::-1])
    with pytest.raises(InputError, match="finds 2 boxes: expected a rank from 0 to 1"):
        session(photos(1).numpy(), np.array([[2, 0]]))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family(name: str, tmp_path: Path) -> None:
    make, size, options, formats = FAMILIES[name]
    explainable: Any = ExplainableModel(make(), task="detection", top_k=2, method="hirescam", **options)
    lowered = lower(explainable, photos(2, size))
    _, maps = explainable(photos(2, size))
    torch.testing.assert_close(lowered(photos(2, size)).cam, maps, rtol=0, atol=1e-3)
    for suffix in formats:
        path = export(lowered, tmp_path / f"network.{suffix}", photos(2, size))
        for batch in (1, 3):
            compare(explainable, path, photos(batch, size, seed=7 + batch))


def test_rt_detr_takes_one_batch_size(tmp_path: Path) -> None:
    options: Any = {"method": "hirescam", **DETR}
    explainable: Any = ExplainableModel(make_detr("rt_detr"), task="detection", **options)
    path = export(explainable, tmp_path / "rt_detr.ts", photos(2, DETR_SIZE), dynamic_batch=False)
    compare(explainable, path, photos(2, DETR_SIZE, seed=7))


def test_a_box_chooses_in_an_artifact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options: Any = {"top_k": 2, "method": "hirescam", "by_box": True}
    explainable: Any = ExplainableModel(tiny_retinanet(), task="detection", **options)
    wanted = torch.tensor([[[10.0, 10.0, 40.0, 50.0], [50.0, 20.0, 90.0, 70.0]]])
    path = export(explainable, tmp_path / "retinanet.ts", photos(1), wanted)
    image = photos(2, seed=5)
    both = wanted.expand(2, -1, -1)
    detections, cam = explainable(image, None, both)
    session: Any = load(path)
    (boxes, _, labels, _), maps = session(image.numpy(), None, both.numpy())
    np.testing.assert_allclose(boxes, detections.boxes, atol=1e-3)
    np.testing.assert_allclose(maps, cam, atol=1e-4)
    assert np.array_equal(labels, detections.labels)
    assert main(["verify", str(path), "--model", "tests.support.detectors:tiny_retinanet"]) == 2
    assert "its calls take more than an image: leave out --model" in capsys.readouterr().err


def test_nothing_is_written_without_a_box(tmp_path: Path) -> None:
    explainable: Any = ExplainableModel(tiny_fcos(), task="detection", top_k=2, score_threshold=0.999)
    with pytest.raises(VerificationError, match="found no box in the example"):
        export(explainable, tmp_path / "fcos.ts", photos(1))
    assert not list(tmp_path.iterdir())


def test_a_detector_that_gets_boxes_takes_no_reference(tmp_path: Path) -> None:
    explainable: Any = ExplainableModel(tiny_retinanet(), task="detection", method="hirescam", by_box=True)
    box = torch.tensor([[[10.0, 10.0, 40.0, 50.0]]])
    with pytest.raises(InputError, match="records no answer; leave out reference"):
        export(explainable, tmp_path / "retinanet.ts", photos(1), box, reference=photos(1))
    assert not list(tmp_path.iterdir())
