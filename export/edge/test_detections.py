"""Detectors in ``run_onnxruntime.py``: the boxes and the heatmaps of the project itself."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from explainable_model import explain


@pytest.mark.parametrize("pad", [0.5, None], ids=["letterbox", "squashed"])
def test_boxes_are_the_projects(
    pad: float | None, cells: Callable[..., Path], squares: Path, run, tmp_path: Path
) -> None:
    artifact = cells(".onnx", pad)
    want = explain(squares, artifact)
    done = run(".onnx", artifact, squares, "-o", tmp_path / "drawn.png", "--npy", tmp_path / "maps.npy")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["parity"]["within_tolerance"]
    assert len(record["boxes"]) == len(want) > 1
    for box, expected in zip(record["boxes"], want.list_boxes(), strict=True):
        assert (box["class_idx"], box["class_name"]) == (expected["class_idx"], expected["class_name"])
        np.testing.assert_allclose(box["box"], expected["box"], atol=0.06)
        np.testing.assert_allclose(box["hottest"], expected["hottest"], atol=0.06)
        assert abs(box["score"] - expected["score"]) < 1e-4
    assert np.abs(np.load(tmp_path / "maps.npy") - want.cam).max() < 1e-4
    left, top, right, _ = map(round, record["boxes"][0]["box"])
    with Image.open(tmp_path / "drawn.png") as drawn:
        assert drawn.convert("RGB").getpixel(((left + right) // 2, top)) == (255, 38, 38)


def test_one_box_and_boxes_that_are_not_the_recorded_ones(
    cells: Callable[..., Path], squares: Path, run, tmp_path: Path
) -> None:
    artifact = cells(".onnx", 0.5)
    (second,) = json.loads(run(".onnx", artifact, squares, "--class", 1).stdout)["boxes"]
    assert second["class_name"] == explain(squares, artifact).class_names[1]
    assert "the rank of the box is 4; expected 0 to 3" in run(".onnx", artifact, squares, "--class", 4).stderr
    model = onnx.load(artifact)
    (entry,) = (entry for entry in model.metadata_props if entry.key == "explainable_model.json")
    record = json.loads(entry.value)
    record["reference"]["class_idx"] = [[1 - label for label in labels] for labels in record["reference"]["class_idx"]]
    entry.value = json.dumps(record)
    onnx.save(model, tmp_path / "renamed.onnx")
    assert "does not give its recorded answer" in run(".onnx", tmp_path / "renamed.onnx", squares).stderr
