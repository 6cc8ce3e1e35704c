"""Small devices: one file that runs anywhere with onnxruntime, here on this machine or emulated.

``EDGE_PYTHON`` may name the Python of an emulator, e.g. ``qemu-aarch64-static -L ROOT ROOT/usr/bin/python3``; what it
prints is marked as emulated and has no times.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

from benchmarks import edge_device, tables
from benchmarks.artifacts import Artifact, ensure_artifacts
from benchmarks.isolation import MeasurementError
from benchmarks.results import Row
from benchmarks.subjects import Subject
from benchmarks.suites.suite import Settings, Suite, Task
from benchmarks.timing import QUIET_THREADS

EDGE_MODELS = ("tf_efficientnet_lite0", "mobilenet_v3_large")
MINUTES = 5 / 60  # on this machine, which does not grow warm; a device runs for five minutes


def tasks(settings: Settings) -> list[Task]:
    """Each network here and in the emulator."""
    models = settings.chosen(EDGE_MODELS)
    found = [
        Task(f"host/{model}", partial(_measure, Subject(model, size=settings.size), settings, None)) for model in models
    ]
    emulator = os.environ.get("EDGE_PYTHON")
    if emulator:
        found += [
            Task(f"emulated/{m}", partial(_measure, Subject(m, size=settings.size), settings, emulator)) for m in models
        ]
    return found


def write_bundle(subject: Subject, folder: Path, scratch: Path) -> Path:
    """What a device needs beside ``edge_device.py``."""
    ensure_artifacts(subject, ["onnx"], scratch)
    folder.mkdir(parents=True, exist_ok=True)
    for name, explained in (("plain", False), ("explained", True)):
        shutil.copyfile(Artifact(subject, "onnx", explained, scratch).path, folder / f"{name}.onnx")
    shutil.copyfile(subject.folder(scratch) / "reference.npz", folder / "reference.npz")
    return folder


def _measure(subject: Subject, settings: Settings, emulator: str | None) -> Row:
    bundle = write_bundle(subject, subject.folder(settings.scratch) / "bundle", settings.scratch)
    python = [sys.executable] if emulator is None else shlex.split(emulator)
    mode = ["--emulated"] if emulator else ["--minutes", str(0.001 if settings.quick else MINUTES)]
    command = [*python, edge_device.__file__, str(bundle), "--threads", str(settings.threads), *mode]
    return {"model": subject.model, "runtime": "onnxruntime", **_json_of(command)}


def _json_of(command: list[str]) -> Row:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **QUIET_THREADS}, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise MeasurementError(said[-1])
    figures: Row = json.loads(done.stdout)
    return figures


def markdown(rows: dict[str, Row]) -> str:
    """The first minute beside the last; nothing of a clock where the device is emulated."""
    head = [
        "machine",
        "network",
        "runtime",
        "ratio, first minute",
        "last minute",
        "explained ms",
        "°C",
        "W",
        "map",
        "logits",
    ]
    lines = []
    for row in tables.measured(rows).values():
        minutes, parity = row["minutes"] or [], row["parity"]
        timed = ["emulated: no times", "", "", "", ""]
        if minutes:
            first, last = minutes[0], minutes[-1]
            ratios = [f"{each['ratio']['p50']:.3f}" for each in (first, last)]
            timed = [ratios[0], ratios[1] if len(minutes) > 1 else "", f"{last['explained']['cpu_ms']['p50']:.3g}",
                     _or_null(last["celsius"]), _or_null(last["watts"])]  # fmt: skip
        lines.append(
            [row["machine"], row["model"], row["runtime"], *timed, tables.scientific(parity["cam"]),
             tables.scientific(parity["logits"])]
        )  # fmt: skip
    return tables.table(head, lines) + tables.failed(rows)


def _or_null(value: float | None) -> str:
    return "null" if value is None else f"{value:.3g}"


SUITE = Suite("What does it cost on a small device, and does it answer the same there?", tasks, markdown)
