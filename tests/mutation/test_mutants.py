"""The maker of mutants: what it changes, and what it leaves alone."""

from pathlib import Path

import pytest

from tests.mutation.__main__ import ROOT
from tests.mutation.mutants import make_mutants
from tests.mutation.rooms import EQUIVALENT, ROOMS, Equivalent, reason_of

SOURCE = '''
"""A docstring with 3."""
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    LIMIT = 7

def share(x: int = 2) -> float:
    """Another."""
    if x < 0:
        raise ValueError(f"{x + 1} is wrong")
    return (x / 4.0).clamp_min(0)
'''


def test_each_mutant_has_one_fault() -> None:
    changes = {mutant.change for mutant in make_mutants(SOURCE)}
    assert changes == {
        "constant: 2  ->  3",
        "constant: 0  ->  1",
        "constant: 4.0  ->  8.0",
        "comparison: x < 0  ->  x <= 0",
        "condition: if x < 0:  ->  if not x < 0:",
        "arithmetic: x / 4.0  ->  x * 4.0",
        "call left out: (x / 4.0).clamp_min(0)  ->  x / 4.0",
    }
    for mutant in make_mutants(SOURCE):
        compile(mutant.source, "mutant", "exec")
    assert {mutant.line for mutant in make_mutants(SOURCE)} == {7, 9, 11}


def test_a_mutant_knows_what_it_changes_and_who_reads_it() -> None:
    source = (
        "LIMIT = 3\n\ndef cut(values, most=2):\n    if most > 1:\n        return values[:LIMIT]\n    return values\n"
    )
    rows = {mutant.change: (mutant.statement, mutant.lines) for mutant in make_mutants(source)}
    assert rows["constant: 3  ->  4"] == ("LIMIT = 3", (5,))
    assert rows["constant: 2  ->  3"] == ("def cut(values, most=2):", (4, 5, 6))
    assert rows["constant: 1  ->  2"] == ("if most > 1:", (4,))


@pytest.mark.parametrize("row", EQUIVALENT, ids=lambda row: f"{Path(row.where).stem}: {row.change}")
def test_every_equivalent_mutant_is_one(row: Equivalent) -> None:
    """A row that fits no mutant any more is out of date."""
    paths = {path for room in ROOMS.values() for path in room.module_files(ROOT) if str(path).endswith(row.where)}
    mutants = [mutant for path in paths for mutant in make_mutants(path.read_text())]
    assert any(reason_of(row.where, mutant.change, mutant.statement) == row.reason for mutant in mutants)


def test_rooms() -> None:
    assert all((ROOT / test.partition("::")[0]).is_file() for room in ROOMS.values() for test in room.always)
    assert reason_of("explainable_model/imaging/sheets.py:3", "constant: 1  ->  2", "MARGIN = 1") is None
