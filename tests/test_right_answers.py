"""The table of right answers names tests that exist, and every row has a kind, an answer and a test."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROW = re.compile(r"^\| (?P<kind>[^|]+) \| (?P<answer>[^|]+) \| `(?P<file>[\w./]+\.py)::(?P<test>\w+)` \|$")
HEADER = ("| kind | right answer | test |", "|---|---|---|")
LINES = [line for line in (TESTS / "right_answers.md").read_text().splitlines() if line.startswith("|")]
ROWS = [line for line in LINES if line not in HEADER]


@pytest.mark.parametrize("line", ROWS)
def test_the_test_of_a_row_exists(line: str) -> None:
    row = ROW.match(line)
    assert row is not None, "expected | kind | right answer | `file.py::test` |"
    source = ast.parse((TESTS / row["file"]).read_text())
    assert row["test"] in {node.name for node in source.body if isinstance(node, ast.FunctionDef)}


def test_no_kind_stands_twice() -> None:
    kinds = [row["kind"] for row in map(ROW.match, ROWS) if row is not None]
    assert len(kinds) == len(set(kinds)) > 40
