"""Measure every suite, or some of them. A row with a result is not measured again, so an interrupted run goes on."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from benchmarks.isolation import MeasurementError
from benchmarks.results import RESULTS, Results
from benchmarks.subjects import MODELS
from benchmarks.suites import SUITES, Settings, Suite, find_suite
from benchmarks.verdict import judge

SCRATCH = Path("build/benchmarks")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the rows that the results lack, one JSON per suite."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks run", description=__doc__)
    parser.add_argument(
        "--suite", action="append", choices=list(SUITES), help="only this suite; may be repeated; default: all"
    )
    parser.add_argument("--models", nargs="+", choices=list(MODELS), help="default: the suite's own choice")
    parser.add_argument("--runtimes", nargs="+", metavar="NAME", help="eager, keys of FORMATS or webassembly")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="default: 1")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="the device of the GPU suite")
    parser.add_argument("--only", metavar="TEXT", help="only rows with this text in their key")
    parser.add_argument(
        "--quick", action="store_true", help="one pair each on the smallest network, to see that all runs"
    )
    parser.add_argument("--again", action="store_true", help="measure rows that have a result, too")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--scratch", type=Path, default=SCRATCH, metavar="DIR", help="artifacts; default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    given = parser.parse_args(argv)
    settings = Settings(given.models, given.runtimes, 1, given.device, given.quick, given.scratch.absolute())
    failures, rows = 0, {}
    for name in given.suite or list(SUITES):
        results, suite = Results(given.out, name), find_suite(name)
        for threads in given.threads:
            failures += _run(name, suite, replace(settings, threads=threads), results, given.only, given.again)
        rows[name] = results.rows
    if given.json:
        print(json.dumps(rows, indent=1))
    return 1 if failures else 0


def _run(name: str, suite: Suite, settings: Settings, results: Results, only: str | None, again: bool) -> int:
    """Measure a suite's missing rows and return how many could not be measured."""
    every = suite.list_tasks(settings)
    order = [task.key for task in every]
    wanted = [task for task in every if (only is None or only in task.key) and (again or not results.has(task.key))]
    failures = 0
    with tqdm(wanted, desc=name, unit="row", disable=None) as progress:
        for task in progress:
            progress.set_postfix_str(task.key)
            try:
                row = judge(task.measure())
            except MeasurementError as error:
                row = {"failed": str(error)}
                failures += 1
                tqdm.write(f"{name} {task.key}: {error}", file=sys.stderr)
            else:
                failures += "failed" in row
            results.put(task.key, row, order)
    return failures


def bundle(argv: Sequence[str] | None = None) -> int:
    """Write explained.onnx, plain.onnx and photo.png, which export/edge/run_onnxruntime.py measures on a device."""
    from benchmarks.subjects import Subject
    from benchmarks.suites.edge import EDGE_MODELS, write_bundle

    parser = argparse.ArgumentParser(prog="python -m benchmarks bundle", description=bundle.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", choices=list(MODELS), default=EDGE_MODELS[0], help="default: %(default)s")
    given = parser.parse_args(argv)
    print(write_bundle(Subject(given.model), given.folder))
    return 0
