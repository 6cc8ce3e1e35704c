"""``explain --task detection``: pictures, tables and records of boxes, and what is refused."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from explainable_model import ExplainableModel, export
from explainable_model.attribution.plan import arguments_of
from explainable_model.cli.main import main
from explainable_model.demo.files import find_in_package
from tests.support.detectors import ColoredCells, colored_candidates, photos, randomize, tiny_ssd

MODEL = "explainable_model.demo.detector:load_detector"


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lower half of the photo of coins, which taught nothing, beside a photo without anything."""
    folder = tmp_path_factory.mktemp("photos")
    with Image.open(find_in_package("skimage", "data", "coins.png")) as coins:
        coins.crop((0, 150, 384, 303)).save(folder / "coins.png")
    Image.new("RGB", (60, 40), "gray").save(folder / "empty.png")
    return folder / "coins.png"


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    code = main([str(each) for each in arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_boxes_are_drawn_and_listed(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["explain", photo.parent, "--model", MODEL, "--task", "detection", "--top-k", 3, "--out", tmp_path]
    code, out, _ = run(capsys, *arguments, "--csv", tmp_path / "boxes.csv", "--json")
    assert code == 0
    coins, empty = json.loads(out)["photos"]
    assert empty["boxes"] == []
    assert [box["class_name"] for box in coins["boxes"]] == ["coin"] * 3
    for box in coins["boxes"]:
        left, top, right, bottom = box["box"]
        assert 0 <= left < box["hottest"][0] < right <= 384
        assert 0 <= top < box["hottest"][1] < bottom <= 153
        assert 0.5 <= box["score"] <= 1
    for record in (coins, empty):
        for kind in ("panel", "overlay"):
            with Image.open(record[kind]) as picture:
                assert picture.mode == "RGB"
    with Image.open(coins["overlay"]) as picture:
        assert picture.size == (384, 153)
    with (tmp_path / "boxes.csv").open(encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    assert [row["class_name"] for row in rows] == ["coin", "coin", "coin", ""]
    assert [float(rows[0][edge]) for edge in ("left", "top", "right", "bottom")] == coins["boxes"][0]["box"]


def test_a_line_for_people(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "explain", photo.parent, "--model", MODEL, "--task", "detection", "--out", tmp_path)
    first, second = out.strip().splitlines()
    assert "coins.png: coin " in first
    assert first.count("coin ") == 5
    assert f"empty.png: no box -> {tmp_path / 'empty-panel.png'}" in second


def test_a_letterbox(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["explain", photo, "--model", MODEL, "--task", "detection", "--pad", "0.45", "--out", tmp_path]
    code, out, _ = run(capsys, *arguments, "--json")
    assert code == 0
    (record,) = json.loads(out)["photos"]
    assert record["seen"] == [0, 0, 384, 153]
    for box in record["boxes"]:
        assert 0 <= box["box"][1] < box["hottest"][1] < box["box"][3] <= 153


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--class", "coin"], "--class belongs to classifiers"),
        (["--method", "all"], "name one method for the boxes of a detector"),
        (["--method", "saliency"], "'saliency' does not explain boxes"),
        (["--pad", "114"], "pad is 114.0"),
        (["--task", "boxes"], "invalid choice: 'boxes'"),
    ],
)
def test_refusals(photo: Path, tmp_path: Path, options: list[str], message: str, capsys: Any) -> None:
    arguments = ["explain", photo, "--model", MODEL, "--task", "detection", "--out", tmp_path, *options]
    code, _, errors = run(capsys, *arguments)
    assert code == 2
    assert message in errors


def test_an_export_needs_a_photo_with_boxes(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["export", "--model", MODEL, "--task", "detection", "-o", tmp_path / "boxes.onnx"]
    code, _, errors = run(capsys, *arguments)
    assert code == 2
    assert "A detector finds no boxes in noise" in errors
    code, _, errors = run(capsys, *arguments, "--example", photo.with_name("empty.png"))
    assert code == 2
    assert "The detector finds no box in" in errors
    assert list(tmp_path.iterdir()) == []


def test_a_classifier_is_no_detector(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = "torchvision:squeezenet1_0"
    code, _, errors = run(capsys, "explain", photo, "--model", network, "--task", "detection", "--out", tmp_path)
    assert code == 2
    assert "leave out task='detection'" in errors


def test_an_artifact_is_compared_with_the_detector(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = ExplainableModel(tiny_ssd(), task="detection", method="hirescam", top_k=2, max_boxes=4, region="gaussian")
    path = tmp_path / "ssd.ts"
    export(made, path, photos(1), reference=photos(1))
    model = ["--model", "tests.support.detectors:tiny_ssd"]
    code, out, errors = run(capsys, "verify", path, *model, "--json")
    assert code == 0, errors
    assert json.loads(out)["parity"]["passed"]
    torch.save(randomize(tiny_ssd(), 1.5, seed=1).state_dict(), tmp_path / "other.pth")
    code, out, _ = run(capsys, "verify", path, *model, "--checkpoint", tmp_path / "other.pth", "--json")
    assert code == 1
    assert not json.loads(out)["passed"]


def test_what_a_record_says_of_boxes_makes_the_same_wrapper() -> None:
    options: Any = {"box_score": "x1", "region": "box", "score_threshold": 0.3, "iou_threshold": 0.4, "max_boxes": 7}
    made = ExplainableModel(tiny_ssd(), task="detection", method="layercam", top_k=2, by_box=True, **options)
    again = ExplainableModel(tiny_ssd(), **arguments_of(made.plan.to_record()))
    assert again.plan.to_record() == made.plan.to_record()
    own = ExplainableModel(ColoredCells().eval(), "colors", task="detection", candidates=colored_candidates)
    with pytest.raises(ValueError, match="candidates="):
        arguments_of(own.plan.to_record())
