"""A server for minutes: good, broken, slow and half-closed clients, a killed worker, and its memory.

Needs the extra ``litserve``. The server listens on 127.0.0.1; the clients are bounded in number and time.
"""

import contextlib
import http.client
import io
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from tests.siege.artifacts import make_artifact
from tests.siege.cells import wait_until
from tests.siege.mutate import damaged

ROOT = Path(__file__).parents[2]
SERVE = ROOT / "export" / "litserve" / "serve.py"
KEY = "siege"
NAME = "siege"
CLIENTS = 3
BROKEN = 0.02  # share of the requests
PHOTOS = 6
SLOPE_MIB = 2.0  # growth per minute that is still noise: allocators keep what they had at the peak


@dataclass
class Log:
    """What the clients saw.

    Attributes:
        answers: how often each kind of request got each status.
        harm: descriptions of wrong answers.
        lock: guards both.
    """

    answers: Counter[str] = field(default_factory=Counter)
    harm: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, problem: str | None = None) -> None:
        """Count one request."""
        with self.lock:
            self.answers[kind] += 1
            if problem is not None:
                self.harm.append(f"{kind}: {problem}")


def run(folder: Path, seconds: float, seed: int = 0) -> dict[str, Any]:
    """Send requests for some seconds; then end the server's worker, start the server again, and compare answers."""
    artifact = make_artifact(folder / f"{NAME}.onnx")
    photos = [make_photo(number) for number in range(PHOTOS)]
    log = Log()
    with _serve(artifact) as (port, process):
        expected = [_ask(port, photo) for photo in photos]
        memory = _Memory(process)
        clients = [
            threading.Thread(target=_attack, args=(port, photos, expected, log, seconds, f"{seed}:{n}"))
            for n in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        while any(client.is_alive() for client in clients):
            memory.sample()
            time.sleep(1)
        slope = memory.slope_per_minute()
        if slope is not None and slope > SLOPE_MIB:
            log.harm.append(f"memory grows by {slope:.2f} MiB a minute")
    with _serve(artifact) as (port, _):
        again = [_ask(port, photo) for photo in photos]
        if again != expected:
            log.harm.append("another answer after a restart")
    return {
        "seconds": seconds,
        "outcomes": dict(sorted(log.answers.items())),
        "memory_mib": memory.ends(),
        "slope_mib_per_minute": slope,
        "harm": log.harm[:20],
    }


def make_photo(number: int) -> bytes:
    """A photo of noise as JPEG or PNG."""
    levels = np.random.default_rng(number).integers(0, 256, (60 + 7 * number, 80, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(levels).save(stream, format="JPEG" if number % 2 else "PNG")
    return stream.getvalue()


@contextlib.contextmanager
def _serve(artifact: Path) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "EXPLAIN_API_KEY": KEY, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SERVE), str(artifact), "--port", str(port), "--name", NAME, "--threads", "1"]
    with open(artifact.parent / "server.log", "ab") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        try:
            if not wait_until(lambda: _answers(port), 120):
                raise RuntimeError(f"The server does not start: {(artifact.parent / 'server.log').read_text()[-600:]}")
            yield port, process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def _answers(port: int) -> bool:
    try:
        return _send(port, make_photo(0))[0] == 200
    except OSError:
        return False


def _send(port: int, body: bytes, headers: dict[str, str] | None = None, path: str | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", path or f"/predictions/{NAME}", body, {"X-API-Key": KEY, **(headers or {})})
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def _ask(port: int, photo: bytes) -> bytes:
    """The answer to a photo: JSON of the prediction and the map as a picture."""
    status, body = _send(port, photo)
    picture, drawn = _send(port, photo, {"Accept": "image/png"}, f"/explanations/{NAME}")
    if (status, picture) != (200, 200):
        raise RuntimeError(f"The server answers a good photo with {status} and {picture}: {body[:200]!r}")
    return body + drawn


def _attack(port: int, photos: list[bytes], expected: list[bytes], log: Log, seconds: float, seed: str) -> None:
    dice, deadline = random.Random(seed), time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if dice.random() < BROKEN:
                kind = dice.choice(list(BROKEN_CLIENTS))
                log.add(kind, BROKEN_CLIENTS[kind](port, photos, dice))
            else:
                number = dice.randrange(len(photos))
                log.add("good", None if _ask(port, photos[number]) == expected[number] else "another answer")
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            log.add("lost", f"{type(error).__name__}: {error}")


def _refused(status: int) -> str | None:
    return None if 400 <= status < 500 else f"status {status}"


def _send_damaged(port: int, photos: list[bytes], dice: random.Random) -> str | None:
    ((_, data),) = damaged(dice.choice(photos), 1, dice.randrange(1 << 30))
    status, _ = _send(port, data)
    return None if status == 200 else _refused(status)


def _send_nonsense(port: int, photos: list[bytes], dice: random.Random) -> str | None:
    json = {"Content-Type": "application/json"}
    body, headers = dice.choice(
        [
            (b"[" * 100_000, json),
            (b'{"image": 3}', json),
            (b'{"image": "AAAA", "class": "+-5"}', json),
            (b"", {}),
            (b"text", {"Content-Type": "multipart/form-data; boundary=x"}),
            (photos[0], {"X-API-Key": "another"}),
            (b'{"image": "AAAA", "top": ' + b"9" * 5000 + b"}", json),
        ]
    )
    return _refused(_send(port, body, headers)[0])


def _close_early(port: int, photos: list[bytes], dice: random.Random) -> str | None:
    head = (
        f"POST /predictions/{NAME} HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\nContent-Length: {len(photos[0])}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(head.encode() + photos[0][: dice.randrange(len(photos[0]))])
    return None


def _close_half(port: int, photos: list[bytes], dice: random.Random) -> str | None:
    head = (
        f"POST /predictions/{NAME} HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\nContent-Length: {len(photos[0])}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(head.encode() + photos[0])
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            connection.recv(100)
    return None


def _send_slowly(port: int, photos: list[bytes], dice: random.Random) -> str | None:
    head = (
        f"POST /predictions/{NAME} HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\nContent-Length: {len(photos[0])}\r\n\r\n"
    )
    data = head.encode() + photos[0]
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        for start in range(0, len(data), max(len(data) // 10, 1)):
            connection.sendall(data[start : start + max(len(data) // 10, 1)])
            time.sleep(0.1)
        status = connection.recv(100)
    return None if b" 200 " in status else f"slow client gets {status[:40]!r}"


BROKEN_CLIENTS = {
    "damaged": _send_damaged,
    "nonsense": _send_nonsense,
    "closed early": _close_early,
    "half closed": _close_half,
    "slow": _send_slowly,
}


class _Memory:
    """Resident memory of a process and its children over time."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = psutil.Process(process.pid)
        self.samples: list[tuple[float, float]] = []

    def sample(self) -> None:
        members = [self.process, *self.process.children(recursive=True)]
        total = 0
        for member in members:
            with contextlib.suppress(psutil.Error):
                total += member.memory_info().rss
        self.samples.append((time.monotonic(), total / (1 << 20)))

    def slope_per_minute(self) -> float | None:
        """Slope of the second half, by least squares; ``None`` for less than a minute."""
        half = self.samples[len(self.samples) // 2 :]
        if len(half) < 30:
            return None
        times, values = (np.array(column) for column in zip(*half, strict=True))
        return round(float(np.polyfit((times - times[0]) / 60, values, 1)[0]), 3)

    def ends(self) -> list[float]:
        """Memory at the start, in the middle, and at the end."""
        values = [value for _, value in self.samples]
        return [round(values[n], 1) for n in (0, len(values) // 2, -1)] if values else []
