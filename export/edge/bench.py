"""Measure an artifact and the plain network in turn, and describe the device that they ran on.

This file needs Python 3.8 and NumPy. ``program.py`` calls it, and so does ``python -m benchmarks run --suite edge``.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from functools import partial
from glob import glob

import numpy as np

WARM_UP = 3
LEAST_PAIRS = 5
BATCHES = (1, 2, 4, 8)
MEGABYTE = 1e6


def measure(open_model, model, record, make_inputs, options):
    """The figures of one artifact on one device.

    Args:
        open_model: the runtime's function ``(path, threads) -> Model``.
        model: the opened artifact.
        record: its metadata.
        make_inputs: a function from a batch size to the artifact's inputs, image first.
        options: the options of the command line, see ``program.py``.

    Returns:
        A dictionary for JSON. Under emulation every figure of time, memory and power is ``None`` or absent.
    """
    emulated = options.emulated or detect_emulation()
    inputs = make_inputs(None)
    runs = {"explained": lambda: model.run(inputs)}
    figures = {
        "device": describe_device(),
        "emulated": emulated,
        "runtime": {"name": model.runtime, "version": model.version},
        "threads": options.threads,
        "commit": options.commit,
        "watts": None if emulated else options.watts,
        "explained": describe_artifact(model, record, options.artifact),
        "plain": None,
        "ratio": None,
        "minutes": None,
    }
    if options.plain:
        plain = open_model(options.plain, options.threads)
        runs["plain"] = lambda: plain.run(inputs[:1])
        figures["plain"] = {
            "file": os.path.basename(options.plain),
            "bytes": count_bytes(options.plain),
            "operators": plain.operators,
        }
    if not emulated:
        add_times(figures, runs, model, make_inputs, options)
    return figures


def add_times(figures, runs, model, make_inputs, options):
    """Add every figure of time and memory."""
    pairs = time_in_turn(runs, options.seconds)
    inputs = make_inputs(None)
    for name in runs:
        path, given = (options.artifact, inputs) if name == "explained" else (options.plain, inputs[:1])
        figures[name].update(measure_start_alone(path, given, options))
        figures[name].update(summarize([pair[name] for pair in pairs]))
    fixed = figures["explained"]["image_shape"][0]
    figures["explained"]["images_per_second"] = measure_throughput(model, make_inputs, [fixed] if fixed else BATCHES)
    figures["ratio"] = compare_pairs(pairs)
    if options.minutes:
        figures["minutes"] = [measure_minute(runs) for _ in range(options.minutes)]


def describe_device():
    """Machine, processor, number of cores, system and versions."""
    return {
        "machine": platform.machine(),
        "name": read_text("/proc/device-tree/model") or read_processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def read_processor():
    """The kernel's name of the processor; ``None`` where it gives none."""
    for line in (read_text("/proc/cpuinfo") or "").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return None


def detect_emulation():
    """Whether the kernel names another kind of processor than the program runs on."""
    text = read_text("/proc/cpuinfo") or ""
    return platform.machine().startswith(("aarch64", "arm")) and ("GenuineIntel" in text or "AuthenticAMD" in text)


def read_text(path):
    """The text of a file; ``None`` where it cannot be read."""
    try:
        with open(path) as file:
            return file.read().strip("\0\n ")
    except OSError:
        return None


def read_largest(pattern, scale):
    """The largest number in the one-number files of a pattern, scaled; ``None`` where there is none."""
    texts = [read_text(path) for path in glob(pattern)]
    numbers = [int(text) * scale for text in texts if text and text.lstrip("-").isdigit()]
    return max(numbers) if numbers else None


def read_sensors():
    """Temperature, clock and power; each is ``None`` where the kernel does not tell it."""
    return {
        "celsius": read_largest("/sys/class/thermal/thermal_zone*/temp", 1e-3),
        "megahertz": read_largest("/sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq", 1e-3),
        "watts": read_largest("/sys/class/power_supply/*/power_now", 1e-6),
    }


