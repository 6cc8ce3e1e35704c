"""The table of suites; each answers one question."""

from collections.abc import Mapping
from importlib import import_module

from benchmarks.suites.suite import Settings, Suite, Task

__all__ = ["SUITES", "Settings", "Suite", "Task", "find_suite"]

SUITES: Mapping[str, str] = {
    name: f"benchmarks.suites.{name}"
    for name in (*("runtimes", "peers", "methods", "measures"), *("scaling", "photos", "edge", "gpu"))
}
"""Name and module of each suite, in running order. Each is imported when it is used, since it needs other packages."""


def find_suite(name: str) -> Suite:
    """The suite of that name."""
    suite: Suite = import_module(SUITES[name]).SUITE
    return suite
