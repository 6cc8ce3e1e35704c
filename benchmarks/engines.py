"""``python -m benchmarks engines``: a data set through both engines, in each with a killed process and a killed driver.

Then the report of the rows is written and opened in Chromium. Needs the extra ``ray``; the opening needs Chromium, Node
and the packages of the web kit (``npm ci`` in ``export/web``).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.batch_contestants import write_artifacts
from benchmarks.batch_photos import make_photos, write_labels
from benchmarks.isolation import Figures, run_isolated
from benchmarks.results import RESULTS
from benchmarks.timing import describe_environment

SCRATCH = Path("build/benchmarks/batch")
ENGINES = {"local": "explainable_model.batch.worker", "ray": "MapWorker"}  # and what its processes are called
PROCESSES, PARTS = 2, 50
FIRST_KILL, SECOND_KILL = 0.1, 0.4  # shares of the parts after which a process and the driver are killed
PATIENCE = 3600
TIMED = "milliseconds"
EAGER = {"RAY_worker_niceness": "0"}  # else Ray's processes give way to every other one of the machine
BROWSER = Path("tests/report/browser/measure.mjs")


def main(argv: Sequence[str] | None = None) -> int:
    """Run both engines and write ``results/engines.json``; 1 where a row is missing, doubled or not the same."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks engines", description=__doc__)
    parser.add_argument("--photos", type=int, default=5000, metavar="N", help="default: %(default)s")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES), help="default: all")
    parser.add_argument("--note", default="", help="what else ran on the machine")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--scratch", type=Path, default=SCRATCH, metavar="DIR", help="default: %(default)s")
    arguments = parser.parse_args(sys.argv[2:] if argv is None else argv)
    scratch = arguments.scratch.absolute()
    photos = make_photos(scratch / f"photos-{arguments.photos}", arguments.photos)
    artifact = run_isolated(write_artifacts, scratch)["paths"][1]
    labels = write_labels(scratch / "labels.csv", arguments.photos)
    siege = Siege(artifact, photos, _cut_off(photos, scratch), labels)
    found: dict[str, Any] = {"environment": describe_environment(), "note": arguments.note, "runs": {}}
    for engine in arguments.engines:
        found["runs"][engine] = run_isolated(siege.run, engine, scratch / f"run-{engine}", timeout=2 * PATIENCE)
        print(f"{engine}: {found['runs'][engine]}", file=sys.stderr, flush=True)
    runs = [scratch / f"run-{engine}" for engine in arguments.engines]
    found["rows_are_equal"] = run_isolated(compare, runs)["equal"]
    found["report"] = run_isolated(write_page, runs[0], scratch / "report.html")
    found["report"]["opened"] = open_page(scratch / "report.html")
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "engines.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    held = found["rows_are_equal"] and all(run["each_photo_once"] and run["in_order"] for run in found["runs"].values())
    return 0 if held else 1


def _cut_off(photos: Path, scratch: Path) -> Path:
    """A photo that is truncated: one row must say so."""
    whole = next(iter(sorted(photos.iterdir()))).read_bytes()
    path = scratch / "truncated" / "truncated.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(whole[: len(whole) // 3])
    return path


@dataclass(frozen=True)
class Siege:
    """The command that is killed: the artifact, a folder of photos, one that is truncated, and the labels."""

    artifact: Path
    photos: Path
    truncated: Path
    labels: Path

    def run(self, engine: str, out: Path) -> Figures:
        """Start the command, kill a process of it, kill the driver, run it again, and look at the rows."""
        import psutil

        expected = [str(path) for path in sorted(self.photos.iterdir())] + [str(self.truncated)]
        part = max(1, len(expected) // PARTS)
        command = self._command(engine, out, part)
        shutil.rmtree(out, ignore_errors=True)
        started = time.perf_counter()
        driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | EAGER)
        _wait_for(lambda: count_parts(out) >= FIRST_KILL * PARTS)
        killed = next(_find_processes(driver.pid, ENGINES[engine]))
        killed.kill()
        first = count_parts(out)
        _wait_for(lambda: count_parts(out) >= SECOND_KILL * PARTS)
        family = psutil.Process(driver.pid).children(recursive=True)
        driver.kill()
        driver.wait()
        psutil.wait_procs(family, 60)
        second = count_parts(out)
        between = time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ | EAGER)
        record = json.loads(done.stdout)
        return {
            "photos": len(expected),
            "photos_of_a_part": part,
            "processes": PROCESSES,
            "parts_at_the_first_kill": first,
            "parts_at_the_second_kill": second,
            "processes_that_outlived_the_driver": sum(process.is_running() for process in family),
            "seconds_until_the_second_kill": between - started,
            "seconds_of_the_second_command": time.perf_counter() - between,
            "explained_by_the_second_command": record["explained"],
            "exit_code": done.returncode,
            **describe_rows(out, expected),
        }

    def _command(self, engine: str, out: Path, part: int) -> list[str]:
        words: list[object] = ["batch", self.artifact, self.photos, self.truncated, "-o", out, "--labels", self.labels]
        words += ["--engine", engine, "--processes", PROCESSES, "--threads", 1, "--part", part, "--json"]
        return [sys.executable, "-m", "explainable_model", *map(str, words)]


def describe_rows(out: Path, expected: list[str]) -> Figures:
    """Count the rows of a run, and compare their ids with those that are expected, in their order."""
    from explainable_model.batch import open_run

    table = open_run(out).read_table(["id", "error", "version"])
    ids = table.column("id").to_pylist()
    return {
        "rows": len(ids),
        "distinct": len(set(ids)),
        "each_photo_once": sorted(ids) == sorted(expected),
        "in_order": ids == expected,
        "errors": len(ids) - table.column("error").null_count,
        "bytes_per_row": sum(path.stat().st_size for path in (out / "rows").iterdir()) / len(ids),
    }


def count_parts(out: Path) -> int:
    """How many parts of a run are written."""
    return len(list((out / "rows").glob("part-*.parquet")))


def _wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"The run did not get further in {PATIENCE} s.")
        time.sleep(0.02)


def _find_processes(driver: int, name: str) -> Iterator[Any]:
    import psutil

    for process in psutil.Process(driver).children(recursive=True):
        try:
            if name in " ".join(process.cmdline()):
                yield process
        except psutil.Error:
            continue


def compare(runs: Sequence[Path]) -> Figures:
    """Whether all runs have the same rows, but for the time that each took."""
    from explainable_model.batch import open_run

    first, *others = [open_run(run).read_table().drop_columns([TIMED]) for run in runs]
    return {"equal": all(first.equals(other) for other in others)}


def write_page(run: Path, page: Path) -> Figures:
    """Write the report of a run."""
    import resource

    from explainable_model.report import write_report

    started, cpu = time.perf_counter(), time.process_time()
    report = write_report(run, page)
    return {
        "photos": report.photos,
        "shown": report.shown,
        "bytes": report.size,
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "alarms": len(report.alarms),
    }


def open_page(page: Path) -> Figures | None:
    """Open the report in Chromium; ``None`` without Node or without the packages of the web kit."""
    root = Path(__file__).parents[1]
    if shutil.which("node") is None or not (root / "export/web/node_modules/playwright-core").exists():
        return None
    done = subprocess.run(
        ["node", root / BROWSER, page], stdout=subprocess.PIPE, text=True, check=True, env=dict(os.environ)
    )
    opened: Figures = json.loads(done.stdout)
    return opened
