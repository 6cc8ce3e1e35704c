"""Small devices: the edge kit's script for ONNX Runtime, on this machine and in an emulator.

``EDGE_PYTHON`` may name the Python of an emulator, e.g. ``qemu-aarch64-static -L ROOT ROOT/usr/bin/python3``; with it
the answers are compared and nothing is timed.
"""

import json
import os
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import tables
from benchmarks.isolation import Figures, MeasurementError, run_isolated
from benchmarks.plain import PLAIN
from benchmarks.results import Row
from benchmarks.subjects import Subject
from benchmarks.suites.suite import Settings, Suite, Task
from benchmarks.timing import QUIET_THREADS

SCRIPT = Path(__file__).parents[2] / "export" / "edge" / "run_onnxruntime.py"
EDGE_MODELS = ("tf_efficientnet_lite0", "mobilenet_v3_large")
SECONDS = 5  # this machine does not grow warm; a device is measured for five minutes


def list_tasks(settings: Settings) -> list[Task]:
    """Each network on this machine and in the emulator."""
    pythons = {"host": [sys.executable]}
    if "EDGE_PYTHON" in os.environ:
        pythons["emulated"] = shlex.split(os.environ["EDGE_PYTHON"])
    return [
        Task(f"{where}/{model}", partial(_measure, Subject(model, size=settings.size), settings, where, python))
        for where, python in pythons.items()
        for model in settings.choose_models(EDGE_MODELS)
    ]


def write_bundle(subject: Subject, folder: Path) -> Path:
    """Write what the edge kit measures on a device: ``explained.onnx``, ``plain.onnx`` and ``photo.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    run_isolated(export_bundle, subject, folder)
    return folder


def export_bundle(subject: Subject, folder: Path) -> Figures:
    """Export both networks and write the photo; runs in a new process."""
    import torch
    from PIL import Image

    from explainable_model import Preprocess, export

    torch.set_num_threads(1)
    model, images = subject.build(), torch.from_numpy(subject.make_images(2))
    preprocess = Preprocess((subject.size, subject.size))
    export(subject.explainable(model), folder / "explained.onnx", images, preprocess=preprocess)
    PLAIN["onnx"].write(model, images, folder / "plain.onnx")
    noise = np.random.default_rng(7).integers(0, 256, (subject.size, subject.size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "photo.png")
    return {}


def _measure(subject: Subject, settings: Settings, where: str, python: list[str]) -> Row:
    bundle = write_bundle(subject, subject.folder(settings.scratch) / "bundle")
    figures = bundle / f"{where}.json"
    command = [*python, str(SCRIPT), str(bundle / "explained.onnx"), str(bundle / "photo.png")]
    command += ["--plain", str(bundle / "plain.onnx"), "--bench", str(figures), "--threads", str(settings.threads)]
    command += ["--seconds", str(0 if settings.quick else SECONDS), *(["--emulated"] if where == "emulated" else [])]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **QUIET_THREADS}, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise MeasurementError(lines[-1])
    return {"model": subject.model, **json.loads(figures.read_text())}


def to_markdown(rows: dict[str, Row]) -> str:
    """The ratio of the first minutes and of the last one; no time where the device is emulated."""
    head = ["machine", "network", "runtime", "ratio (95 % interval)", "last minute", "explained ms", "°C", "W", "map",
            "logits"]  # fmt: skip
    lines = []
    for row in tables.select_measured(rows).values():
        last, parity = (row["minutes"] or [None])[-1], row["parity"]
        times = ["emulated: no times", "", "", "", ""]
        if not row["emulated"]:
            sensors = [_write_number(last[name] if last else None) for name in ("celsius", "watts")]
            explained = (last or row)["explained"]
            times = [_write_ratio(row["ratio"]), _write_ratio(last["ratio"]) if last else "",
                     f"{explained['cpu_ms']:.3g}", *sensors]  # fmt: skip
        lines.append(
            [row["device"]["machine"], row["model"], row["runtime"]["name"], *times,
             tables.format_scientific(parity["cam"]), tables.format_scientific(parity["logits"])]
        )  # fmt: skip
    return tables.make_table(head, lines) + tables.list_failed(rows)


def _write_ratio(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})"


def _write_number(value: float | None) -> str:
    return "null" if value is None else f"{value:.3g}"


SUITE = Suite("What does it cost on a small device, and does it answer the same there?", list_tasks, to_markdown)
