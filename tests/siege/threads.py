"""Many threads on one session of each format: every answer equals the one of a single thread, to the bit."""

import threading
from pathlib import Path
from typing import Any

import numpy as np

from explainable_model import Session, load
from tests.siege.artifacts import ENDINGS, make_artifact

THREADS = 8
IMAGES = 5


def run(folder: Path, calls: int) -> dict[str, Any]:
    """Call a session of each format ``calls`` times from each of eight threads."""
    return {ending: _siege(load(make_artifact(folder / f"threads{ending}"), threads=1), calls) for ending in ENDINGS}


def _siege(session: Session, calls: int) -> dict[str, Any]:
    images = np.random.default_rng(1).standard_normal((IMAGES, 1, 3, 32, 32)).astype(np.float32)
    answers = [[part.tobytes() for part in session(image, [n % 5])] for n, image in enumerate(images)]
    different: list[str] = []

    def call(thread: int) -> None:
        for number in range(calls):
            n = (thread + number) % IMAGES
            try:
                found = [part.tobytes() for part in session(images[n], [n % 5])]
            except Exception as error:  # counted, whatever it is
                different.append(f"{type(error).__name__}: {error}")
                continue
            if found != answers[n]:
                different.append(f"thread {thread}, call {number}")

    workers = [threading.Thread(target=call, args=(thread,)) for thread in range(THREADS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return {
        "calls": THREADS * calls,
        "outcomes": {"answered": THREADS * calls - len(different)},
        "harm": different[:20],
    }
