"""Serve the demo's artifacts with LitServe and check: python smoke.py efficientnet_lite0.onnx efficientnet_lite0.ts."""

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

sys.path.append(str(Path(__file__).parents[1] / "http"))

from harness import Running, announce_body, find_free_port, require, run_server, write_broken_artifacts
from roll import check_roll

from explainable_model.demo import demo_photos

SERVE = Path(__file__).with_name("serve.py")
NAME, KEY = "lite0", "a-key"
MAX_BODY = 20_000_000
IN_FLIGHT = 12  # more than a batch
LINE = {"time", "request_id", "method", "path", "status", "seconds"}


def ask(url: str, key: str | None, body: bytes | None = None) -> tuple[int, bytes]:
    """Send a GET, or a POST with a body; the status and body of the reply."""
    headers = {"Content-Type": "application/octet-stream", **({"X-API-Key": key} if key else {})}
    request = urllib.request.Request(url, body, headers)
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
    status, body = ask(path, KEY)
    require(status == 405 and b"does not answer GET; expected POST" in body, f"a GET gets {status}: {body!r}")
    status, body = ask(f"{url}/nothing", KEY)
    require(status == 404 and b"expected /predictions/" in body, f"another path gets {status}: {body!r}")
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


def check_pages(url: str) -> None:
    """Require the description, the counts, and a request's id in its reply."""
    for page in ("/docs", "/metrics"):
        require(ask(f"{url}{page}", None)[0] == 401, f"{page} is answered without a key")
    status, body = ask(f"{url}/docs", KEY)
    require(status == 200, f"/docs says {status}: {body!r}")
    paths = json.loads(body)["paths"]
    require(set(paths) > {f"/predictions/{NAME}", f"/explanations/{NAME}"}, f"/docs describes {list(paths)}")
    for given, kept in (("photo-17.a", True), ("no spaces", False), ("x" * 65, False)):
        request = urllib.request.Request(f"{url}/info", headers={"X-API-Key": KEY, "X-Request-Id": given})
        with urllib.request.urlopen(request, timeout=30) as reply:
            name = reply.headers["X-Request-Id"]
        require((name == given) == kept and len(name or "") >= 10, f"the request {given} is called {name}")


def check_records(log: str, url: str) -> None:
    """Require one line of JSON for each answered request, and that the counts agree with the lines."""
    counts = read_counts(url)
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    written = Counter(str(line["status"]) for line in lines if line["path"].startswith("/predictions/"))
    require(written == counts and written["200"] > 40, f"the log has {written}, the metrics {counts}")
    require(any(line["request_id"] == "photo-17.a" for line in lines), "the log lacks the id that was given")
    require(all(set(line) == LINE for line in lines), f"a line of the log has other fields: {lines[-1]}")


def read_counts(url: str) -> Counter[str]:
    """The predictions by status, as the metrics count them."""
    text = ask(f"{url}/metrics", KEY)[1].decode()
    found = re.findall(r'^explain_requests_total{route="predictions",status="(\d+)"} (\d+)$', text, re.MULTILINE)
    timed = re.search(
        r'^explain_request_duration_seconds_bucket{route="predictions",le="\+Inf"} (\d+)$', text, re.MULTILINE
    )
    counts = Counter({status: int(count) for status, count in found})
    require(timed and int(timed[1]) == counts.total(), f"the histogram counts otherwise:\n{text}")
    return counts


def check_slow_clients(clients: list[socket.socket]) -> None:
    """Require that the server has ended the connections, the last one with a 408."""
    replies = []
    for client in clients:
        with client:
            replies.append(b"".join(iter(lambda: client.recv(65_536), b"")))  # noqa: B023 (called at once)
    require(replies[:2] == [b"", b""] and b" 408 " in replies[2], f"slow clients get {replies}")


def check_crash(server: Running, _: str) -> None:
    """Require that a dead worker ends the server, so that its supervisor starts it again."""
    (worker,) = [member for member in server.list_members() if "spawn_main" in " ".join(member.cmdline())]
    os.kill(worker.pid, signal.SIGKILL)
    try:
        code = server.process.wait(timeout=90)
    except subprocess.TimeoutExpired:
        raise SystemExit("FAILED: the server goes on without its worker") from None
    require(code != 0, "a server whose worker died ends with 0")


