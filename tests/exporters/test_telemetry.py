"""Nothing that the library does opens a connection or looks up a host, and the telemetry of the runtimes is off."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from explainable_model.telemetry import ONNXRUNTIME_SWITCH, import_onnxruntime

CODE = """
import os, sys

FORBIDDEN = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.sendto")

def refuse(event, arguments):
    if event in FORBIDDEN:
        print(event, arguments, file=sys.stderr, flush=True)
        os._exit(9)

sys.addaudithook(refuse)
if sys.argv[2] == "control":
    import socket
    socket.getaddrinfo("example.invalid", 80)

import numpy as np
import torch
from explainable_model import ExplainableModel, Preprocess, export, load
from tests.support.cli_nets import PREPROCESS, named

image = torch.rand(1, 3, *PREPROCESS.size)
explainable = ExplainableModel(named().model)
for suffix in (".ts", ".onnx", ".xml"):
    path = export(explainable, f"{sys.argv[1]}/net{suffix}", image, preprocess=PREPROCESS)
    assert np.isfinite(load(path)(image).cam).all()
assert os.environ["ORT_DISABLE_TELEMETRY"] == sys.argv[2]
import openvino.tools.ovc.telemetry_utils
assert openvino.tools.ovc.telemetry_utils.tm.__name__.endswith("telemetry_stub")
assert "openvino_telemetry" not in sys.modules
"""


def run(folder: Path, argument: str) -> subprocess.CompletedProcess[str]:
    """Run the code above in a process of its own, in which any use of the network ends with 9."""
    known = {name: value for name, value in os.environ.items() if name != ONNXRUNTIME_SWITCH}
    command = [sys.executable, "-c", CODE, str(folder), argument]
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(command, env={**known, "PYTHONPATH": path}, capture_output=True, text=True, check=False)


def test_the_hook_notices_a_lookup(tmp_path: Path) -> None:
    assert run(tmp_path, "control").returncode == 9


def test_export_and_load_open_no_connection(tmp_path: Path) -> None:
    done = run(tmp_path, "1")
    assert done.returncode == 0, done.stderr


def test_the_user_s_switch_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ONNXRUNTIME_SWITCH, "0")
    import_onnxruntime()
    assert os.environ[ONNXRUNTIME_SWITCH] == "0"
