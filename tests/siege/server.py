"""A server for minutes: good, broken, slow and stalled clients, its memory, a killed worker, and restarts.

Needs the extra ``litserve``. The server listens on 127.0.0.1; the clients are bounded in number, rate and time.
"""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tests.siege.artifacts import make_artifact
from tests.siege.cells import wait_until
from tests.siege.clients import KEY, NAME, PHOTOS, Log, Photos, ask, attack, make_photos, send, stall

ROOT = Path(__file__).parents[2]
SERVE = ROOT / "export" / "litserve" / "serve.py"
CLIENTS = 3
SLOPE_MIB = 0.5  # growth per minute that is still noise: allocators keep what they had at the peak
LONG_ENOUGH = 300  # seconds after which the memory of the second half has a slope that means something
STALLED = 30  # seconds that the last stalled client may take longer than the others


def run(folder: Path, seconds: float, restarts: int = 4, seed: int = 0) -> dict[str, Any]:
    """Send requests for some seconds; then end the server again and again, and compare answers.

    Args:
        folder: for the artifact and the server's log.
        seconds: of the soak.
        restarts: how often the server ends under load, in turn because it is told to and because its worker was killed.
        seed: of the clients.
    """
    artifact, log, endings = make_artifact(folder / f"{NAME}.onnx"), Log(), Log()
    sent = make_photos()
    with _serve(artifact) as (port, process):
        photos = Photos(sent, [ask(port, photo) for photo in sent])
        memory = _Memory(process)
        clients = [(attack, (port, photos, log, seconds, f"{seed}:{n}")) for n in range(CLIENTS)]
        with _threads(*clients, (stall, (port, photos, log, seconds - STALLED))) as threads:
            while any(thread.is_alive() for thread in threads):
                memory.sample()
                time.sleep(1)
        slope = memory.slope_per_minute()
        if slope is not None and seconds >= LONG_ENOUGH and slope > SLOPE_MIB:
            log.harm.append(f"memory grows by {slope:.2f} MiB a minute")
    for number in range(restarts):
        _end_under_load(artifact, photos, endings, kill=bool(number % 2))
    return {
        "seconds": round(seconds),
        "requests": log.answers.total(),
        "outcomes": dict(sorted(log.answers.items())),
        "restarts": restarts,
        "while it ends": dict(sorted(endings.answers.items())),
        "memory_mib": memory.ends(),
        "slope_mib_per_minute": slope,
        "harm": [*log.harm, *endings.harm][:20],
    }


def _end_under_load(artifact: Path, photos: Photos, log: Log, *, kill: bool) -> None:
    """Start the server, compare its answers, and end it while clients ask; what was begun before must be answered."""
    with _serve(artifact) as (port, process):
        if [ask(port, photo) for photo in photos.sent] != photos.answers:
            log.add("restart", "another answer")
        ending = _Ending()
        with _threads(*[(_ask_until_refused, (port, photos, log, ending, n)) for n in range(CLIENTS)]):
            time.sleep(1)
            if kill:
                (worker,) = [child for child in psutil.Process(process.pid).children() if _is_worker(child)]
                ending.lossy = True
                worker.kill()
            else:
                ending.begun.set()
                time.sleep(0.5)
                process.send_signal(signal.SIGTERM)
            if not wait_until(lambda: process.poll() is not None, 90):
                log.add("end", "the server goes on without its worker" if kill else "the server does not end")
            elif (process.returncode == 0) == kill:
                log.add(
                    "end", f"the server ends with {process.returncode} when {'its worker died' if kill else 'told'}"
                )


@dataclass
class _Ending:
    """How a server ends: ``lossy`` where requests may be lost; ``begun`` once it will be told to end."""

    lossy: bool = False
    begun: threading.Event = field(default_factory=threading.Event)


def _ask_until_refused(port: int, photos: Photos, log: Log, ending: _Ending, number: int) -> None:
    for n in range(number, 1000):
        before = not ending.begun.is_set() and not ending.lossy
        try:
            right = ask(port, photos.sent[n % PHOTOS]) == photos.answers[n % PHOTOS]
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            lost = before and not ending.lossy
            log.add("lost", f"{type(error).__name__}: {error}") if lost else log.add("turned away")
            return
        log.add("answered", None if right else "another answer")


def _is_worker(process: psutil.Process) -> bool:
    return "spawn_main" in " ".join(process.cmdline())


@contextlib.contextmanager
def _threads(*calls: tuple[Callable[..., None], tuple[Any, ...]]) -> Iterator[list[threading.Thread]]:
    threads = [threading.Thread(target=function, args=arguments) for function, arguments in calls]
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        for thread in threads:
            thread.join()


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
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def _answers(port: int) -> bool:
    try:
        return send(port, make_photos()[0])[0] == 200
    except (OSError, http.client.HTTPException):
        return False


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
        """Slope of the second half in MiB, by least squares; ``None`` for less than a minute."""
        half = self.samples[len(self.samples) // 2 :]
        if len(half) < 30:
            return None
        times, values = (np.array(column) for column in zip(*half, strict=True))
        return round(float(np.polyfit((times - times[0]) / 60, values, 1)[0]), 3)

    def ends(self) -> list[float]:
        """Memory at the start, in the middle, and at the end."""
        values = [value for _, value in self.samples]
        return [round(values[n], 1) for n in (0, len(values) // 2, -1)] if values else []
