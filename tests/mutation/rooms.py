"""The modules that decide what a map is, each with the tests of its room."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Room:
    """Modules and the tests that must notice their faults.

    Attributes:
        modules: patterns of files.
        tests: files or folders of tests.
        always: tests that run for every mutant: they read tables and defaults, and execute no line that does.
    """

    modules: tuple[str, ...]
    tests: tuple[str, ...]
    always: tuple[str, ...] = ()

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
    "methods": Room(
        ("explainable_model/methods/*.py",),
        ("tests/methods",),
        (
            "tests/methods/test_table.py::test_the_defaults_are_those_of_the_papers_and_of_the_docs",
            "tests/methods/test_table.py::test_the_methods_that_give_every_class_the_same_map",
        ),
    ),
    "rules": Room(
        ("explainable_model/lowering/rules/*.py",),
        (
            "tests/lowering/rules",
            "tests/lowering/test_rows_of_a_user.py",
            "tests/networks/test_open_matrices.py",
            "tests/networks/test_sizes.py",
        ),
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
        statement: how the changed line of code begins.
    """

    where: str
    change: str
    reason: str
    statement: str = ""


GIVEN = "a rule is given every argument of its operator, with the schema's default where the graph has none"

EQUIVALENT = (
    Equivalent(
        "methods/eigen.py",
        "condition: if statically_known_true(positions < channels):",
        "both branches find the same axis, one of them faster",
    ),
    Equivalent(
        "methods/eigen.py",
        "arithmetic: (kernel * kernel).sum((1, 2), keepdim=True).sqrt() / 2",
        "a larger shift: the iteration comes closer to the axis in smaller steps, and still ends at rounding",
    ),
    Equivalent(
        "methods/attention_adapters.py",
        "constant: 0  ->  1",
        "every block attends to the same tokens, or the product of rollout would fail",
        "grid, prefix = _token_grid(context, attentions[0])",
    ),
    Equivalent(
        "eager/find_layer.py",
        "comparison: image.shape[0] > FEW_IMAGES",
        "a batch of two images is cut to its two images",
    ),
    Equivalent("imaging/sheets.py", "constant: 1  ->  2", "PNG keeps the same pixels in fewer bytes", "SAVE_OPTIONS"),
    Equivalent(
        "imaging/window.py",
        "constant: False  ->  True",
        "a copy of a copy: the strip was made by astype",
        "yield (start, np.nan_to_num",
    ),
    Equivalent("rules/cumulative.py", "constant: 1  ->  2", "only the sign is read", "FORWARDS"),
    Equivalent("rules/arithmetic.py", "constant: 1  ->  2", GIVEN, "def rsub("),
    Equivalent("rules/concat.py", "constant: 0  ->  1", GIVEN, "def slice_("),
    Equivalent(
        "verify/samples.py",
        "constant: True  ->  False",
        "an image has as many sizes as ranges of them",
        "ranges = enumerate(",
    ),
    Equivalent(
        "verify/parity.py",
        "comparison: off_cam > allowed",
        "a measured difference of maps that equals the bound to the last bit is chance",
    ),
)


def reason_of(where: str, change: str, statement: str) -> str | None:
    """Say why a mutant computes the same, or ``None``."""
    for row in EQUIVALENT:
        is_there = where.rsplit(":", 1)[0].endswith(row.where) and statement.startswith(row.statement)
        if is_there and change.startswith(row.change):
            return row.reason
    return None