def check_stop(server: Running, url: str) -> None:
    """Require that SIGTERM to the started process answers what has begun, ends all children, and is quiet."""
    photo = demo_photos()[0].read_bytes()
    with ThreadPoolExecutor(IN_FLIGHT) as clients:
        begun = [clients.submit(ask, f"{url}/predictions/{NAME}", KEY, photo) for _ in range(IN_FLIGHT)]
        server.wait_for(lambda: read_running(url) > IN_FLIGHT // 2, "the start of the last requests")
        server.process.terminate()
        statuses = [reply.result()[0] for reply in begun]
    require(statuses == [200] * IN_FLIGHT, f"requests in flight at the end get {statuses}")
    try:
        code = server.process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        raise SystemExit("FAILED: the server does not end when it is told to") from None
    require(code == 0, f"the server ends with {code} when it is told to end")
    require("Traceback" not in server.log, f"the end has a traceback:\n{server.log[-3000:]}")
    _, alive = psutil.wait_procs(server.list_members(), timeout=10)
    require(not alive, f"processes outlive the server: {alive}")


def read_running(url: str) -> int:
    """How many requests are being answered, this one not counted."""
    text = ask(f"{url}/metrics", KEY)[1].decode()
    return int(text.split("\nexplain_requests_running ")[1].split("\n")[0]) - 1


def check(artifact: Path, folder: Path, ending: Callable[[Running, str], None], *options: str) -> None:
    """Check one artifact, from the start of the server to its end."""
    port = find_free_port()
    url = f"http://127.0.0.1:{port}"
    folder.mkdir()
    command = [sys.executable, str(SERVE), str(artifact), "--name", NAME, "--port", str(port)]
    with run_server(command, folder, {"EXPLAIN_API_KEY": KEY}) as server:
        server.wait_for(lambda: ask(f"{url}/health", None)[0] == 200, "loading")
        slow = open_slow_clients(port)
        check_closed(server, url, port)
        check_pages(url)
        server.require_contract(url, NAME, f"X-API-Key: {KEY}", *options)
        check_slow_clients(slow)
        require("Traceback" not in server.log, f"the log has a traceback:\n{server.log[-3000:]}")
        check_records(server.log, url)
        ending(server, url)


def check_classifier(onnx: Path, torchscript: Path, work: Path) -> None:
    """Check the demo's artifacts in both formats."""
    check_refusals(write_broken_artifacts(torchscript, work))
    check(onnx, work / "onnx", check_crash)
    check(torchscript, work / "torchscript", check_stop, "--requests", "50")
    (work / "rolling").mkdir()
    check_roll(onnx, torchscript, demo_photos()[0].read_bytes(), work / "rolling")


def check_detector(artifact: Path, folder: Path) -> None:
    """Require that a detector's boxes and maps are sent as they are, by the contract."""
    port = find_free_port()
    url = f"http://127.0.0.1:{port}"
    folder.mkdir()
    command = [sys.executable, str(SERVE), str(artifact), "--name", NAME, "--port", str(port), "--threads", "1"]
    with run_server(command, folder, {"EXPLAIN_API_KEY": KEY}) as server:
        server.wait_for(lambda: ask(f"{url}/health", None)[0] == 200, "loading")
        server.require_contract(url, NAME, f"X-API-Key: {KEY}", "--requests", "10", artifact=artifact)
        require("Traceback" not in server.log, f"the log has a traceback:\n{server.log[-3000:]}")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("onnx", type=Path, nargs="?")
    parser.add_argument("torchscript", type=Path, nargs="?")
    parser.add_argument("--detector", type=Path, help="an artifact of a detector, as the demo of detectors writes it")
    arguments = parser.parse_args()
    if arguments.detector is None and arguments.torchscript is None:
        parser.error("name the demo's artifacts, ONNX and TorchScript, or --detector")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if arguments.detector is not None:
            check_detector(arguments.detector.resolve(), work / "detector")
        if arguments.torchscript is not None:
            check_classifier(arguments.onnx.resolve(), arguments.torchscript.resolve(), work)
    print("litserve: passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
