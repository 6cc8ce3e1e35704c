"""The import rule: a room imports only rooms to its left, nothing runs in a circle, kits take public names only."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import explainable_model

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "explainable_model"
# Rooms of one line may not import each other.
RULE = """
errors explanation spelling
progress
paths telemetry
writing
imaging
artifact networks
attribution
eager methods targets detection
lowering
model
verify
exporters
runtime
explainer
evaluation batch serving demo
report
cli
"""
LOWERING = """
graph shapes
output_ending
output_kind
eager_kind
rules
dynamic_shapes scripted
capture
size_ranges
passes sampling pixels
box_imaging
imaging
example_photos photo_model
backward
lowered
scriptable pipeline
open_dims
"""
# Rooms that hold names for users and records of artifacts, and no machinery.
PUBLIC_MODULES = (
    "artifact",
    "demo",
    "errors",
    "explainer",
    "explanation",
    "imaging",
    "networks",
    "serving",
    "targets",
    "writing",
)


def _floors(rule: str) -> dict[str, int]:
    lines = rule.strip().split("\n")
    return {name: floor for floor, line in enumerate(lines) for name in line.split()}


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _modules() -> dict[str, Path]:
    return {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def _imports(path: Path) -> Iterator[tuple[str, str]]:
    """Module and name of every import of ours, wherever in the file it stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE.name:
            yield from ((str(node.module), alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] == PACKAGE.name)


def _imported_modules(name: str, path: Path) -> set[str]:
    modules = _modules()
    found = {f"{module}.{item}" if f"{module}.{item}" in modules else module for module, item in _imports(path)}
    return found - {name}


def _room(module: str, depth: int) -> str:
    parts = module.split(".")
    return parts[depth] if len(parts) > depth else ""


@pytest.mark.parametrize("name", [name for name in _modules() if _room(name, 1) not in ("", "__main__")])
def test_a_room_imports_only_rooms_to_its_left(name: str) -> None:
    rooms, floors = _floors(RULE), _floors(LOWERING)
    room = _room(name, 1)
    assert room in rooms, f"{room} has no place in the import rule"
    for imported in _imported_modules(name, _modules()[name]):
        other = _room(imported, 1)
        if other != room:
            assert other == "" or rooms[other] < rooms[room], f"{name} imports {imported}"
        elif room == "lowering" and "" not in (_room(name, 2), _room(imported, 2)):
            inner, outer = _room(imported, 2), _room(name, 2)
            assert inner == outer or floors[inner] < floors[outer], f"{name} imports {imported}"


def test_no_circle() -> None:
    modules = _modules()
    graph = {name: _imported_modules(name, path) for name, path in modules.items() if name != PACKAGE.name}
    list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


@pytest.mark.parametrize("path", sorted((ROOT / "export").rglob("*.py")), ids=_name)
def test_kits_import_public_names_only(path: Path) -> None:
    for module, name in _imports(path):
        assert not name.startswith("_"), f"{name} of {module} is private"
        public = module.split(".")[1:2] in ([room] for room in PUBLIC_MODULES)
        assert public or (module == PACKAGE.name and name in ("", *PUBLIC_MODULES, *explainable_model.__all__)), (
            f"{path.name} imports {name} from {module}, which is not public"
        )


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").rglob("*.py")), ids=_name)
def test_benchmarks_import_no_private_name(path: Path) -> None:
    for module, name in _imports(path):
        private = [part for part in (*module.split("."), name) if part.startswith("_")]
        assert not private, f"{path.name} imports {module}.{name}"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            owner = ast.unparse(node.value)
            ours = owner in ("explainable", "lowered", "session", "self.explainable")
            assert not ours, f"{path.name}: {owner}.{node.attr} is private"
