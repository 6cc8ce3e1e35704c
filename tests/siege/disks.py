"""Full, read-only and foreign disks, in a file system of the siege's own: one clear error, and the old file stays."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.siege.artifacts import ENDINGS

ROOT = Path(__file__).parents[2]
KIB = (4, 16, 48, 64, 96)
WRITE = """
import sys
from pathlib import Path
from tests.siege.artifacts import make_artifact
from explainable_model.errors import ArtifactError
try:
    make_artifact(Path(sys.argv[1]))
    print("written")
except ArtifactError as error:
    print("refused", error)
"""


def can_mount() -> bool:
    """Whether this process may mount a file system."""
    return os.geteuid() == 0 and subprocess.run(["unshare", "-m", "true"], check=False).returncode == 0


DISKS = (*((f"{kib} KiB", f"size={kib}k") for kib in KIB), ("read-only", "ro"), ("no inodes", "nr_inodes=2"))


def run(folder: Path, endings: Sequence[str] = ENDINGS, disks: Sequence[tuple[str, str]] = DISKS) -> dict[str, Any]:
    """Export into small and read-only file systems.

    Args:
        folder: where they are mounted.
        endings: of the formats.
        disks: names and options of the file systems.
    """
    return {ending: _siege(folder, ending, disks) for ending in endings}


def _siege(folder: Path, ending: str, disks: Sequence[tuple[str, str]]) -> dict[str, Any]:
    harm: list[str] = []
    for name, options in disks:
        place = folder / f"disk{ending}-{name.replace(' ', '-')}"
        place.mkdir()
        with _mounted(place, options):
            target = place / f"model{ending}"
            told = _export(target)
            left = [path.name for path in place.iterdir()]
        refused = told.startswith("refused") and ("cannot be written" in told or "could not be written" in told)
        written = told == "written" and target.name in left
        if not (refused or written):
            harm.append(f"{name}: {told[:300]}")
        if refused and left:
            harm.append(f"{name}: left {left}")
    return {"outcomes": {"disks": len(disks)}, "harm": harm}


@contextmanager
def _mounted(place: Path, options: str) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def _export(target: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(target)], capture_output=True, text=True, env=environment, check=False
    )
    return done.stdout.strip() or f"ended with {done.returncode}: {done.stderr[-300:]}"
