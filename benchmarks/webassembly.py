"""Measure ONNX artifacts in WebAssembly: onnxruntime-web in Node, as the web kit installs it, on one thread."""

import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.artifacts import Artifact, compare_answers
from benchmarks.isolation import Figures, MeasurementError
from benchmarks.timing import Effort, Sample, compare_samples

WEBASSEMBLY = "webassembly"
KIT = Path(__file__).parents[1] / "export" / "web"
NEEDS = "needs Node 20 and `npm --prefix export/web ci`"
PATIENCE = 1200  # seconds


def is_available() -> bool:
    """Whether Node and the kit's packages are installed."""
    return shutil.which("node") is not None and (KIT / "node_modules" / "onnxruntime-web").is_dir()


def measure_in_node(plain: Artifact, explained: Artifact, effort: Effort) -> Figures:
    """Time both ``.onnx`` files in turn in one new process: pairs at batch 1, start, and parity.

    Raises:
        MeasurementError: Node or its packages are missing, or Node failed.
    """
    if not is_available():
        raise MeasurementError(NEEDS)
    reference = np.load(plain.subject.folder(plain.scratch) / "reference.npz")
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        reference["image"].astype("<f4").tofile(images)
        asked = {
            "plain": str(plain.path),
            "explained": str(explained.path),
            "images": str(images),
            "shape": reference["image"].shape,
            "classes": [1] if plain.subject.top_k is None else [1, plain.subject.top_k],
            "effort": asdict(effort),
        }
        found = _run(["node", str(KIT / "bench.mjs"), json.dumps(asked)])
    pairs = [(Sample(*before), Sample(*after)) for before, after in found["pairs"]]
    answers = {
        which: {
            name: np.array([each[name] for each in outputs], np.float32).reshape(reference[name].shape)
            for name in ("logits", "cam")
            if name in outputs[0]
        }
        for which, outputs in found["answers"].items()
    }
    return {
        "version": found["version"],
        "batches": {"1": compare_samples(pairs)},
        "throughput": {},
        "start": found["start"],
        "parity": {which: compare_answers(answer, reference) for which, answer in answers.items()},
    }


def _run(command: list[str]) -> dict[str, Any]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired as error:
        raise MeasurementError(f"not done after {PATIENCE} s") from error
    if done.returncode:
        message = re.search(
            r"^\w*Error: .*", done.stderr, re.MULTILINE
        )  # the error follows the library's source, which is one long line
        raise MeasurementError(message[0] if message else f"node ended with code {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
