"""OpenVINO's ``Core`` stays: a session that another thread lets go must not end the process at its next signal."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from explainable_model import ExplainableModel, export
from tests.support.nets import SmallNet, images, seeded

CODE = """
import faulthandler, os, signal, sys, threading
import numpy as np
from explainable_model import load

faulthandler.enable()  # as pytest and many servers: signals are handled on a stack of their own
signal.signal(signal.SIGCHLD, lambda *signal: print("a child has ended", flush=True))
image = np.load(sys.argv[2])
held = [load(sys.argv[1]) for _ in range(2)]
answers = [session(image).cam for session in held]
last = threading.Thread(target=held.clear)
last.start()
last.join()
os.kill(os.getpid(), signal.SIGCHLD)
again = load(sys.argv[1])(image).cam
assert all(np.array_equal(answer, again) for answer in answers)
os.kill(os.getpid(), signal.SIGCHLD)
"""


def test_a_session_that_another_thread_lets_go(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    path = export(ExplainableModel(seeded(SmallNet()), "block"), tmp_path / "net.xml", images(1))
    np.save(tmp_path / "image.npy", images(2).numpy())
    command = [sys.executable, "-c", CODE, str(path), str(tmp_path / "image.npy")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert done.stdout.splitlines() == ["a child has ended"] * 2
