"""Measures an artifact beside the plain network, in turn, and says what it measured on."""

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
from edge import to_image, to_inputs

WARM_UP = 3
BATCHES = (1, 2, 4, 8)
MEGABYTE = 1e6


def bench(open_model, model, record, compared, photo, options):
    """One record for one artifact on one device; under emulation every figure of time and memory is ``null``."""
    emulated = options.emulated or looks_emulated()
    image, _ = to_image(photo, record)
    figures = {
        "device": device(),
        "emulated": emulated,
        "runtime": {"name": model.runtime, "version": model.version},
        "threads": options.threads,
        "commit": options.commit,
        "watts": None if emulated else options.watts,
        "explained": described(model, record, options.artifact),
        "plain": None,
        "parity": compared,
        "ratio": None,
        "minutes": None,
    }
    inputs = to_inputs(image, -1, record)
    runs = {"explained": lambda: model.run(inputs)}
    if options.plain:
        plain = open_model(options.plain, options.threads)
        figures["plain"] = {"file": os.path.basename(options.plain), "bytes": size_of(options.plain)}
        figures["plain"]["operators"] = plain.operators
        runs["plain"] = lambda: plain.run(inputs[:1])
    if emulated:
        return figures
    pairs = in_turn(runs, options.seconds)
    for name in runs:
        path, given = (options.artifact, inputs) if name == "explained" else (options.plain, inputs[:1])
        figures[name].update(in_a_process_of_its_own(path, given, options))
        figures[name].update(summary([pair[name] for pair in pairs]))
    figures["explained"]["images_per_second"] = throughput(model, record, image)
    if options.plain:
        figures["ratio"] = ratio(pairs)
    if options.minutes:
        figures["minutes"] = [minute(runs) for _ in range(options.minutes)]
    return figures


def device():
    return {
        "machine": platform.machine(),
        "name": first_text("/proc/device-tree/model") or processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def processor():
    for line in (first_text("/proc/cpuinfo") or "").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return None


def looks_emulated():
    """Whether the kernel speaks of another kind of processor than the program runs on."""
    text = first_text("/proc/cpuinfo") or ""
    return platform.machine().startswith(("aarch64", "arm")) and ("GenuineIntel" in text or "AuthenticAMD" in text)


def first_text(path):
    try:
        with open(path) as file:
            return file.read().strip("\0\n ")
    except OSError:
        return None


def described(model, record, path):
    names = ("model", "method", "target_layer", "dtype", "image_shape", "versions")
    return {
        "file": os.path.basename(path),
        "bytes": size_of(path),
        "operators": model.operators,
        **{name: record[name] for name in names},
    }


def size_of(path):
    """With the weights that some formats keep beside the graph."""
    beside = os.path.splitext(path)[0] + ".bin" if path.endswith(".xml") else path + ".data"
    return os.path.getsize(path) + (os.path.getsize(beside) if os.path.exists(beside) else 0)


def clocked(run):
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)


def in_turn(runs, seconds):
    """One call of each after the other, the order changing, so that whatever slows the device slows both."""
    for run in runs.values():
        for _ in range(WARM_UP):
            run()
    pairs, started = [], time.perf_counter()
    while len(pairs) < 5 or time.perf_counter() - started < seconds:
        names = list(runs) if len(pairs) % 2 else list(runs)[::-1]
        pairs.append({name: clocked(runs[name]) for name in names})
    return pairs


def summary(times):
    wall, cpu = np.array(times).T
    shares = {
        name: round(float(np.percentile(wall, share)), 3) for name, share in (("p50", 50), ("p90", 90), ("p99", 99))
    }
    return {"calls": len(times), "wall_ms": shares, "cpu_ms": round(float(np.median(cpu)), 3)}


def ratio(pairs):
    """Explained over plain of each pair's CPU time: the median, and its 95 % interval by ranks (no assumption)."""
    each = np.sort([pair["explained"][1] / pair["plain"][1] for pair in pairs])
    reach = 0.98 * np.sqrt(len(each))
    low, high = int(max(0, len(each) / 2 - reach)), int(min(len(each) - 1, len(each) / 2 + reach))
    figures = {"median": np.median(each), "low": each[low], "high": each[high]}
    return {"pairs": len(each), **{name: round(float(value), 4) for name, value in figures.items()}}


def throughput(model, record, image):
    """By batch size, where the artifact takes more than one; the best of three calls."""
    found = {}
    for batch in BATCHES if record["image_shape"][0] is None else record["image_shape"][:1]:
        inputs = to_inputs(image, -1, record, batch)
        model.run(inputs)
        found[str(batch)] = round(1e3 * batch / min(clocked(partial(model.run, inputs))[0] for _ in range(3)), 2)
    return found


def minute(runs):
    """What a warm device is like: times, and what the kernel says of heat and clock where it says it."""
    pairs = in_turn(runs, 60)
    celsius = largest("/sys/class/thermal/thermal_zone*/temp", 1e-3)
    megahertz = largest("/sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq", 1e-3)
    figures = {name: summary([pair[name] for pair in pairs]) for name in runs}
    return {**figures, "celsius": celsius, "megahertz": megahertz}


def largest(pattern, scale):
    texts = [first_text(path) for path in glob(pattern)]
    found = [int(text) * scale for text in texts if text and text.lstrip("-").isdigit()]
    return max(found) if found else None


def in_a_process_of_its_own(path, inputs, options):
    """Load time, first call and peak memory, which a process can tell only once."""
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "inputs.npz")
        np.savez(file, *inputs)
        command = [sys.executable, sys.argv[0], path, options.photo, "--threads", str(options.threads), "--alone", file]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def alone(open_model, options):
    """What that process finds."""
    with np.load(options.alone) as stored:
        inputs = [stored[name] for name in stored.files]
    started = time.perf_counter()
    model = open_model(options.artifact, options.threads)
    load = time.perf_counter() - started
    first, _ = clocked(lambda: model.run(inputs))
    return {"load_ms": round(1e3 * load, 2), "first_call_ms": round(first, 2), "peak_memory_mb": peak_memory()}


def peak_memory():
    """Of this process: Linux's own count, since ``getrusage`` starts at what the parent had."""
    for line in (first_text("/proc/self/status") or "").splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) * 1024 / MEGABYTE, 1)
    return None
