"""The modules that decide what a map is, each with the tests of its room."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Room:
    """Modules and the tests that must notice their faults.

    Attributes:
        modules: patterns of files.
        tests: files or folders of tests.
    """

    modules: tuple[str, ...]
    tests: tuple[str, ...]

    def module_files(self, root: Path) -> list[Path]:
        """List the modules, sorted."""
        return sorted({path for pattern in self.modules for path in root.glob(pattern)})

    def test_files(self, root: Path) -> list[Path]:
        """List the files of tests, sorted."""
        found: set[Path] = set()
        for name in self.tests:
            path = root / name
            found |= {path} if path.is_file() else set(path.rglob("test_*.py"))
        return sorted(found)


ROOMS = {
    "methods": Room(("explainable_model/methods/*.py",), ("tests/methods",)),
    "rules": Room(
        ("explainable_model/lowering/rules/*.py",), ("tests/lowering/rules", "tests/networks/test_open_matrices.py")
    ),
    "postprocess": Room(
        ("explainable_model/attribution/postprocess.py",),
        ("tests/attribution/test_postprocess.py", "tests/test_map_options.py"),
    ),
    "preprocess": Room(
        ("explainable_model/imaging/preprocess.py", "explainable_model/imaging/window.py"), ("tests/imaging",)
    ),
    "overlay": Room(
        ("explainable_model/imaging/overlay.py", "explainable_model/imaging/sheets.py"), ("tests/imaging",)
    ),
    "layers": Room(("explainable_model/eager/find_layer.py",), ("tests/eager",)),
    "targets": Room(("explainable_model/attribution/targets.py",), ("tests/attribution",)),
    "scoring": Room(("explainable_model/attribution/scores.py",), ("tests/attribution",)),
    "verify": Room(("explainable_model/verify/*.py",), ("tests/verify", "tests/exporters/test_precision.py")),
}


@dataclass(frozen=True)
class Equivalent:
    """A mutant that computes the same, looked at by a person.

    Attributes:
        where: the end of the module's path.
        change: the change, as it is printed.
        reason: why no call can tell the difference.
    """

    where: str
    change: str
    reason: str


EQUIVALENT = (
    Equivalent(
        "methods/eigen.py",
        "condition: if statically_known_true(positions < channels):",
        "both branches find the same axis, one of them faster",
    ),
)


def reason_of(where: str, change: str) -> str | None:
    """Say why a mutant computes the same, or ``None``."""
    for row in EQUIVALENT:
        if where.rsplit(":", 1)[0].endswith(row.where) and change.startswith(row.change):
            return row.reason
    return None
