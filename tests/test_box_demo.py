"""The demo of detectors, run once: boxes of photos, artifacts that agree, pictures, and an artifact without torch."""

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import explainable_model as xm
from explainable_model.cli.main import main
from explainable_model.demo import boxes
from explainable_model.demo.files import find_in_package
from explainable_model.errors import InputError
from explainable_model.explainer.explainer import artifact_explainer
from explainable_model.explainer.photo_detections import PhotoDetections

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from explainable_model.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("box-demo")


@pytest.fixture(scope="module")
def report(out: Path) -> dict[str, Any]:
    """What ``explainable-model demo --task detection --json`` prints."""
    torch.set_num_threads(1)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(["demo", "--task", "detection", "--out", str(out), "--json"]) == 0
    found: dict[str, Any] = json.loads(printed.getvalue())
    return found


def test_the_detector_sees_what_is_there(report: dict[str, Any]) -> None:
    coins, coffee, astronaut = report["photos"]
    assert [box["class_name"] for box in coins["boxes"]] == ["coin"] * 5
    assert [box["class_name"] for box in coffee["boxes"]] == ["cup"]
    assert astronaut["boxes"][0]["class_name"] == "face"
    for photo in report["photos"]:
        for box in photo["boxes"]:
            left, top, right, bottom = box["box"]
            column, row = box["hottest"]
            assert left < column < right
            assert top < row < bottom


def test_every_artifact_agrees(report: dict[str, Any]) -> None:
    assert list(report["artifacts"]) == list(boxes.ARTIFACTS)
    for photo in report["photos"]:
        for difference in photo["differences"].values():
            assert difference["cam"] < 1e-4
            assert difference["boxes"] < 1e-2
            assert difference["scores"] < 1e-5
    assert max(photo["differences"]["onnx"]["cam"] for photo in report["photos"]) > 0


def test_pictures(report: dict[str, Any]) -> None:
    for photo in report["photos"]:
        with Image.open(find_in_package("skimage", "data", photo["photo"])) as original:
            size = original.size
        with Image.open(photo["overlay"]) as overlay, Image.open(photo["panel"]) as panel:
            assert overlay.size == size
            assert panel.width > 400
    with Image.open(report["contact_sheet"]) as sheet:
        assert sheet.height > 1000


def test_the_artifact_explains_photos_without_torch(report: dict[str, Any], tmp_path: Path) -> None:
    photo = find_in_package("skimage", "data", "coins.png")
    arguments = ["explain", photo, "--artifact", report["artifacts"]["onnx"], "--out", tmp_path, "--json"]
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (record,) = json.loads(done.stdout)["photos"]
    expected = report["photos"][0]["boxes"]
    np.testing.assert_allclose([b["box"] for b in record["boxes"]], [b["box"] for b in expected], atol=1e-2)
    assert [box["class_name"] for box in record["boxes"]] == ["coin"] * 5
    assert Path(record["panel"]).is_file()


def test_the_path_of_an_artifact_is_a_detector_by_itself(report: dict[str, Any]) -> None:
    answer = xm.explain(find_in_package("skimage", "data", "coins.png"), report["artifacts"]["torchscript"], [3, 1])
    assert isinstance(answer, PhotoDetections)
    expected = [report["photos"][0]["boxes"][rank]["score"] for rank in (3, 1)]
    np.testing.assert_allclose(answer.scores, expected, atol=1e-5)
    with pytest.raises(InputError, match="finds boxes, each with a map"):
        artifact_explainer(report["artifacts"]["torchscript"])
    with pytest.raises(InputError, match="Leave out method"):
        xm.explain("coins.png", report["artifacts"]["onnx"], method="hirescam")
