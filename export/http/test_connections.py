"""Demo, export, load, explanation and LitServe open no connection and look up no host, as strace sees it."""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import find_connections, find_free_port, run_server, trace

ROOT = Path(__file__).parents[2]
SERVE = ROOT / "export" / "litserve" / "serve.py"
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "0"}  # nothing that would forbid a connection is set


@pytest.fixture
def connect(tmp_path: Path, need: Callable[..., None]) -> Callable[..., tuple[int, list[str]]]:
    """``connect(*arguments)`` runs Python; its exit code, and the calls that leave the machine."""
    need("strace")

    def run(*arguments: object) -> tuple[int, list[str]]:
        calls = tmp_path / "calls"
        command = trace([sys.executable, *map(str, arguments)], calls)
        assert command[0] == "strace"
        done = subprocess.run(command, env={**os.environ, **ENVIRONMENT}, cwd=tmp_path, capture_output=True, text=True)
        return done.returncode, find_connections(calls)

    return run


@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.getaddrinfo('example.invalid', 80)",
        "import socket; socket.socket().connect(('192.0.2.1', 9))",
        "import socket; socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b'x', ('2001:db8::1', 9))",
        "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.53', 53))",
    ],
)
def test_a_connection_is_seen(connect: Callable[..., tuple[int, list[str]]], code: str) -> None:
    _, calls = connect("-c", f"import socket; socket.setdefaulttimeout(0.2)\ntry: exec({code!r})\nexcept OSError: pass")
    assert calls


def test_loopback_is_no_connection(connect: Callable[..., tuple[int, list[str]]]) -> None:
    code = "import socket; s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname())"
    assert connect("-c", code) == (0, [])


def test_the_demo(connect: Callable[..., tuple[int, list[str]]], tmp_path: Path) -> None:
    """It exports, loads, explains photos and draws them."""
    assert connect("-m", "explainable_model", "demo", "--out", tmp_path / "out") == (0, [])
    assert (tmp_path / "out" / "contact-sheet.png").stat().st_size > 10_000


@pytest.mark.parametrize("suffix", [".onnx", ".ts"])
def test_an_artifact(
    connect: Callable[..., tuple[int, list[str]]],
    artifact: Callable[[str, str], Path],
    photos: list[Path],
    suffix: str,
    tmp_path: Path,
) -> None:
    path = artifact({".onnx": "onnxruntime", ".ts": "libtorch"}[suffix], suffix)
    out = tmp_path / "explained"
    assert connect("-m", "explainable_model", "explain", photos[0], "--artifact", path, "--out", out) == (0, [])


def test_litserve(artifact: Callable[[str, str], Path], photos: list[Path], tmp_path: Path) -> None:
    """TorchServe and the rest of LitServe: their smoke tests run under strace, too."""
    pytest.importorskip("litserve")
    port = find_free_port()
    command = [sys.executable, str(SERVE), str(artifact("onnxruntime", ".onnx")), "--port", str(port), "--name", "net"]
    url, headers = f"http://127.0.0.1:{port}", {"X-API-Key": "key", "Content-Type": "image/png"}
    with run_server(command, tmp_path, {**ENVIRONMENT, "EXPLAIN_API_KEY": "key"}) as server:
        server.wait_for(lambda: urllib.request.urlopen(f"{url}/health", timeout=5).status == 200, "loading")
        request = urllib.request.Request(f"{url}/predictions/net", photos[0].read_bytes(), headers)
        assert b"Egyptian cat" in urllib.request.urlopen(request, timeout=60).read()
