"""What ``python -m benchmarks engines`` says of rows that are missing, doubled, out of order or not the same."""

from pathlib import Path

import pytest

from benchmarks.batch_photos import draw_crops, name_photo, write_labels
from benchmarks.engines import compare, describe_rows
from tests.support.run_folders import blob, make_row, write_run

NAMES = ["a.jpg", "b.jpg", "c.jpg"]


@pytest.mark.parametrize(
    ("names", "once", "in_order"),
    [
        (NAMES, True, True),
        (["a.jpg", "c.jpg", "b.jpg"], True, False),
        (NAMES[:2], False, False),
        ([*NAMES, "c.jpg"], False, False),
    ],
)
def test_each_photo_once_in_order(names: list[str], once: bool, in_order: bool, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [make_row(name, blob(3, 3)) for name in names])
    found = describe_rows(run, NAMES)
    assert (found["rows"], found["distinct"]) == (len(names), len(set(names)))
    assert (found["each_photo_once"], found["in_order"], found["errors"]) == (once, in_order, 0)


def test_rows_are_compared_without_their_time(tmp_path: Path) -> None:
    def write(name: str, **changes: object) -> Path:
        return write_run(tmp_path / name, [make_row("a.jpg", blob(3, 3), **changes)])

    first = write("first")
    assert compare([first, write("slower", milliseconds=9.0)]) == {"equal": True}
    assert compare([first, write("other", peak_x=9.0)]) == {"equal": False}


def test_labels_are_those_of_the_photos(tmp_path: Path) -> None:
    lines = write_labels(tmp_path / "labels.csv", 20).read_text().splitlines()
    subjects = [crop.subject for crop in draw_crops(20)]
    assert [crop.subject for crop in draw_crops(5)] == subjects[:5]
    assert len(lines) == 1 + sum(subject in ("chelsea", "coffee", "rocket") for subject in subjects)
    assert f"{name_photo(subjects.index('coffee'))},espresso" in lines
