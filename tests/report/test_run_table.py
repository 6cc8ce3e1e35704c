"""Reading runs, whole and damaged, and what is counted over their photos."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from explainable_model.batch.run_folder import RECORD, ROWS
from explainable_model.batch.schema import make_schema
from explainable_model.errors import ArtifactError, InputError
from explainable_model.report.grids import Place, average_maps, find_hottest, fit_map, share_in_place
from explainable_model.report.proportions import Proportion, subtract
from explainable_model.report.run_reader import read_run
from explainable_model.report.run_table import RIGHT, UNKNOWN, WRONG
from explainable_model.report.selection import choose_rows, describe_choice, sort_rows
from tests.support.run_folders import blob, make_row, write_run

ROWS_OF_KINDS = [
    make_row("right", label="cat", score=0.8),
    make_row("unsure", label="cat", score=0.4),
    make_row("index", label="1", class_idx=1, score=0.7),
    make_row("wrong", label="dog", score=0.6),
    make_row("surely wrong", label="dog", score=0.95),
    make_row("unlabeled", score=0.5),
    make_row("broken", label="cat", error="truncated"),
]


def test_labels_are_names_or_indices(tmp_path: Path) -> None:
    table = read_run(write_run(tmp_path / "run", ROWS_OF_KINDS, part_rows=2))
    assert table.verdict.tolist() == [RIGHT, RIGHT, RIGHT, WRONG, WRONG, UNKNOWN, UNKNOWN]
    assert table.failed.tolist() == [False] * 6 + [True]
    assert table.notes == []
    assert [table.name(index) for index in (0, 2, 7)] == ["cat", "owl", "class 7"]


def test_the_best_class_is_judged_and_not_the_explained_one(tmp_path: Path) -> None:
    asked = make_row("asked", label="cat", class_idx=0)
    asked |= {"class": 1, "name": "dog"}  # the map of another class than the predicted one
    table = read_run(write_run(tmp_path / "run", [asked, make_row("no list", class_idx=2, label="owl", top_k=[])]))
    assert (table.explained.tolist(), table.predicted.tolist()) == ([1, 2], [0, 2])
    assert table.verdict.tolist() == [RIGHT, RIGHT]


def test_labels_of_another_list_are_not_judged(tmp_path: Path) -> None:
    rows = [make_row(str(n), label=f"folder {n}", class_idx=n) for n in range(3)]
    table = read_run(write_run(tmp_path / "run", rows))
    assert set(table.verdict.tolist()) == {UNKNOWN}
    assert "No label is the name or the index of a class: the labels are 'folder 0'" in table.notes[0]


def test_wrong_and_unsure_come_first(tmp_path: Path) -> None:
    table = read_run(write_run(tmp_path / "run", ROWS_OF_KINDS))
    ids = [ROWS_OF_KINDS[n]["id"] for n in sort_rows(table)]
    assert ids == ["surely wrong", "wrong", "unsure", "unlabeled", "index", "right", "broken"]


def test_of_too_many_photos_the_worst_are_shown_and_some_of_the_others(tmp_path: Path) -> None:
    rows = [make_row(str(n), label="dog" if n % 50 == 0 else "cat", score=0.5 + n / 2000) for n in range(900)]
    table = read_run(write_run(tmp_path / "run", rows))
    shown = choose_rows(table, 100)
    assert len(shown) == len(set(shown.tolist())) == 100
    assert (table.verdict[shown] == WRONG).sum() == 18
    assert table.verdict[shown[:18]].tolist() == [WRONG] * 18
    assert shown.max() > 800, "some of the sure ones are drawn, too"
    assert "shows 100 of 900 photos: 18 of 18 wrong ones, 82 of 882 right ones" in describe_choice(table, shown)
    assert np.array_equal(shown, choose_rows(table, 100)), "the sample is the same each time"
    assert len(choose_rows(table, 900)) == 900
    assert describe_choice(table, choose_rows(table, 900)) == ""


DAMAGES = {
    "its map has 3 bytes for 7 x 7 cells": {"cam": b"abc"},
    "its map has 49 bytes for -7 x 7 cells": {"cam_height": -7},
    "it has neither a map nor an error": {"cam": None},
    "no usable number": {"score": float("nan")},
    "the scale of its map is no usable number": {"cam_scale": float("inf")},
    "or the scale of its map": {"cam_scale": 3e38},
    "it has no class": {"class": None},
}


def test_damaged_rows_do_not_stop_the_others(tmp_path: Path) -> None:
    rows = [{**make_row(str(n)), **change} for n, change in enumerate(DAMAGES.values())]
    table = read_run(write_run(tmp_path / "run", [*rows, make_row("whole")]))
    assert table.failed.tolist() == [True] * len(rows) + [False]
    for number, reason in enumerate(DAMAGES):
        assert reason in table.damaged[number]
    assert table.notes == [f"{len(rows):,} rows are damaged, and shown among the failed ones."]


def test_odd_crops_and_sizes_cover_the_whole_photo(tmp_path: Path) -> None:
    odd = [
        make_row("a", crop=[1.0, 1.0, 1.0, 1.0]),
        make_row("b", width=0),
        make_row("c", crop=None),
        make_row("d", crop=[float("nan")] * 4),
        make_row("e", crop=[16.0, 0.0, 48.0, 48.0]),
    ]
    crops = read_run(write_run(tmp_path / "run", odd)).crop
    assert crops[:4].tolist() == [[0, 0, 1, 1]] * 4
    assert crops[4].tolist() == [0.25, 0, 0.75, 1]


def test_runs_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run"):
        read_run(tmp_path)
    with pytest.raises(InputError, match="has no rows yet"):
        read_run(write_run(tmp_path / "empty", []))
    with pytest.raises(ArtifactError, match="schema 99; this version reads up to"):
        read_run(write_run(tmp_path / "newer", ROWS_OF_KINDS, schema_version=99))
    lacking = pyarrow.schema([field for field in make_schema() if field.name != "cam"])
    with pytest.raises(ArtifactError, match="no column 'cam'"):
        read_run(write_run(tmp_path / "lacking", ROWS_OF_KINDS, schema=lacking))
    other = pyarrow.schema([f.with_type(pyarrow.string()) if f.name == "crop" else f for f in make_schema()])
    rows = [{**row, "crop": "0,0,1,1"} for row in ROWS_OF_KINDS]
    with pytest.raises(ArtifactError, match="are damaged"):
        read_run(write_run(tmp_path / "other", rows, schema=other))
    torn = write_run(tmp_path / "torn", ROWS_OF_KINDS)
    part = next((torn / ROWS).iterdir())
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_run(torn)


@pytest.mark.parametrize("names", [7, "cat", {"a": 1}, [None, 3, ["x"]]])
def test_odd_records(tmp_path: Path, names: Any) -> None:
    run = write_run(tmp_path / "run", ROWS_OF_KINDS, class_names=names, photos="many")
    record = json.loads((run / RECORD).read_text())
    (run / RECORD).write_text(json.dumps({**record, "artifact": names}))
    table = read_run(run)
    assert table.artifact == {}
    assert table.name(1) == ("dog" if not isinstance(names, list) else "3")


def test_doubled_rows_are_told(tmp_path: Path) -> None:
    table = read_run(write_run(tmp_path / "run", [make_row("a"), make_row("a"), make_row("b")]))
    assert table.notes == ["1 row has the id of another row: a run should have one row for each photo."]


def test_a_run_that_is_written_still(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [make_row("b"), make_row("c")], photos=3)
    table = read_run(run)
    assert table.notes == ["The run has rows for 2 of its 3 photos: batch has not ended."]
    pyarrow.parquet.write_table(
        pyarrow.parquet.read_table(run / ROWS / "part-000000.parquet").slice(1), run / ROWS / "part-000000.parquet"
    )
    with pytest.raises(ArtifactError, match="changed while it was read"):
        list(table.read_rows(np.array([0])))


def test_maps_of_all_sizes_come_onto_one_grid(tmp_path: Path) -> None:
    rows = [make_row("a", blob(6, 0)), make_row("b", blob(27, 0, side=28, width=4)), make_row("c", np.zeros((7, 7)))]
    signed = make_row("d", blob(6, 0) - blob(0, 6), signed=True)
    table = read_run(write_run(tmp_path / "run", [*rows, signed]))
    assert table.maps.shape == (4, 7, 7)
    assert table.has_map().tolist() == [True, True, False, True]
    assert find_hottest(table.maps[[0, 1, 3]]).round(2).tolist() == [[0.93, 0.07]] * 3
    assert share_in_place(table.maps[:1], table.maps[3:])[0] > 0.95, "evidence against the class is left out"
    assert table.strength.tolist() == pytest.approx([1, 1, 0, 1])


def test_places() -> None:
    assert [Place(y, x).describe() for y, x in ((0.1, 0.1), (0.9, 0.5), (0.5, 0.9), (0.5, 0.5))] == [
        "top left corner", "bottom edge", "right edge", "middle",
    ]  # fmt: skip
    flat = np.full((1, 4, 4), 255, np.uint8)
    assert find_hottest(flat).tolist() == [[0.5, 0.5]], "a map without a maximum has no fixed place"
    two = fit_map(np.array([[255, 0, 0, 254]], np.uint8), 0, (1, 4))
    assert find_hottest(two[None])[0, 1] == 0.5
    assert average_maps(np.stack([flat[0], flat[0]])).tolist() == flat[0].tolist()


def test_intervals_are_those_of_the_tables() -> None:
    """Newcombe 1998, tables of both papers: 81 of 263, and 56 of 70 against 48 of 80."""
    assert Proportion(81, 263).interval() == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert Proportion(0, 20).interval() == pytest.approx((0, 0.1611), abs=5e-5)
    assert subtract(Proportion(56, 70), Proportion(48, 80))[1:] == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert Proportion(0, 0).interval() == (0, 1)
