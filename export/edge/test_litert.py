"""The script for LiteRT, on an artifact of the tests: its converter has an environment of its own."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from explainable_model import load

ARTIFACT = Path(__file__).parents[2] / "tests" / "data" / "before.tflite"


def test_a_photo_gets_the_artifacts_answer(
    photos: list[Path], run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    pytest.importorskip("ai_edge_litert")
    from explainable_model.imaging.preprocess import open_photo

    session = load(ARTIFACT, threads=1)
    assert session.metadata.preprocess is not None
    done = run(".tflite", ARTIFACT, photos[0], "--class", 2, "--npy", tmp_path / "cam.npy")
    assert done.returncode == 0, done.stderr
    found, want = json.loads(done.stdout), session(session.metadata.preprocess(open_photo(photos[0])), [2])
    assert (found["class_idx"], found["class_name"]) == (2, "c")
    assert found["parity"]["within_tolerance"]
    assert np.abs(np.load(tmp_path / "cam.npy") - want.cam[0]).max() < 1e-6
