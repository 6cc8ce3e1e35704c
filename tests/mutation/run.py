"""Runs tests against a mutated module, in a forked process."""

import hashlib
import importlib
import importlib.abc
import importlib.util
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
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
    "coverage",
)
SECONDS = 120  # an endless mutant is noticed
MOST_SECONDS = 45.0  # the tests of one mutant, by the time that they took under coverage
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

    def choose_tests(self, path: Path, lines: Iterable[int]) -> list[str]:
        """List the tests that execute one of the lines, the shortest first, until their time is spent.

        Lines that run at import alone, as those of a table do, concern every test that executes the module.
        """
        tests = set().union(*(self.by_line.get((str(path), line), ()) for line in lines))
        if not tests:
            tests = set().union(*(names for (file, _), names in self.by_line.items() if file == str(path)))
        chosen: list[str] = []
        left = MOST_SECONDS
        for test in sorted(tests or self.seconds, key=lambda test: (self.seconds.get(test, 0.0), test)):
            left -= self.seconds.get(test, 0.0)
            if chosen and left < 0:
                break
            chosen.append(test)
        return chosen


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
        started = time.process_time()  # whatever else the machine does
        result = yield
        self.seconds[item.nodeid] = time.process_time() - started
        self.coverage.switch_context("")
        return result


def measure_baseline(root: Path, room: Room, cache: Path) -> Baseline:
    """Run the tests of a room once without a mutant, and record what each executes.

    Args:
        root: of the repository.
        room: whose tests are run.
        cache: folder of what was recorded earlier; a file of tests runs again after it or a module of the room changed.

    Raises:
        RuntimeError: a test fails without a mutant.
    """
    cache.mkdir(parents=True, exist_ok=True)
    seconds: dict[str, float] = {}
    by_line: dict[tuple[str, int], set[str]] = {}
    for file in room.test_files(root):
        texts = [path.read_bytes() for path in (file, *room.module_files(root))]
        kept = cache / f"{file.stem}-{hashlib.sha256(b'|'.join(texts)).hexdigest()[:16]}.json"
        if not kept.is_file():
            kept.write_text(json.dumps(_measure(root, room, file)))
        record = json.loads(kept.read_text())
        seconds.update(record["seconds"])
        for path, lines in record["lines"].items():
            for line, tests in lines.items():
                by_line.setdefault((str(root / path), int(line)), set()).update(tests)
    return Baseline(seconds, by_line)


def _measure(root: Path, room: Room, file: Path) -> dict[str, Any]:
    """What the tests of one file execute of the modules of a room, in a form for JSON."""
    with tempfile.TemporaryDirectory() as folder:
        data_file, seconds_file = Path(folder) / "coverage", Path(folder) / "seconds"

        def run() -> int:
            import coverage

            modules = [str(path) for path in room.module_files(root)]
            measured = coverage.Coverage(data_file=str(data_file), include=modules)
            measured.start()
            recorder = _Recorder(measured)
            code = pytest.main([*OPTIONS, str(file.relative_to(root))], plugins=[recorder])
            measured.stop()
            measured.save()
            seconds_file.write_text(json.dumps(recorder.seconds))
            return int(code)

        code = _fork(root, run, seconds=3600)
        if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            raise RuntimeError(f"The tests of {file} fail without a mutant: pytest ended with {code}.")
        return {"seconds": json.loads(seconds_file.read_text()), "lines": _read_lines(root, data_file)}


def _read_lines(root: Path, data_file: Path) -> dict[str, dict[int, list[str]]]:
    from coverage import CoverageData

    data = CoverageData(basename=str(data_file))
    data.read()
    found: dict[str, dict[int, list[str]]] = {}
    for file in data.measured_files():
        lines = {line: [test for test in tests if test] for line, tests in data.contexts_by_lineno(file).items()}
        found[str(Path(file).relative_to(root))] = {line: tests for line, tests in lines.items() if tests}
    return found


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


def _fork(root: Path, run: Callable[[], int], seconds: float) -> int:
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
