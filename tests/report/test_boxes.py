"""Reports and exports of a detector's run, whose rows hold boxes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from PIL import Image

from explainable_model.batch.schema import make_schema
from explainable_model.errors import InputError
from explainable_model.report import (
    find_shortcuts,
    iterate_pictures,
    make_label_config,
    write_coco,
    write_label_studio,
    write_report,
)
from explainable_model.report.box_payload import FINEST_BOX_MAP, MOST_BOXES, MOST_MAPS
from explainable_model.report.run_reader import read_run
from explainable_model.report.selection import choose_rows, describe_choice, sort_rows
from tests.report.test_write_report import write
from tests.siege.records import HOSTILE
from tests.siege.runs import find_injection
from tests.support.cli_run import Run
from tests.support.run_folders import Row, blob, make_box, make_box_row, make_row, write_run


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    """Photos of 64 x 48 pixels: with two boxes, without one, failed, and with a box of another class."""
    photo = tmp_path / "photos" / "two.png"
    photo.parent.mkdir()
    Image.new("RGB", (64, 48), (90, 90, 90)).save(photo)
    two = [
        make_box([16, 12, 48, 36], blob(3, 3), 1, score=0.8, inside=0.9),
        make_box([0, 0, 8, 6], np.zeros((7, 7)), 0, score=0.5, inside=None, entropy=None, hottest_tenth=None),
    ]
    return [
        make_box_row(str(photo), two, photo=photo, label="garden"),
        make_box_row(str(photo.parent / "none.png"), [], label="garden"),
        make_box_row(str(photo.parent / "failed.png"), error="truncated", label="street"),
        make_box_row(str(photo.parent / "outside.png"), [make_box([40, 20, 60, 40], blob(0, 0), 1, inside=0.2)]),
    ]


def test_the_page_holds_the_boxes_and_their_maps(rows: list[Row], tmp_path: Path) -> None:
    report, content = write(write_run(tmp_path / "run", rows))
    assert (report.photos, report.boxes, report.clusters, content["clusters"]) == (4, 3, [], [])
    assert content["detection"] == {"boxes": 3, "bare": 1, "outside": 1}
    assert (content["failed"], content["empty"], content["accuracy"], content["unsure"]) == (1, 1, None, None)
    assert [row["id"] for row in content["rows"]] == ["none.png", "two.png", "outside.png", "failed.png"]
    none, two, _, failed = content["rows"]
    assert (none["boxes"], none["size"], failed["error"], failed["label"]) == ([], [64, 48], "truncated", "street")
    assert two["picture"].startswith("data:image/webp;base64,")
    first, second = two["boxes"]
    assert (first["class"], first["score"], first["inside"]) == ("dog", 0.8, 0.9)
    assert first["box"] == [0.25, 0.25, 0.75, 0.75]
    assert ("map" in first, "map" in second, "inside" in second) == (True, False, False)
    dog, cat = content["classes"]
    assert (dog["name"], dog["boxes"], dog["photos"], dog["inside"], dog["empty"]) == ("dog", 2, 2, 0.55, 0)
    assert (cat["name"], cat["boxes"], cat["inside"], cat["empty"]) == ("cat", 1, None, 1)
    assert sum(content["strengths"]["counts"][2]) == 2


def test_a_run_of_failures_is_known_by_its_artifact(tmp_path: Path) -> None:
    failed = [make_box_row("a.png", error="truncated")]
    run = write_run(tmp_path / "run", failed)
    (run / "run.json").write_text(
        (run / "run.json").read_text().replace('"artifact": {', '"artifact": {"task": "detection", ')
    )
    report, content = write(run)
    assert (report.boxes, content["detection"]["bare"], content["classes"], content["strengths"]) == (0, 0, [], None)


def test_rows_of_the_first_schema_are_reported(tmp_path: Path) -> None:
    schema = make_schema()
    old = schema.remove(schema.get_field_index("boxes"))
    rows = [{name: value for name, value in make_row(each, label="cat").items() if name != "boxes"} for each in "ab"]
    report, content = write(write_run(tmp_path / "run", rows, schema=old, schema_version=1))
    assert (report.photos, report.boxes, content["accuracy"][:2]) == (2, None, [2, 2])
    missing = write_run(tmp_path / "missing", rows, schema=old)
    with pytest.raises(Exception, match="have no column 'boxes'"):
        write_report(missing, tmp_path / "missing.html")


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "a class": ({"class": None}, "a box has no class"),
    "an edge": ({"box": [0.0, float("nan"), 1.0, 1.0]}, "the edges of a box are not in order"),
    "no box": ({"box": None}, "the edges of a box are not in order"),
    "an order": ({"box": [9.0, 0.0, 1.0, 1.0]}, "the edges of a box are not in order"),
    "few bytes": ({"cam": b"123"}, "the map of a box has another number of bytes than of cells"),
    "no bytes": ({"cam": None}, "the map of a box has another number of bytes than of cells"),
    "no cells": ({"cam": b"", "cam_height": 0}, "the map of a box has another number of bytes than of cells"),
    "a scale": ({"cam_scale": float("inf")}, "a score or the scale of a map is no usable number"),
    "a share": ({"inside": float("nan")}, "what a box says of its map is no number from 0 to 1"),
    "a share above 1": ({"inside": 1.5}, "what a box says of its map is no number from 0 to 1"),
    "a spread": ({"entropy": float("inf")}, "what a box says of its map is no number from 0 to 1"),
    "a tenth": ({"hottest_tenth": float("nan")}, "what a box says of its map is no number from 0 to 1"),
    "a score": ({"score": None}, "a score or the scale of a map is no usable number"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_damaged_boxes(name: str, tmp_path: Path) -> None:
    changes, said = BROKEN[name]
    rows = [
        make_box_row("whole.png", [make_box([0, 0, 9, 9])]),
        make_box_row("damaged.png", [make_box([0, 0, 9, 9]), make_box([0, 0, 9, 9], **changes)]),
    ]
    report, content = write(write_run(tmp_path / "run", rows))
    assert (report.boxes, content["failed"]) == (1, 1)
    assert content["rows"][1]["error"] == f"The row is damaged: {said}."
    assert report.notes[0] == "1 row is damaged, and shown among the failed ones."


def test_a_null_among_the_boxes(tmp_path: Path) -> None:
    rows = [make_box_row("damaged.png", [make_box([0, 0, 9, 9]), None]), make_box_row("whole.png", [])]
    report, content = write(write_run(tmp_path / "run", rows))
    assert (report.boxes, [row["id"] for row in content["rows"]]) == (0, ["whole.png", "damaged.png"])
    assert content["rows"][1]["error"] == "The row is damaged: a box has no class."


def test_rows_that_hold_neither_boxes_nor_an_error(tmp_path: Path) -> None:
    rows = [make_box_row("a.png", []), make_row("b.png"), make_box_row("c.png", [make_box([0, 0, 9, 9])], width=0)]
    table = read_run(write_run(tmp_path / "run", [{**rows[0], "boxes": []}, rows[1], {**rows[2], "width": 0}]))
    assert table.failed.tolist() == [False, True, True]
    assert table.damaged[1] == "The row is damaged: it has neither boxes nor an error."
    assert table.damaged[2] == "The row is damaged: its photo has no size."


def test_many_boxes_and_fine_maps_are_bounded(tmp_path: Path) -> None:
    fine = [make_box([0, 0, 9, 9], np.ones((40, 64))) for _ in range(MOST_BOXES + 3)]
    report, content = write(write_run(tmp_path / "run", [make_box_row("a.png", fine), make_box_row("b.png", fine[:9])]))
    few, row = sorted(content["rows"], key=lambda row: len(row["boxes"]))
    assert (len(row["boxes"]), row["more"], "more" in few) == (MOST_BOXES, 3, False)
    assert row["boxes"][0]["grid"] == [10, FINEST_BOX_MAP]
    assert ["map" in box for box in row["boxes"]] == [True] * MOST_MAPS + [False] * (MOST_BOXES - MOST_MAPS)
    assert max(len(json.dumps(box)) for box in row["boxes"][MOST_MAPS:]) < 150
    assert report.notes[0].startswith("1 of the photos have more than 300 boxes; this page, its filters and its CSV")


def test_every_box_is_counted_on_the_page(tmp_path: Path) -> None:
    """A box beyond those with a map has its class, its score and its measures; no map is not an empty map."""
    boxes = [make_box([0, 0, 9, 9], score=0.9 - 0.01 * rank) for rank in range(MOST_MAPS + 1)]
    boxes += [
        make_box([1, 2, 32, 24], blob(3, 3), 2, score=0.3, inside=0.1),
        make_box([0, 0, 9, 9], np.zeros((7, 7)), 1),
    ]
    report, content = write(write_run(tmp_path / "run", [make_box_row("a.png", boxes)]))
    (row,) = content["rows"]
    assert (len(row["boxes"]), "more" in row, "boxes" in report.notes[0]) == (MOST_MAPS + 3, False, False)
    assert row["boxes"][-2] == {
        "class": "owl", "score": 0.3, "box": [0.0156, 0.0417, 0.5, 0.5], "inside": 0.1, "entropy": 0.5,
        "hottest_tenth": 0.4,
    }  # fmt: skip
    assert [number for number, box in enumerate(row["boxes"]) if box.get("empty")] == [MOST_MAPS + 2]


def test_no_box_and_the_least_sure_come_first(tmp_path: Path) -> None:
    rows = [make_box_row(str(n), [make_box([0, 0, 9, 9], score=n / 10)]) for n in (9, 3, 5)]
    table = read_run(write_run(tmp_path / "run", [*rows, make_box_row("none"), make_box_row("bad", error="no")]))
    assert sort_rows(table).tolist() == [3, 1, 2, 0, 4]
    shown = choose_rows(table, 2)
    assert shown.tolist() == [3, 2]
    assert describe_choice(table, shown) == (
        "The page shows 2 of 5 photos: 1 of 1 without a box, 1 of 3 with boxes, 0 of 1 that failed. Those with boxes "
        "were drawn at random. Every figure is of all photos."
    )


def test_photos_without_a_box_leave_room_for_unsure_ones(tmp_path: Path) -> None:
    rows = [make_box_row(f"none{n}") for n in range(120)]
    rows += [make_box_row(f"{n}", [make_box([0, 0, 9, 9], score=(n + 1) / 100)]) for n in range(70)]
    table = read_run(write_run(tmp_path / "run", [*rows, *(make_box_row(f"bad{n}", error="no") for n in range(10))]))
    shown = choose_rows(table, 50)
    bare, unsure = int((shown < 120).sum()), [120, 121, 122, 123, 124]
    assert set(unsure) < set(shown.tolist())
    assert bare >= 12
    said = describe_choice(table, shown)
    assert said.startswith(
        f"The page shows 50 of 200 photos: {bare} of 120 without a box, {48 - bare} of 70 with boxes, 2 of 10 that"
    )
    assert "Among them are the 5 whose best box is least sure. The others with boxes were drawn at random." in said


def test_what_needs_one_answer_for_each_photo_is_refused(rows: list[Row], tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rows)
    with pytest.raises(InputError, match="is the run of a detector; side by side are"):
        write_report(run, tmp_path / "report.html", against=run)
    with pytest.raises(InputError, match="is the run of a detector, whose photos have no class"):
        find_shortcuts(run)
    with pytest.raises(InputError, match=r"explain\(photos, artifact\) draws the boxes"):
        list(iterate_pictures(run))


def test_boxes_for_labeling_tools(rows: list[Row], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", rows, class_names=None)
    coco, tasks = tmp_path / "coco.json", tmp_path / "tasks.json"
    done = Run(capsys, "report", run, "-o", tmp_path / "r.html", "--coco", coco, "--label-studio", tasks)
    assert done.code == 0
    assert "3 boxes in 4 photos." in done.out
    found = json.loads(coco.read_text())
    assert [one["bbox"] for one in found["annotations"]] == [[16, 12, 32, 24], [0, 0, 8, 6], [40, 20, 20, 20]]
    assert [(one["image_id"], one["category_id"]) for one in found["annotations"]] == [(1, 1), (1, 0), (4, 1)]
    assert found["categories"] == [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
    assert found["info"]["description"] == "Boxes that a detector found"
    two, none, failed, _ = json.loads(tasks.read_text())
    (prediction,) = two["predictions"]
    assert [(one["value"]["rectanglelabels"], one["score"]) for one in prediction["result"]] == [
        (["dog"], pytest.approx(0.8)), (["cat"], 0.5),
    ]  # fmt: skip
    assert prediction["result"][0]["value"] | {"rotation": 0} == {
        "x": 25, "y": 25, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["dog"],
    }  # fmt: skip
    assert (none["predictions"][0]["result"], "predictions" in failed) == ([], False)
    assert "Choices" not in make_label_config(run)
    assert '<Label value="cat"/><Label value="dog"/>' in make_label_config(run)
    assert (write_coco(run, coco), write_label_studio(run, tasks)) == (3, 4)


def test_names_that_are_html_stay_text(tmp_path: Path) -> None:
    rows = [make_box_row(f"{HOSTILE}.png", [make_box([0, 0, 9, 9], name=HOSTILE)], label=HOSTILE)]
    report, content = write(write_run(tmp_path / "run", rows, class_names=None))
    assert find_injection(report.path.read_text("utf-8")) is None
    assert content["rows"][0]["boxes"][0]["class"] == content["classes"][0]["name"] == HOSTILE


def test_errors_name_no_folder(tmp_path: Path) -> None:
    rows = [
        make_row("a.png", error="/home/me/a.png cannot be read", uri="/home/me/a.png"),
        make_row("b", error="/data/x.tar#b is no picture; /data/x.tar ends", uri="/data/x.tar#b"),
    ]
    _, content = write(write_run(tmp_path / "run", rows))
    said = ["a.png cannot be read", "x.tar#b is no picture; x.tar ends"]
    assert [row["error"] for row in content["rows"]] == said
    good = [make_row(row["id"], sha256=row["sha256"]) for row in rows]
    report, content = write(write_run(tmp_path / "good", good), against=tmp_path / "run")
    assert [row["other"]["error"] for row in content["rows"]] == said
    assert "/home/me" not in report.path.read_text("utf-8")


def test_the_column_is_one_list_for_each_photo(rows: list[Row]) -> None:
    table = pyarrow.Table.from_pylist(rows, make_schema())
    assert table.to_pandas().explode("boxes")["id"].tolist() == [rows[n]["id"] for n in (0, 0, 1, 2, 3)]
