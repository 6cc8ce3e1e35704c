"""Time two calls in turn, and summarize the times. Needs no torch."""

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata as distributions
from pathlib import Path
from typing import Any, TypeAlias

Run: TypeAlias = Callable[[], object]
PACKAGES = (
    "torch", "torchvision", "timm", "numpy", "onnx", "onnxruntime", "onnxscript", "openvino", "executorch",
    "grad-cam", "torchcam", "captum",
)  # fmt: skip
# Without these settings waiting threads spin, and take processor time from others.
QUIET_THREADS = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}


@dataclass(frozen=True)
class Sample:
    """Wall clock and processor time of one call in this process, in milliseconds."""

    wall: float
    cpu: float


Clock: TypeAlias = Callable[[Run], Sample]


@dataclass(frozen=True)
class Effort:
    """The length of a measurement.

    Attributes:
        seconds: the wall clock after which no further pair begins.
        least, most: the least and the largest number of pairs.
        warm_up: the number of pairs that run first and are not counted.
    """

    seconds: float = 4.0
    least: int = 5
    most: int = 60
    warm_up: int = 2


QUICK = Effort(seconds=0.0, least=1, most=1, warm_up=1)


def time_on_host(run: Run) -> Sample:
    """Time one call on the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return Sample((time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3)


def measure_pairs(plain: Run, explained: Run, effort: Effort, clock: Clock = time_on_host) -> dict[str, Any]:
    """Time plain and explained in turn. The order alternates, so that a machine that slows down slows both.

    Returns:
        ``ratio`` and ``ratio_wall``: quartiles of explained / plain over the pairs; ``plain`` and ``explained``: the
        distribution of both clocks; ``pairs``: their number.
    """
    samples: list[tuple[Sample, Sample]] = []
    for _ in range(effort.warm_up):
        plain(), explained()
    started = time.perf_counter()
    while len(samples) < effort.least or (
        len(samples) < effort.most and time.perf_counter() - started < effort.seconds
    ):
        if len(samples) % 2:
            second = clock(explained)
            samples.append((clock(plain), second))
        else:
            first = clock(plain)
            samples.append((first, clock(explained)))
    return compare_samples(samples)


def compare_samples(samples: Sequence[tuple[Sample, Sample]]) -> dict[str, Any]:
    """Summarize pairs ``(plain, explained)`` as ``measure_pairs`` does."""
    return {
        "pairs": len(samples),
        "ratio": compute_quartiles([b.cpu / max(a.cpu, 1e-9) for a, b in samples]),
        "ratio_wall": compute_quartiles([b.wall / max(a.wall, 1e-9) for a, b in samples]),
        "plain": summarize_samples([a for a, _ in samples]),
        "explained": summarize_samples([b for _, b in samples]),
    }


def summarize_samples(samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """Quantiles of both clocks, in milliseconds."""
    return {
        "wall_ms": compute_quantiles([s.wall for s in samples]),
        "cpu_ms": compute_quantiles([s.cpu for s in samples]),
    }


def compute_quantiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p90, p99 and the interquartile range."""
    ordered = sorted(values)
    shares = {name: _interpolate(ordered, share) for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))}
    return {**shares, "iqr": round(_interpolate(ordered, 0.75) - _interpolate(ordered, 0.25), 4)}


def compute_quartiles(values: Sequence[float]) -> dict[str, float]:
    """p25, p50 and p75."""
    ordered = sorted(values)
    return {f"p{share}": _interpolate(ordered, share / 100) for share in (25, 50, 75)}


def _interpolate(ordered: Sequence[float], share: float) -> float:
    """Interpolate linearly between the two nearest values."""
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return round(ordered[low] + (ordered[high] - ordered[low]) * (position - low), 4)


def measure_first_calls(opens: Sequence[Callable[[], Run]], repeats: int) -> list[dict[str, float]]:
    """Time opening and first call of several artifacts in turn: medians of wall and processor time in ms."""
    samples: list[list[tuple[Sample, Sample]]] = [[] for _ in opens]
    for _ in range(repeats):
        for n, open_ in enumerate(opens):
            opened: list[Run] = []
            load = time_on_host(lambda open_=open_, opened=opened: opened.append(open_()))  # type: ignore[misc]
            samples[n].append((load, time_on_host(opened[0])))
    return [
        {
            "load_ms": statistics.median(load.wall for load, _ in each),
            "load_cpu_ms": statistics.median(load.cpu for load, _ in each),
            "first_call_ms": statistics.median(call.wall for _, call in each),
            "first_call_cpu_ms": statistics.median(call.cpu for _, call in each),
        }
        for each in samples
    ]


def measure_memory(run: Run, calls: int = 3) -> dict[str, float]:
    """Measure resident memory of this process before some calls, and its peak during them, in MiB.

    The calls include the first one, whose set-up stays in memory. Where the kernel's mark cannot be reset, the peak is
    that of the whole process.
    """
    before = _read_resident("VmRSS")
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    for _ in range(calls):
        run()
    return {"before_mib": before, "peak_mib": _read_resident("VmHWM")}


def _read_resident(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {field}; memory is measured on Linux only.")


def describe_environment() -> dict[str, Any]:
    """The versions and the machine that the figures depend on."""
    return {
        "python": sys.version.split()[0],
        "machine": platform.machine(),
        "processor": _read_processor(),
        "processors": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        **{name: version for name in PACKAGES if (version := _read_version(name))},
    }


def _read_processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def _read_version(package: str) -> str | None:
    try:
        return distributions.version(package)
    except distributions.PackageNotFoundError:
        return None
