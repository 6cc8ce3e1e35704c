"""How many processes with how many threads: measured for a few seconds on the data set's own photos."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from explainable_model.batch.batch_explainer import BatchExplainer
from explainable_model.batch.parts import PartWorker
from explainable_model.batch.photos import Photo
from explainable_model.batch.pool import Pool
from explainable_model.errors import ArtifactError

MEASURED_FROM = 2000  # photos; of fewer, the measurement would take a good part of the time
SAMPLE = 32
SECONDS = 2.0
MEMORY_SHARE = 0.8  # of what is free
QUOTA = Path("/sys/fs/cgroup/cpu.max")
MEMORY = Path("/proc/meminfo")


@dataclass(frozen=True)
class Layout:
    """Processes and the threads of each, for the network and for decoding.

    Attributes:
        processes, threads: how many.
        rate: photos per second, where it was measured.
    """

    processes: int
    threads: int
    rate: float | None = None


def count_cores() -> int:
    """Count the cores that this process may use: by its affinity and by the quota of its container."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = QUOTA.read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no quota is written as "max"
        return cores


def list_layouts(cores: int) -> list[Layout]:
    """List the layouts that are worth a measurement: one thread each, pairs of threads, one process."""
    pairs = {(cores, 1), (max(1, cores // 2), 2 if cores > 1 else 1), (1, cores)}
    return [Layout(*pair) for pair in sorted(pairs, reverse=True)]


def choose_layout(
    worker: PartWorker, photos: Sequence[Photo], total: int, processes: int | None, threads: int | None
) -> Layout:
    """Choose processes and threads.

    Args:
        worker: what each process gets.
        photos: some of the data set's.
        total: how many photos are to be explained.
        processes, threads: what the user has decided.
    """
    cores = count_cores()
    if processes is not None or threads is not None or total < MEASURED_FROM or cores == 1:
        chosen = threads or max(1, cores // (processes or cores))
        return Layout(processes or max(1, cores // chosen), chosen)
    measured: list[Layout] = []
    free = read_free_memory()
    for layout in list_layouts(cores):
        try:
            with Pool(with_threads(worker, layout.threads), layout.processes) as pool:
                rate, memory = pool.measure(photos[:SAMPLE], SECONDS)
        except ArtifactError:  # a photo that ends processes, or too little memory: the run itself finds out which
            continue
        fits = max(1, int(MEMORY_SHARE * free // memory)) if free else layout.processes
        fewer = min(fits, layout.processes)
        measured.append(Layout(fewer, layout.threads, rate * fewer / layout.processes))
    return max(measured, key=lambda layout: layout.rate or 0.0, default=Layout(cores, 1))


def with_threads(worker: PartWorker, threads: int) -> PartWorker:
    """The same worker with so many threads for the network, and as many for decoding."""
    explainer = worker.explainer
    options = {name: getattr(explainer, name) for name in ("class_idx", "top", "batch", "device", "trusted")}
    return PartWorker(worker.folder, BatchExplainer(explainer.artifact, **options, threads=threads, decoders=threads))


def read_free_memory() -> int | None:
    """Read how many bytes of memory are available; ``None`` where the system does not say so."""
    try:
        lines = MEMORY.read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, ValueError, StopIteration):
        return None
