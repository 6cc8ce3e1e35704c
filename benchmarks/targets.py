"""The targets, each with its worst measured network."""

import math
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from benchmarks.results import Results, Row

HEAD = ["what", "target", "measured, worst", "where", "met", "rows that meet it"]
LAST = {"eager": 1.03, "onnx": 1.05, "torchscript": 1.03, "aotinductor": 1.03, "openvino": 1.05, "executorch": 1.05,
        "webassembly": 1.05}  # fmt: skip
ABOVE_FLOOR = {"eager": 1.10, "onnx": 1.15, "torchscript": 1.15, "aotinductor": 1.15}
# Pooling and one linear layer follow their last layer, so that the gradient is a row of the linear layer's weight.
POOLED = ("resnet18", "resnet50", "efficientnet_b0", "densenet121", "tf_efficientnet_lite0")
POOLED_LIMIT = 1.02
FIVE, MEMORY, SIZE, START = 1.08, 1.10, 1.02, 1.10
SECONDS = {"lower_cpu_s": 5.0, "export_cpu_s": 15.0}
OURS, PEER = "explainable_model", "pytorch-grad-cam"
FASTER = {"scorecam": 5.0, "ablationcam": 10.0}

FAILED = math.inf
"""Stands for the value of a failed row, which meets no target."""

Values: TypeAlias = Iterable[tuple[str, float]]  # (row, value)


def make_rows(found: Mapping[str, Results]) -> list[list[str]]:
    """One line per target, losses included."""
    runtimes = _read_rows(found["runtimes"], ("model", "where", "runtime"))
    last = [row for row in runtimes if "memory" in row or ("failed" in row and row.get("where") == "last")]
    lines = [
        _judge_most(f"{name}, last layer", limit, _list_ratios(runtimes, name, "last")) for name, limit in LAST.items()
    ]
    pooled = [row for row in runtimes if row["model"] in POOLED]
    lines.append(
        _judge_most(
            "onnx, last layer under pooling and one linear layer", POOLED_LIMIT, _list_ratios(pooled, "onnx", "last")
        )
    )
    for name, limit in ABOVE_FLOOR.items():
        lines.append(
            _judge_most(
                f"{name}, middle layer, over the floor", limit, _list_ratios(runtimes, name, "middle", floor=True)
            )
        )
    for name in ("eager", "onnx"):
        lines.append(_judge_most(f"{name}, five classes at once", FIVE, _list_ratios(runtimes, name, "five")))
        lines.append(_judge_most(f"{name}, peak memory, last layer, batch 8", MEMORY, _list_memory(last, name)))
    lines.append(_judge_most("size of the file, last layer", SIZE, _list_sizes(last)))
    lines.append(_judge_most("onnx, load and first call", START, _list_starts(last, "onnx")))
    for name in ("onnx", "aotinductor"):
        lines.append(_judge_most(f"{name} explained over eager plain, wall clock", 1.0, _list_absolute(last, name)))
    made = [row for row in found["scaling"].rows.values() if row.get("kind") == "make" and row["model"] == "resnet50"]
    for key, limit in SECONDS.items():
        lines.append(
            _judge_most(
                f"resnet50, {key.split('_')[0]}, CPU seconds", limit, ((r["model"], r.get(key, FAILED)) for r in made)
            )
        )
    for method, limit in FASTER.items():
        lines.append(
            _judge_least(
                f"{method}, times as fast as {PEER}",
                limit,
                _list_speedups(_read_rows(found["peers"], ("model", "method", "library")), method),
            )
        )
    lines.append(_judge_most("preparation and overlay in the graph, over the host", 1.0, _list_photos(found["photos"])))
    return lines


def _list_photos(results: Results) -> Values:
    for key, row in results.rows.items():
        if "failed" in row:
            yield key, FAILED
            continue
        where = f"{row['model']}, {row['preparation']}, {'x'.join(map(str, row['photo']))}"
        yield where, row["host_against_graph"]["ratio"]["p50"]


def _read_rows(results: Results, names: tuple[str, ...]) -> list[Row]:
    """The rows; what a failed one was of is read off its key, for a failed row never meets a target."""
    return [
        {**dict(zip(names, key.split("/"), strict=False)), **row} if "failed" in row else row
        for key, row in results.rows.items()
    ]


def _judge_most(what: str, limit: float, values: Values) -> list[str]:
    found = list(values)
    worst = max(found, key=lambda pair: pair[1], default=None)
    return [what, f"≤ {limit}", *_judge(worst, [value <= limit for _, value in found])]


def _judge_least(what: str, limit: float, values: Values) -> list[str]:
    found = list(values)
    worst = min(found, key=lambda pair: pair[1], default=None)
    return [what, f"≥ {limit}", *_judge(worst, [value >= limit for _, value in found])]


def _judge(worst: tuple[str, float] | None, met: list[bool]) -> list[str]:
    if worst is None:
        return ["not measured", "", "", ""]
    where, value = worst
    return [
        "failed" if abs(value) == FAILED else f"{value:.3f}" if value < 10 else f"{value:.1f}",
        where,
        "yes" if all(met) else "no",
        f"{sum(met)} of {len(met)}",
    ]


def _list_ratios(rows: list[Row], runtime: str, where: str, *, floor: bool = False) -> Values:
    for row in rows:
        if row["runtime"] == runtime and row["where"] == where:
            if "failed" in row:
                yield row["model"], FAILED
                continue
            for batch, measured in row["batches"].items():
                yield f"{row['model']}, batch {batch}", measured["ratio"]["p50"] / (row["floor"] if floor else 1)


def _list_memory(rows: list[Row], runtime: str) -> Values:
    for row in rows:
        if row["runtime"] == runtime:
            if "failed" in row:
                yield row["model"], FAILED
                continue
            plain, explained = (row["memory"][name]["peak_mib"] for name in ("plain", "explained"))
            yield row["model"], explained / plain


def _list_sizes(rows: list[Row]) -> Values:
    for row in rows:
        size = row.get("size_bytes")
        if size is None:
            yield f"{row['model']}, {row['runtime']}", FAILED
        elif size["plain"]:
            yield f"{row['model']}, {row['runtime']}", size["explained"] / size["plain"]


def _list_starts(rows: list[Row], runtime: str) -> Values:
    for row in rows:
        if row["runtime"] == runtime:
            if "failed" in row:
                yield row["model"], FAILED
                continue
            plain, explained = (
                row["start"][name]["load_cpu_ms"] + row["start"][name]["first_call_cpu_ms"]
                for name in ("plain", "explained")
            )
            yield row["model"], explained / plain


def _list_absolute(rows: list[Row], runtime: str) -> Values:
    eager = {
        row["model"]: row["batches"]["1"]["plain"]["wall_ms"]["p50"]
        for row in rows
        if row["runtime"] == "eager" and "failed" not in row
    }
    for row in rows:
        if row["runtime"] == runtime and "failed" in row:
            yield row["model"], FAILED
        elif row["runtime"] == runtime and row["model"] in eager:
            yield row["model"], row["batches"]["1"]["explained"]["wall_ms"]["p50"] / eager[row["model"]]


def _list_speedups(rows: list[Row], method: str) -> Values:
    forwards = {(row["model"], row["library"]): row.get("forwards") for row in rows if row["method"] == method}
    for (model, library), own in forwards.items():
        if library == OURS and (model, PEER) in forwards:
            peer = forwards[model, PEER]
            yield model, -FAILED if own is None or peer is None else peer / own
