"""Measures plain against explained on a small device. Copy this one file and a bundle; Python 3.8 or newer.

    python -m benchmarks bundle BUNDLE               # where the library is: plain.onnx, explained.onnx, reference.npz
    python3 edge_device.py BUNDLE > device.json      # on the device: needs onnxruntime and numpy, nothing else

Runs for five minutes by default, for a warm device is a slower one: the first minute stands beside the last. Under
emulation (--emulated) only the answers are compared, and no time is printed.
"""

import argparse
import glob
import json
import os
import platform
import sys
import time

import numpy as np
import onnxruntime

WARM_UP = 3


def open_session(path, threads):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def clocked(run):
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)


def summary(values):
    shares = {"p25": 25, "p50": 50, "p75": 75, "p90": 90, "p99": 99}
    return {name: round(float(np.percentile(values, share)), 4) for name, share in shares.items()}


def first_number(pattern, scale):
    """The largest of some one-number files of the kernel, or None where there is none to read."""
    found = []
    for name in glob.glob(pattern):
        try:
            with open(name) as file:
                found.append(int(file.read()) * scale)
        except (OSError, ValueError):
            continue
    return max(found) if found else None


def readings():
    return {
        "celsius": first_number("/sys/class/thermal/thermal_zone*/temp", 1e-3),
        "megahertz": first_number("/sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq", 1e-3),
        "watts": first_number("/sys/class/power_supply/*/power_now", 1e-6),
    }


def measure_minute(runs, seconds):
    pairs, started = [], time.perf_counter()
    while not pairs or time.perf_counter() - started < seconds:
        order = ("plain", "explained") if len(pairs) % 2 else ("explained", "plain")
        pairs.append({name: clocked(runs[name]) for name in order})
    figures = {"pairs": len(pairs), **readings()}
    for name in runs:
        figures[name] = {
            clock: summary([pair[name][n] for pair in pairs]) for n, clock in enumerate(("wall_ms", "cpu_ms"))
        }
    figures["ratio"] = summary([pair["explained"][1] / max(pair["plain"][1], 1e-9) for pair in pairs])
    return figures


def parity(session, reference):
    images = reference["image"]
    logits, _, cam = session.run(None, {"image": images, "class_idx": np.full(len(images), -1, np.int64)})
    wanted = reference["cam"].astype(np.float64)
    correlations = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(cam, wanted)]  # noqa: B905 (Python 3.8)
    largest = np.abs(reference["logits"]).max()
    return {
        "logits": float(np.abs(logits - reference["logits"]).max() / largest),
        "cam": float(np.abs(cam - wanted).max()),
        "correlation": float(min(correlations)),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--emulated", action="store_true", help="compare the answers only")
    options = parser.parse_args()
    started = time.perf_counter()
    explained = open_session(os.path.join(options.bundle, "explained.onnx"), options.threads)
    load = 1e3 * (time.perf_counter() - started)
    reference = np.load(os.path.join(options.bundle, "reference.npz"))
    figures = {
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "onnxruntime": onnxruntime.__version__,
        "emulated": options.emulated,
        "threads": options.threads,
        "parity": parity(explained, reference),
        "minutes": None,
    }
    if not options.emulated:
        plain = open_session(os.path.join(options.bundle, "plain.onnx"), options.threads)
        image, predicted = reference["image"][:1], np.array([-1], np.int64)
        runs = {
            "plain": lambda: plain.run(None, {"image": image}),
            "explained": lambda: explained.run(None, {"image": image, "class_idx": predicted}),
        }
        for _ in range(WARM_UP):
            for run in runs.values():
                run()
        minutes = max(1, round(options.minutes))
        seconds = 60 * options.minutes / minutes
        figures["load_ms"] = load
        figures["minutes"] = [measure_minute(runs, seconds) for _ in range(minutes)]
    json.dump(figures, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
