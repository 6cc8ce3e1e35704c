"""``evaluate`` and ``compare`` on the command line."""

import json
from pathlib import Path

import pytest

from tests.support.cli_run import NAMED, Run


def test_a_file_is_measured(
    photos: list[Path], artifacts: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["evaluate", *photos, "--artifact", artifacts["onnx"], "--measures", "insertion", "sparseness"]
    run = Run(capsys, *asked, "--out", tmp_path / "page.html")
    assert run.code == 0
    assert "insertion ↑" in run.out
    assert "random map" in run.out
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    record = Run(capsys, *asked, "--json").record
    assert record["summary"]["gradcam"]["insertion"]["photos"] == 2
    assert record["measures"]["sparseness"]["better"] == "neither"


def test_the_rows_of_a_file_are_continued(
    photos: list[Path], artifacts: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    asked = ["evaluate", *photos, "--artifact", artifacts["onnx"], "--measures", "complexity", "--rows", rows, "--json"]
    first = Run(capsys, *asked)
    written = rows.read_text()
    again = Run(capsys, *asked)
    assert again.record == first.record
    assert rows.read_text() == written
    assert len(written.splitlines()) == 1 + 2 * 3


def test_methods_of_a_network_and_a_photo_that_is_none(
    photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    asked = ["--model", NAMED, "--methods", "gradcam", "layercam", "--layers", "layer2", "--measures", "complexity"]
    run = Run(capsys, "evaluate", photos[0], broken, *asked, "--json")
    assert run.code == 1
    assert list(run.record["summary"])[:2] == ["gradcam at layer2", "layercam at layer2"]
    assert "broken.png is not a picture" in run.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--measures", "faithful"], "There is no measure 'faithful'"),
        (["--measures", "iou"], "iou compare maps with masks"),
        (["--methods", "layercam"], "--methods belongs to --model"),
        (["--out", "page.txt"], "ends in '.txt'; expected one of .json, .csv, .html"),
    ],
)
def test_what_does_not_fit(
    options: list[str],
    message: str,
    photos: list[Path],
    artifacts: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = Run(capsys, "evaluate", photos[0], "--artifact", artifacts["onnx"], *options)
    assert run.code == 2
    assert message in run.err


def test_two_files(photos: list[Path], artifacts: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(capsys, "compare", artifacts["onnx"], artifacts["ts"], *photos)
    assert run.code == 0
    assert "the same class in 100.0%" in run.out
    record = json.loads(Run(capsys, "compare", artifacts["onnx"], artifacts["ts"], *photos, "--json").out)
    assert record["summary"]["same_class"]["mean"] == 1
    assert all(row["correlation"] > 0.999 for row in record["worst"])
