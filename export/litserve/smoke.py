"""Serve the demo's artifacts with LitServe and check: python smoke.py efficientnet_lite0.onnx efficientnet_lite0.ts."""

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

sys.path.append(str(Path(__file__).parents[1] / "http"))

from harness import Running, announce_body, find_free_port, require, run_server, write_broken_artifacts

SERVE = Path(__file__).with_name("serve.py")
NAME, KEY = "lite0", "a-key"
MAX_BODY = 20_000_000


def ask(url: str, key: str | None, body: bytes | None = None) -> tuple[int, bytes]:
    """Send a GET, or a POST with a body; the status and body of the reply."""
    request = urllib.request.Request(url, body, {"X-API-Key": key} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def check_refusals(broken: Mapping[str, Path]) -> None:
    """Require that the server refuses to start with a broken artifact, and says why in one line."""
    for message, path in broken.items():
        done = subprocess.run([sys.executable, str(SERVE), str(path)], capture_output=True, text=True, check=False)
        require(done.returncode == 1 and message in done.stderr, f"serve.py says of {path.name}: {done.stderr}")
        require("Traceback" not in done.stderr, f"serve.py says of {path.name}: {done.stderr}")


def check_closed(server: Running, url: str, port: int) -> None:
    """Require that the server is on loopback, asks for the key, and bounds the size of bodies."""
    server.require_loopback([port])
    path = f"{url}/predictions/{NAME}"
    for key in (None, "another"):
        status, body = ask(path, key, b"...")
        require(status == 401 and b'"code": 401' in body, f"with the key {key} a prediction gets {status}: {body!r}")
    require(ask(f"{url}/info", None)[0] == 401, "the server's description is answered without a key")
    for length in ("-5", "abc", "9" * 5000):
        status, _ = announce_body(port, f"/predictions/{NAME}", {"X-API-Key": KEY}, length)
        require(status in (400, 413), f"a Content-Length of {length[:5]} gets {status}")
    status, body = announce_body(port, f"/predictions/{NAME}", {"X-API-Key": KEY}, MAX_BODY + 1)
    require(status == 413 and b'"code": 413' in body, f"a body that is too large gets {status}: {body!r}")


def open_slow_clients(port: int) -> list[socket.socket]:
    """Connect clients that send nothing, half of their headers, and half of their body."""
    whole = f"POST /predictions/{NAME} HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\nContent-Length: 100\r\n\r\nabc"
    clients = []
    for sent in ("", whole[:30], whole):
        clients.append(socket.create_connection(("127.0.0.1", port), timeout=60))
        clients[-1].sendall(sent.encode())
    return clients


def check_slow_clients(clients: list[socket.socket]) -> None:
    """Require that the server has ended the connections, the last one with a 408."""
    replies = []
    for client in clients:
        with client:
            replies.append(b"".join(iter(lambda: client.recv(65_536), b"")))  # noqa: B023 (called at once)
    require(replies[:2] == [b"", b""] and b" 408 " in replies[2], f"slow clients get {replies}")


def check_crash(server: Running) -> None:
    """Require that a dead worker ends the server, so that its supervisor starts it again."""
    (worker,) = [member for member in server.list_members() if "spawn_main" in " ".join(member.cmdline())]
    os.kill(worker.pid, signal.SIGKILL)
    try:
        code = server.process.wait(timeout=90)
    except subprocess.TimeoutExpired:
        raise SystemExit("FAILED: the server goes on without its worker") from None
    require(code != 0, "a server whose worker died ends with 0")


def check_stop(server: Running) -> None:
    """Require that SIGTERM to the started process ends all of its children."""
    server.process.terminate()
    try:
        server.process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        raise SystemExit("FAILED: the server does not end when it is told to") from None
    _, alive = psutil.wait_procs(server.list_members(), timeout=10)
    require(not alive, f"processes outlive the server: {alive}")


def check(artifact: Path, folder: Path, ending: Callable[[Running], None], *options: str) -> None:
    """Check one artifact, from the start of the server to its end."""
    port = find_free_port()
    url = f"http://127.0.0.1:{port}"
    folder.mkdir()
    command = [sys.executable, str(SERVE), str(artifact), "--name", NAME, "--port", str(port)]
    with run_server(command, folder, {"EXPLAIN_API_KEY": KEY}) as server:
        server.wait_for(lambda: ask(f"{url}/health", None)[0] == 200, "loading")
        slow = open_slow_clients(port)
        check_closed(server, url, port)
        server.require_contract(url, NAME, f"X-API-Key: {KEY}", *options)
        check_slow_clients(slow)
        require("Traceback" not in server.log, f"the log has a traceback:\n{server.log[-3000:]}")
        ending(server)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("onnx", type=Path)
    parser.add_argument("torchscript", type=Path)
    arguments = parser.parse_args()
    onnx, torchscript = arguments.onnx.resolve(), arguments.torchscript.resolve()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        check_refusals(write_broken_artifacts(torchscript, work))
        check(onnx, work / "onnx", check_crash)
        check(torchscript, work / "torchscript", check_stop, "--requests", "50")
    print("litserve: passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
