"""A bounded load: so many requests from so many clients, some of them broken, and what became of each."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from client import Client, Reply


@dataclass(frozen=True)
class Shot:
    """One request of the load.

    Attributes:
        picture: its body.
        judge: what is wrong with its reply, or an empty string.
    """

    picture: bytes
    judge: Callable[[Reply], str]


@dataclass(frozen=True)
class Load:
    """What became of a load.

    Attributes:
        requests: how many were sent.
        clients: how many at a time.
        statuses: how many replies of each status.
        problems: of replies that were wrong, missing or another request's.
        seconds: from the first request to the last reply.
        milliseconds: of each request that was answered with 200.
    """

    requests: int
    clients: int
    statuses: Mapping[int, int]
    problems: Sequence[str]
    seconds: float
    milliseconds: Sequence[float]

    def summary(self) -> dict[str, Any]:
        """For JSON: throughput, and percentiles of the latency."""
        p50, p90, p99 = (float(n) for n in np.percentile(self.milliseconds or [np.nan], [50, 90, 99]))
        return {
            "requests": self.requests,
            "clients": self.clients,
            "statuses": dict(sorted(self.statuses.items())),
            "requests_per_second": round(self.requests / self.seconds, 2),
            "milliseconds": {"p50": round(p50, 1), "p90": round(p90, 1), "p99": round(p99, 1)},
        }


def fire(connect: Callable[[], Client], path: str, shots: Sequence[Shot], clients: int) -> Load:
    """Send every shot once, ``clients`` at a time."""
    waiting = iter(shots)
    lock = threading.Lock()
    statuses: Counter[int] = Counter()
    problems: list[str] = []
    milliseconds: list[float] = []

    def work() -> None:
        client = connect()
        while True:
            with lock:
                shot = next(waiting, None)
            if shot is None:
                return
            began = time.perf_counter()
            try:
                reply = client.post_picture(path, shot.picture)
                problem = shot.judge(reply)
            except OSError as error:
                reply, problem = None, f"no reply: {error}"
            took = 1000 * (time.perf_counter() - began)
            with lock:
                statuses[reply.status if reply else 0] += 1
                problems.extend([problem] if problem else [])
                milliseconds.extend([took] if reply and reply.status == 200 else [])

    threads = [threading.Thread(target=work) for _ in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Load(len(shots), clients, statuses, problems, time.perf_counter() - started, milliseconds)
