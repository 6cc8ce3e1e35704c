"""``explain`` over folders: the tree of pictures, tables, and work that goes on where it stopped."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from tests.support.cli_run import NAMED, Run


@pytest.fixture
def folder(tmp_path: Path, photos: list[Path]) -> Path:
    """Three photos in two levels, and a file that is none."""
    album = tmp_path / "album"
    (album / "deep er").mkdir(parents=True)
    shutil.copy(photos[0], album / "cat.png")
    shutil.copy(photos[1], album / "deep er" / "cat.PNG")
    shutil.copy(photos[1], album / "deep er" / "猫.png")
    (album / "notes.txt").write_text("no photo")
    return album


def pictures(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())


def test_a_folder_gives_the_same_tree_of_pictures(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    out, table = tmp_path / "out", tmp_path / "table.csv"
    options = ("--model", NAMED, "--out", out, "--picture", "jpg", "--csv", table)
    run = Run(capsys, "explain", folder, *options, "--jsonl")
    assert run.code == 0
    names = [f"{stem}-{kind}.jpg" for stem in ("cat", "deep er/cat", "deep er/猫") for kind in ("overlay", "panel")]
    assert pictures(out) == names
    rows = [json.loads(line) for line in run.out.splitlines()]
    assert [Path(row["photo"]).name for row in rows] == ["cat.png", "cat.PNG", "猫.png"]
    with table.open(encoding="utf-8", newline="") as stream:
        read = list(csv.DictReader(stream))
    assert [row["photo"] for row in read] == [row["photo"] for row in rows]
    assert [int(row["class_idx"]) for row in read] == [row["class_idx"] for row in rows]
    assert [float(row["hottest_x"]) for row in read] == [row["hottest"][0] for row in rows]


def test_patterns_and_bad_photos(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    (folder / "broken.png").write_text("no picture")
    table = tmp_path / "table.csv"
    run = Run(capsys, "explain", f"{folder}/*.png", "--model", NAMED, "--out", tmp_path / "out", "--csv", table)
    assert run.code == 1, "some photos failed"
    assert [line.split(":")[0] for line in run.out.splitlines()] == [str(folder / "cat.png")]
    assert "broken.png is not a picture" in run.err
    with table.open(encoding="utf-8", newline="") as stream:
        assert [bool(row["error"]) for row in csv.DictReader(stream)] == [True, False]
    nothing = Run(capsys, "explain", f"{folder}/*.gif", "--model", NAMED, "--out", tmp_path / "none")
    assert (nothing.code, "No file matches" in nothing.err) == (2, True)
    (tmp_path / "empty").mkdir()
    empty = Run(capsys, "explain", tmp_path / "empty", "--model", NAMED, "--out", tmp_path / "none")
    assert (empty.code, "holds no photo" in empty.err, (tmp_path / "none").exists()) == (2, True, False)


def test_pictures_are_never_replaced_without_a_word(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    out, table = tmp_path / "out", tmp_path / "table.csv"
    options = ("--model", NAMED, "--out", out, "--csv", table)
    assert Run(capsys, "explain", folder / "cat.png", *options).code == 0
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    refused = Run(capsys, "explain", folder, *options)
    assert refused.code == 2
    assert "cat-panel.png and 1 more exist already" in refused.err
    assert "--skip-existing, or replace them with --overwrite" in refused.err
    more = Run(capsys, "explain", folder, *options, "--skip-existing")
    assert more.code == 0
    assert more.out.splitlines()[-1] == "1 photo(s) with pictures skipped"
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with table.open(encoding="utf-8", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 3, "the table is continued"
    again = Run(capsys, "explain", folder, *options, "--overwrite")
    assert (again.code, len(again.out.splitlines())) == (0, 3)
    assert all(path.stat().st_mtime_ns > when for path, when in before.items())
