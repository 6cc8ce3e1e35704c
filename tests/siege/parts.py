"""The parts of the siege: each ``(folder, scale) -> results``."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.siege import api, artifacts, disks, exports, pictures, runs, server, sources, threads


def _at_least_one(count: float) -> int:
    return max(round(count), 1)


PARTS: Mapping[str, Callable[[Path, float], dict[str, Any]]] = {
    "api": lambda folder, scale: api.run(folder, _at_least_one(50 * scale)),
    "artifacts": lambda folder, scale: artifacts.run(folder, _at_least_one(50 * scale)),
    "sources": lambda folder, scale: sources.run(folder, _at_least_one(25 * scale)),
    "runs": lambda folder, scale: runs.run(folder, _at_least_one(50 * scale)),
    "pictures": lambda folder, scale: pictures.run(folder, _at_least_one(30 * scale)),
    "threads": lambda folder, scale: threads.run(folder, _at_least_one(50 * scale)),
    "exports": lambda folder, scale: exports.run(folder, _at_least_one(1 * scale)),
    "server": lambda folder, scale: server.run(folder, 120 * scale),
    "disks": lambda folder, scale: disks.run(folder),
}
