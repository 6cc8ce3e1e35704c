"""The modules that decide what a map is, each with the tests of its room."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Room:
    """Modules and the tests that must notice their faults.

    Attributes:
        modules: patterns of files.
        tests: files or folders of tests.
    """

    modules: tuple[str, ...]
    tests: tuple[str, ...]


ROOMS = {
    "methods": Room(("explainable_model/methods/*.py",), ("tests/methods",)),
    "rules": Room(("explainable_model/lowering/rules/*.py",), ("tests/lowering/rules",)),
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
    "targets": Room(
        ("explainable_model/attribution/targets.py", "explainable_model/attribution/scores.py"), ("tests/attribution",)
    ),
    "verify": Room(("explainable_model/verify/*.py",), ("tests/verify", "tests/exporters/test_precision.py")),
}

EQUIVALENT: tuple[str, ...] = (
    "if statically_known_true(positions < channels):",  # both branches find the same axis, one of them faster
)
"""Parts of the descriptions of mutants that compute the same, each looked at by a person."""
