"""Runs tests against a mutated module, in a forked process."""

import importlib
import importlib.abc
import importlib.util
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.mutation.rooms import Room

HEAVY = (
    "torch",
    "torch.export",
    "torch.onnx",
    "torchvision",
    "numpy",
    "PIL.Image",
    "onnx",
    "onnxruntime",
    "matplotlib",
)
SECONDS = 120  # an endless mutant is noticed
MOST_TESTS = 60  # of one mutant, the shortest ones
OPTIONS = ("-x", "-q", "-n0", "-p", "no:cacheprovider", "-m", "not slow", "--no-header", "--no-summary")


@dataclass(frozen=True)
class Baseline:
    """What the tests of a room execute.

    Attributes:
        seconds: of each test.
        by_line: the tests that execute a line, by file and line.
    """

    seconds: dict[str, float]
    by_line: dict[tuple[str, int], set[str]]

    def choose_tests(self, path: Path, line: int) -> list[str]:
        """List the tests that execute a line, the shortest first; all tests for a line that runs at import."""
        tests = self.by_line.get((str(path), line)) or set(self.seconds)
        return sorted(tests, key=lambda test: self.seconds.get(test, 0.0))[:MOST_TESTS]


def preload() -> None:
    """Import what every process needs, once, before the processes are forked."""
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in HEAVY:
        with suppress(ImportError):
            importlib.import_module(name)


class _Recorder:
    """Tells coverage which test runs, and how long each takes."""

    def __init__(self, coverage: Any) -> None:
        self.coverage = coverage
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        self.coverage.switch_context(item.nodeid)
        started = time.perf_counter()
        result = yield
        self.seconds[item.nodeid] = time.perf_counter() - started
        self.coverage.switch_context("")
        return result


def measure_baseline(root: Path, room: Room) -> Baseline:
    """Run the tests of a room once without a mutant, and record what each executes.

    Raises:
        RuntimeError: a test fails without a mutant.
    """
    with tempfile.TemporaryDirectory() as folder:
        data_file = Path(folder) / "coverage"
        seconds_file = Path(folder) / "seconds"

        def run() -> int:
            import coverage

            measured = coverage.Coverage(data_file=str(data_file), source=[str(root / "explainable_model")])
            measured.start()
            recorder = _Recorder(measured)
            code = pytest.main([*OPTIONS, *room.tests], plugins=[recorder])
            measured.stop()
            measured.save()
            seconds_file.write_text("\n".join(f"{value}\t{name}" for name, value in recorder.seconds.items()))
            return int(code)

        code = _fork(root, run, seconds=3600)
        if code != 0:
            raise RuntimeError(f"The tests of {room.tests} fail without a mutant: pytest ended with {code}.")
        pairs = (line.split("\t", 1) for line in seconds_file.read_text().splitlines())
        return Baseline({name: float(value) for value, name in pairs}, _read_lines(data_file))


def _read_lines(data_file: Path) -> dict[tuple[str, int], set[str]]:
    from coverage import CoverageData

    data = CoverageData(basename=str(data_file))
    data.read()
    return {
        (file, line): {test for test in tests if test}
        for file in data.measured_files()
        for line, tests in data.contexts_by_lineno(file).items()
    }


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.SourceLoader):  # type: ignore[misc]
    """Imports one module from another source."""

    def __init__(self, module: str, source: str, path: Path) -> None:
        self.module, self.source, self.path = module, source, path

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != self.module:
            return None
        package = [str(self.path.parent)] if self.path.name == "__init__.py" else None
        return importlib.util.spec_from_file_location(name, self.path, loader=self, submodule_search_locations=package)

    def get_data(self, path: str | bytes) -> bytes:
        return self.source.encode()

    def get_filename(self, name: str) -> str:
        return str(self.path)

    def path_stats(self, path: str) -> Any:
        raise OSError("never from the cache")


def run_mutant(root: Path, module: str, source: str, tests: Sequence[str]) -> bool:
    """Whether one of the tests fails against the mutated module."""
    plain = root.joinpath(*module.split("."))
    path = plain / "__init__.py" if plain.is_dir() else plain.with_suffix(".py")

    def run() -> int:
        sys.meta_path.insert(0, _Mutated(module, source, path))
        return int(pytest.main([*OPTIONS, *tests]))

    return _fork(root, run, SECONDS) != 0


def _fork(root: Path, run: Any, seconds: float) -> int:
    """Run a function in a process of its own, without its output; its exit code, or -1 where it was ended."""
    process = os.fork()
    if process == 0:
        code = 99
        try:
            os.setsid()
            os.chdir(root)
            silent = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silent, 1)
            os.dup2(silent, 2)
            code = run()
        finally:
            os._exit(code)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return -1
