"""Send a bounded load: a number of requests, some of them broken, from a number of clients; and judge each reply."""

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
        picture: the body of the request.
        judge: the problem of its reply, or an empty string.
    """

    picture: bytes
    judge: Callable[[Reply], str]


@dataclass(frozen=True)
class Load:
    """The outcome of a load.

    Attributes:
        requests: the number of requests.
        clients: the number of clients.
        statuses: the number of replies by status.
        problems: of wrong and missing replies, and of replies to another request.
        seconds: from the first request to the last reply.
        milliseconds: the latency of each request with status 200.
    """

    requests: int
    clients: int
    statuses: Mapping[int, int]
    problems: Sequence[str]
    seconds: float
    milliseconds: Sequence[float]

    def summarize(self) -> dict[str, Any]:
        """Throughput and percentiles of the latency, for JSON."""
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
