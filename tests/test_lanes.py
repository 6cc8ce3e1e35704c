"""The fast lane leaves out what ``tests/slow.toml`` lists, and covers every room and every row of every table."""

import inspect
from pathlib import Path
from typing import Any

import pytest

from explainable_model import FORMATS, targets
from explainable_model.lowering.rules import LOWERINGS
from explainable_model.methods import METHODS
from explainable_model.methods.fusion import FUSIONS
from tests import conftest
from tests.attribution.test_targets import CASES as TARGET_CASES
from tests.attribution.test_targets import Scored
from tests.support.lanes import Lanes, Pattern, Row

PACKAGE = Path(__file__).parents[1] / "explainable_model"
# Rooms whose tests lie in the folder or the file of another one.
ELSEWHERE = {
    "artifact": "tests/exporters/",
    "errors": "tests/test_model.py",
    "explanation": "tests/test_model.py",
    "exporters/guard": "tests/attacks/",
    "networks/onnx": "tests/networks/test_onnx",
    "networks/onnx/operators": "tests/networks/test_onnx_operators.py",
    "telemetry": "tests/exporters/test_telemetry.py",
    "lowering/backward": "tests/lowering/test_lowering.py",
    "output_kind": "tests/lowering/test_output_kind.py",
    "targets": "tests/attribution/test_targets.py",
}
TARGETS = {name for name in targets.__all__ if inspect.isclass(getattr(targets, name)) and name != "Target"}


LANES = Lanes.read()
FOLDERS = ("attribution", "exporters", "lowering", "methods")


def rooms() -> list[str]:
    """Folders and single modules of the package, as ``lowering/rules`` or ``model``."""
    folders = [path.parent for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE]
    modules = [path for path in PACKAGE.glob("*.py") if not path.stem.startswith("_")]
    return sorted(path.relative_to(PACKAGE).with_suffix("").as_posix() for path in (*folders, *modules))


def prefixes(room: str) -> tuple[str, ...]:
    """How the node ids of the room's tests begin."""
    folder, _, name = room.rpartition("/")
    beside = f"tests/{folder}/test_{name}.py" if folder else f"tests/test_{name}.py"
    return (ELSEWHERE[room],) if room in ELSEWHERE else (f"tests/{room}/", beside)


@pytest.fixture
def fast(collected: list[pytest.Item]) -> list[pytest.Item]:
    return [item for item in collected if not item.get_closest_marker("slow")]


def parameters(items: list[pytest.Item]) -> list[Any]:
    return [value for item in items if hasattr(item, "callspec") for value in item.callspec.params.values()]


def test_every_pattern_of_the_table_matches_a_test(collected: list[pytest.Item]) -> None:
    assert LANES.unused([item.nodeid for item in collected]) == []


def test_every_room_has_a_fast_test(fast: list[pytest.Item]) -> None:
    without = [room for room in rooms() if not any(item.nodeid.startswith(prefixes(room)) for item in fast)]
    assert without == [], "a room without a fast test: keep its quickest with `but` in tests/slow.toml"


def _names(value: Any) -> set[str]:
    """What a parameter stands for: a text, the operator of an example, a format, a function."""
    if isinstance(value, str):
        return {value}
    return {str(getattr(value, "op", "")), getattr(value, "name", ""), getattr(value, "__name__", "")}


def _target(asked: Scored) -> Any:
    return asked.options.get("target", targets.ClassScore())


def _not_run(rows: dict[str, set[str]], items: list[pytest.Item]) -> list[str]:
    """Rows of a table that no test has as its parameter."""
    given = set().union(*map(_names, parameters(items)))
    return [row for row, names in rows.items() if not names & given]


def test_every_row_of_every_table_is_the_parameter_of_a_fast_test(fast: list[pytest.Item]) -> None:
    rooms_of = {folder: [item for item in fast if item.nodeid.startswith(f"tests/{folder}/")] for folder in FOLDERS}
    methods = {name: {name} for name in METHODS}
    operators = {str(op): {str(op)} for op in LOWERINGS}
    fusions = {name: {name, fusion.fuse.__name__} for name, fusion in FUSIONS.items()}
    asked = {
        name: {key for key, row in TARGET_CASES.items() if type(_target(row)).__name__ == name} for name in TARGETS
    }
    assert _not_run(methods, rooms_of["methods"]) == []
    assert _not_run(operators, rooms_of["lowering"]) == []
    assert _not_run({name: {name} for name in FORMATS}, rooms_of["exporters"]) == []
    assert _not_run(fusions, rooms_of["methods"]) == []
    assert _not_run(asked, rooms_of["attribution"]) == []


def test_a_pattern_names_a_file_a_function_or_one_test() -> None:
    node = "tests/a/test_b.py::test_c[x-y]"
    for text in ("tests/a/test_b.py", "tests/a/test_b.py::test_c", node, "tests/*::test_c[x-*]", "tests/a/*"):
        assert Pattern(text).matches(node)
    for text in ("tests/a/test_b", "tests/a/test_b.py::test", "tests/a/test_b.py::test_c[x]", "test_c[x-y]"):
        assert not Pattern(text).matches(node)


def test_an_exception_stays_in_the_fast_lane_and_an_unused_pattern_is_found() -> None:
    row = Row("full width", (Pattern("f.py::test_a"),), (Pattern("f.py::test_a[small]"), Pattern("f.py::test_b")))
    lanes = Lanes((row,), ("needs a GPU",))
    assert lanes.is_slow("f.py::test_a[large]")
    assert not lanes.is_slow("f.py::test_a[small]")
    assert lanes.unused(["f.py::test_a[large]", "f.py::test_a[small]"]) == ["f.py::test_b"]
    assert lanes.accepts_skip("Skipped: needs a GPU")
    assert not lanes.accepts_skip("could not import 'openvino'")


@pytest.mark.parametrize(
    ("ci", "message", "outcome"),
    [
        ("", "could not import 'openvino'", "skipped"),
        ("true", "could not import 'openvino'", "failed"),
        ("true", LANES.skips[0], "skipped"),
    ],
)
def test_ci_fails_where_a_runtime_is_missing(
    ci: str, message: str, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    longrepr = ("test_x.py", 1, f"Skipped: {message}")
    report = pytest.TestReport("test_x.py::test", ("test_x.py", 1, "test"), {}, "skipped", longrepr, "setup")
    assert conftest.without_silent_skip(report).outcome == outcome
