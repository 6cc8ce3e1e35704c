"""A session of OpenVINO leaves the process as it was: its signals are handled, and its children run."""

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
if (child := os.fork()) == 0:  # as a server that loads its code before its processes
    signal.alarm(60)
    os._exit(0 if np.array_equal(load(sys.argv[1])(image).cam, answers[0]) else 1)
assert os.waitpid(child, 0)[1] == 0
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
    assert done.stdout.splitlines() == ["a child has ended"] * 3
