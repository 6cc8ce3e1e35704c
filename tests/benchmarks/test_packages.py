"""The table of packages: its rule calls right what is right, and the hand-written networks need no package."""

from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor, nn

from benchmarks.packages import command
from benchmarks.packages.case import Case, list_cases
from benchmarks.packages.row import Row, measure
from benchmarks.packages.verdict import MISSING, REFUSED, RIGHT, WRONG, judge
from tests.support.nets import SmallNet, seeded

CASE = Case("tests:SmallNet", lambda: seeded(SmallNet()), "block", (8, 8), shape=(3, 32, 32))
QUICK = [case for case in list_cases() if case.key.startswith("hand-written:")]


@pytest.fixture(scope="module")
def row() -> Row:
    return measure(CASE)


def test_a_right_row(row: Row) -> None:
    assert judge(CASE, row) == (RIGHT, "")
    assert (row["layer"], row["reading"], row["grid"], row["located"]) == ("block", "grid", [8, 8], [4, 4])
    assert row["reference"] < 1e-12
    assert row["kind"] == "logits"
    assert set(row["formats"]) == {"torchscript", "pt2", "onnx"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"layer": "stem"}, "layer 'stem', expected 'block'"),
        ({"grid": [4, 16]}, "grid (4, 16), expected (8, 8)"),
        ({"located": [1, 4]}, "in 1 of 4 corners"),
        ({"kind": "softmax"}, "output read as softmax, expected logits"),
        ({"map": 0.0}, "zero everywhere"),
        ({"reference": 1e-3}, "reference differs by 1.0e-03"),
        ({"lowered": float("nan")}, "lowered differs"),
        ({"formats": {"onnx": {"median": 0.1}}}, "onnx differs by 1.0e-01"),
        ({"stage": "eager", "error": "RuntimeError: no"}, "RuntimeError: no"),
    ],
)
def test_wrong_rows(row: Row, changes: Row, reason: str) -> None:
    verdict, why = judge(CASE, {**row, **changes})
    assert verdict == WRONG
    assert reason in why


def test_a_refusal_needs_its_words(row: Row) -> None:
    case = replace(CASE, refused="boxes")
    error = {"network": "tests", "stage": "eager", "error": "ModelError: boxes", "ours": True}
    assert judge(case, error)[0] == REFUSED
    assert judge(case, {**error, "error": "ModelError: other"})[0] == WRONG
    assert judge(case, {**error, "ours": False})[0] == WRONG
    assert judge(case, row)[0] == WRONG
    assert judge(case, {"stage": "build", "error": "ModuleNotFoundError"})[0] == MISSING


class Transposed(nn.Module):
    """The layer's map is the image's, turned: no reading of its shape shows that."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.fc = nn.Conv2d(3, 6, 3, 2, 1), nn.Linear(6, 4)

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(self.body(image.mT).relu().mean((2, 3)))


def test_a_map_in_the_wrong_place_is_noticed() -> None:
    case = Case("tests:turned", lambda: seeded(Transposed()), "body", (16, 16), shape=(3, 32, 32))
    assert "corners" in judge(case, measure(case, quick=True))[1]


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.key)
def test_hand_written_networks(case: Case) -> None:
    verdict, reason = judge(case, measure(case, quick=True))
    assert verdict in (RIGHT, REFUSED), reason


def test_rows_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def measure_isolated(case: Case, quick: bool) -> Row:
        measured.append(case.key)
        return {"network": case.key, "stage": "eager", "error": "ModelError: threshold=0.5", "ours": True}

    monkeypatch.setattr(command, "_measure_isolated", measure_isolated)
    for expected in (1, 0):
        measured.clear()
        assert command.main(["--family", "threshold forgotten", "--out", str(tmp_path)]) == 0
        assert len(measured) == expected
    assert "| hand-written:u-net with a sigmoid, threshold forgotten |" in (tmp_path / "packages.md").read_text()
    assert len({case.key for case in list_cases()}) == len(list_cases()) > 200
