"""The artifacts that ``make.py`` writes, and the scripts in a Python that has neither torch nor this project."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

KIT = Path(__file__).parent
MADE = {".onnx": "run_onnxruntime.py", ".xml": "run_openvino.py", ".pte": "run_executorch.py"}
SCRIPTS = {**MADE, ".tflite": "run_litert.py"}  # LiteRT's converter has an environment of its own


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifacts that ``make.py`` writes. ExecuTorch is needed: pip install 'explainable-model[executorch]'."""
    made = tmp_path_factory.mktemp("edge")
    environment = {**os.environ, "PYTHONPATH": str(KIT.parent.parent)}  # this copy, also where another is installed
    command = [sys.executable, "-W", "ignore", KIT / "make.py", made, *MADE]
    subprocess.run(command, check=True, env=environment)
    return made


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``run(suffix, *arguments)``: the script of that format. torch can be imported for ExecuTorch alone."""

    def call(suffix: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        absent = tmp_path / f"absent{suffix}"
        absent.mkdir(exist_ok=True)
        for name in ("explainable_model", "onnx", "matplotlib", *(["torch"] if suffix != ".pte" else [])):
            (absent / f"{name}.py").write_text(f"raise ImportError('{name} is not installed')\n")
        command = [sys.executable, KIT / SCRIPTS[suffix], *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(absent)}
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)

    return call
