"""The table of a data set's figures is that of its rows."""

import json
from typing import Any

from benchmarks.batch import to_markdown
from benchmarks.results import RESULTS


def read() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / "batch.json").read_text("utf-8"))
    return found


def test_the_committed_table_is_that_of_the_committed_rows() -> None:
    assert (RESULTS / "batch.md").read_text("utf-8") == to_markdown(read())


def test_each_row_is_compared_with_the_loop_of_as_many_processes() -> None:
    found = read()
    for rows in found["rows"].values():
        for row in rows:
            row["photos_per_cpu_second"] = row["photos"] / row["cpu_seconds"]
    twice = found["rows"]["plain loop, 2 processes"]
    for row in twice:
        row["photos_per_cpu_second"] *= 2
    before, after = to_markdown(read()).splitlines(), to_markdown(found).splitlines()
    changed = [line.split(",")[0] for line, other in zip(before, after, strict=True) if line != other]
    assert changed == ["| plain loop", "| batch", "| batch of maps at image size"]
