"""Clients of the siege's server: most are good, a few are broken, slow or half-closed, and one stalls for minutes."""

import contextlib
import http.client
import io
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from tests.siege.mutate import damaged

KEY = NAME = "siege"
PHOTOS = 6
BROKEN = 0.02  # share of the requests
RATE = 5.0  # requests a second of one client: a long siege leaves the machine to others
PATIENCE = 45.0  # seconds after which the server has given up a client that stalls

Client = Callable[[int, "Photos", random.Random], str | None]


@dataclass
class Log:
    """What the clients saw.

    Attributes:
        answers: how often each kind of request was made.
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


@dataclass(frozen=True)
class Photos:
    """Photos, and the bytes that the server answers to each: JSON of the prediction, and the map as a picture."""

    sent: list[bytes]
    answers: list[bytes]


def make_photos() -> list[bytes]:
    """Photos of noise as JPEG and PNG, of different heights."""
    return [_make_photo(number) for number in range(PHOTOS)]


def _make_photo(number: int) -> bytes:
    levels = np.random.default_rng(number).integers(0, 256, (60 + 7 * number, 80, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(levels).save(stream, format="JPEG" if number % 2 else "PNG")
    return stream.getvalue()


def send(port: int, body: bytes, headers: dict[str, str] | None = None, path: str | None = None) -> tuple[int, bytes]:
    """Post a body; the status and the body of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", path or f"/predictions/{NAME}", body, {"X-API-Key": KEY, **(headers or {})})
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def ask(port: int, photo: bytes) -> bytes:
    """Both answers to a photo."""
    status, body = send(port, photo)
    picture, drawn = send(port, photo, {"Accept": "image/png"}, f"/explanations/{NAME}")
    if (status, picture) != (200, 200):
        raise RuntimeError(f"The server answers a good photo with {status} and {picture}: {body[:200]!r}")
    return body + drawn


def attack(port: int, photos: Photos, log: Log, seconds: float, seed: str) -> None:
    """Send good requests and a few broken ones, ``RATE`` a second at most."""
    dice, deadline = random.Random(seed), time.monotonic() + seconds
    while (began := time.monotonic()) < deadline:
        try:
            if dice.random() < BROKEN:
                kind = dice.choice(list(BROKEN_CLIENTS))
                log.add(kind, BROKEN_CLIENTS[kind](port, photos, dice))
            else:
                number = dice.randrange(PHOTOS)
                right = ask(port, photos.sent[number]) == photos.answers[number]
                log.add("good", None if right else "another answer")
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            log.add("lost", f"{type(error).__name__}: {error}")
        time.sleep(max(began + 1 / RATE - time.monotonic(), 0))


def stall(port: int, photos: Photos, log: Log, seconds: float) -> None:
    """Hold one connection after another in the middle of its headers or of its body, until the server ends it."""
    deadline, body = time.monotonic() + seconds, False
    while time.monotonic() < deadline:
        body = not body
        data = _head(photos.sent[0]) + photos.sent[0]
        try:
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
                connection.sendall(data[: len(data) // 2 if body else 40])
                reply = b"".join(iter(lambda: connection.recv(65_536), b""))
        except OSError as error:
            log.add("stalled", f"{type(error).__name__}: {error}")
            continue
        right = b" 408 " in reply if body else reply == b""
        log.add("stalled", None if right else f"a client that stalls gets {reply[:60]!r}")


def _head(photo: bytes) -> bytes:
    lines = (f"POST /predictions/{NAME} HTTP/1.1", "Host: x", f"X-API-Key: {KEY}", f"Content-Length: {len(photo)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _refused(status: int) -> str | None:
    return None if 400 <= status < 500 else f"status {status}"


def _send_damaged(port: int, photos: Photos, dice: random.Random) -> str | None:
    ((_, data),) = damaged(dice.choice(photos.sent), 1, dice.randrange(1 << 30))
    status, _ = send(port, data)
    return None if status == 200 else _refused(status)


def _send_nonsense(port: int, photos: Photos, dice: random.Random) -> str | None:
    json = {"Content-Type": "application/json"}
    body, headers = dice.choice(
        [
            (b"[" * 100_000, json),
            (b'{"image": 3}', json),
            (b'{"image": "AAAA", "class": "+-5"}', json),
            (b"", {}),
            (b"text", {"Content-Type": "multipart/form-data; boundary=x"}),
            (photos.sent[0], {"X-API-Key": "another"}),
            (b'{"image": "AAAA", "top": ' + b"9" * 5000 + b"}", json),
        ]
    )
    return _refused(send(port, body, headers)[0])


def _close_early(port: int, photos: Photos, dice: random.Random) -> str | None:
    photo = photos.sent[0]
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(_head(photo) + photo[: dice.randrange(len(photo))])
    return None


def _close_half(port: int, photos: Photos, dice: random.Random) -> str | None:
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(_head(photos.sent[0]) + photos.sent[0])
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            connection.recv(100)
    return None


def _send_slowly(port: int, photos: Photos, dice: random.Random) -> str | None:
    data = _head(photos.sent[0]) + photos.sent[0]
    step = max(len(data) // 10, 1)
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        for start in range(0, len(data), step):
            connection.sendall(data[start : start + step])
            time.sleep(0.1)
        status = connection.recv(100)
    return None if b" 200 " in status else f"a slow client gets {status[:40]!r}"


BROKEN_CLIENTS: dict[str, Client] = {
    "damaged": _send_damaged,
    "nonsense": _send_nonsense,
    "closed early": _close_early,
    "half closed": _close_half,
    "slow": _send_slowly,
}
