"""Who is told how far a computation is."""

import sys
from typing import Any

import pytest

from explainable_model.progress import Bars, as_progress


def test_true_is_a_bar_on_the_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    tell = as_progress(True)
    assert tell is not None
    for step, total in (("copies", 4), ("photos", -1), ("copies", 2)):
        for done in range(1, 3):
            tell(step, done, total)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "copies" in printed.err
    assert "photos" in printed.err


def test_lines_where_tqdm_is_missing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    bars = Bars()
    for done in range(1, 41):
        bars("copies", done, 40)
    bars("photos", 1, -1)
    bars.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [*(f"copies {done} of 40 ..." for done in range(4, 41, 4)), "photos 1 ..."]


def test_functions_and_nothing() -> None:
    told: list[Any] = []
    three, two = (
        as_progress(lambda step, done, total: told.append(step)),
        as_progress(lambda done, total: told.append(done)),
    )
    assert three is not None
    assert two is not None
    three("copies", 1, 2)
    two("copies", 1, 2)
    assert told == ["copies", 1]
    assert as_progress(None) is None
    assert as_progress(False) is None
    with pytest.raises(TypeError, match="progress is 3; expected True, or a function"):
        as_progress(3)  # type: ignore[arg-type]