def describe_artifact(model, record, path):
    """Name, size and number of operators of an artifact, and its metadata about the network."""
    names = ("model", "method", "target_layer", "dtype", "image_shape", "versions")
    return {
        "file": os.path.basename(path),
        "bytes": count_bytes(path),
        "operators": model.operators,
        **{name: record[name] for name in names},
    }


def count_bytes(path):
    """The size of a file and of the weights that some formats keep beside the graph."""
    weights = os.path.splitext(path)[0] + ".bin" if path.endswith(".xml") else path + ".data"
    return os.path.getsize(path) + (os.path.getsize(weights) if os.path.exists(weights) else 0)


def time_call(run):
    """Wall time and processor time of one call, in milliseconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)


def time_in_turn(runs, seconds):
    """Time one call of each after the other. The order alternates, so a device that slows down slows both."""
    for run in runs.values():
        for _ in range(WARM_UP):
            run()
    pairs, started = [], time.perf_counter()
    while len(pairs) < LEAST_PAIRS or time.perf_counter() - started < seconds:
        names = list(runs) if len(pairs) % 2 else list(runs)[::-1]
        pairs.append({name: time_call(runs[name]) for name in names})
    return pairs


def summarize(times):
    """Quantiles of wall time, and the median of processor time, in milliseconds."""
    wall, cpu = np.array(times).T
    quantiles = {f"p{share}": round(float(np.percentile(wall, share)), 3) for share in (50, 90, 99)}
    return {"calls": len(times), "wall_ms": quantiles, "cpu_ms": round(float(np.median(cpu)), 3)}


def compare_pairs(pairs):
    """The median of explained over plain in CPU time, and its 95 % interval by ranks, which assumes no distribution.

    The result is ``None`` where no plain network was measured.
    """
    if "plain" not in pairs[0]:
        return None
    ratios = np.sort([pair["explained"][1] / max(pair["plain"][1], 1e-9) for pair in pairs])
    reach = 0.98 * np.sqrt(len(ratios))
    low, high = int(max(0, len(ratios) / 2 - reach)), int(min(len(ratios) - 1, len(ratios) / 2 + reach))
    figures = {"median": np.median(ratios), "low": ratios[low], "high": ratios[high]}
    return {"pairs": len(ratios), **{name: round(float(value), 4) for name, value in figures.items()}}


def measure_throughput(model, make_inputs, batches):
    """Images per second by batch size, from the best of three calls."""
    rates = {}
    for batch in batches:
        inputs = make_inputs(batch)
        model.run(inputs)
        best = min(time_call(partial(model.run, inputs))[0] for _ in range(3))
        rates[str(batch)] = round(1e3 * batch / best, 2)
    return rates


def measure_minute(runs):
    """Times and sensors of one minute: a warm device is slower than a cold one."""
    pairs = time_in_turn(runs, 60)
    figures = {name: summarize([pair[name] for pair in pairs]) for name in runs}
    return {**figures, "ratio": compare_pairs(pairs), **read_sensors()}


def measure_start_alone(path, inputs, options):
    """Load time, first call and peak memory, in a new process: one process can measure them only once."""
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "inputs.npz")
        np.savez(file, *inputs)
        command = [sys.executable, sys.argv[0], path, options.photo, "--threads", str(options.threads), "--alone", file]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def measure_start(open_model, options):
    """The figures of that new process."""
    with np.load(options.alone) as stored:
        inputs = [stored[name] for name in stored.files]
    started = time.perf_counter()
    model = open_model(options.artifact, options.threads)
    load = time.perf_counter() - started
    first, _ = time_call(lambda: model.run(inputs))
    return {"load_ms": round(1e3 * load, 2), "first_call_ms": round(first, 2), "peak_memory_mb": read_peak_memory()}


def read_peak_memory():
    """Peak memory of this process in MB, counted by Linux: ``getrusage`` would start at the parent's peak."""
    for line in (read_text("/proc/self/status") or "").splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) * 1024 / MEGABYTE, 1)
    return None
