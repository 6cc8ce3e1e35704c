"""Measure the cost of an explanation in each runtime: explained over plain, both exported to it."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks import tables
from benchmarks.artifacts import EAGER, Artifact, ensure_artifacts, find_available_runtimes, takes_one_image
from benchmarks.isolation import Figures, MeasurementError, run_isolated
from benchmarks.results import Row
from benchmarks.subjects import MODELS, VARIANTS, Subject
from benchmarks.suites.suite import Settings, Suite, Task
from benchmarks.timing import QUICK, Effort, measure_first_calls, measure_memory, measure_pairs
from benchmarks.webassembly import WEBASSEMBLY, is_available, measure_in_node

EVERYWHERE = (EAGER, "torchscript", "onnx")
# These take a minute or more to compile, or need another package: few networks by default.
SOME = ("aotinductor", "openvino", "executorch")
SOME_MODELS = ("resnet18", "mobilenet_v3_large", "tf_efficientnet_lite0")
FIVE_MODELS = ("resnet18", "mobilenet_v3_large", "efficientnet_b0", "vit_b_16")
BATCHES = (1, 8)
THROUGHPUT_BATCHES = (2, 4, 16, 32)
MEMORY_BATCH = 8


def list_tasks(settings: Settings) -> list[Task]:
    """One row for each network, variant and runtime."""
    found = []
    for model in settings.choose_models(list(MODELS)):
        for layer in VARIANTS:
            for runtime in _choose_runtimes(settings, model, layer):
                subject = Subject(model, layer, settings.size)
                key = f"{subject.key}/{runtime}" + ("" if settings.threads == 1 else f"/{settings.threads} threads")
                found.append(Task(key, partial(measure_one, subject, runtime, settings)))
    return found


def _choose_runtimes(settings: Settings, model: str, layer: str) -> list[str]:
    if settings.runtimes is not None:
        return list(settings.runtimes)
    if layer == "five":
        asked = [EAGER, "onnx"] if model in FIVE_MODELS else []
    else:
        asked = list(EVERYWHERE)
        if not settings.quick and model in SOME_MODELS:
            asked += SOME
    return find_available_runtimes(asked) + [WEBASSEMBLY] * (layer != "five" and not settings.quick and is_available())


def measure_one(subject: Subject, runtime: str, settings: Settings) -> Row:
    """Measure one row: build the missing artifacts, then time them in a new process."""
    written = "onnx" if runtime == WEBASSEMBLY else runtime
    together = EVERYWHERE if written in EVERYWHERE else [written]  # these share one lowering
    built = ensure_artifacts(subject, list(together), settings.scratch)
    plain = Artifact(subject, written, False, settings.scratch)
    explained = replace(plain, explained=True)
    measure = _measure_webassembly if runtime == WEBASSEMBLY else _measure_runtime
    return {
        "model": subject.model,
        "layer": built["layer"],
        "where": subject.layer,
        "runtime": runtime,
        "threads": settings.threads,
        **{name: built[name] for name in ("floor", "flops", "lower_cpu_s")},
        "export_cpu_s": built["export_cpu_s"].get(written),
        "size_bytes": {"plain": plain.size, "explained": explained.size},
        **measure(plain, explained, settings),
    }


def _measure_webassembly(plain: Artifact, explained: Artifact, settings: Settings) -> Figures:
    if settings.threads != 1:
        raise MeasurementError("WebAssembly is measured on one thread")
    return measure_in_node(plain, explained, settings.choose_effort())


def _measure_runtime(plain: Artifact, explained: Artifact, settings: Settings) -> Figures:
    subject, runtime = plain.subject, plain.runtime
    deep = subject.layer == "last"  # the default layer is measured in every respect
    batches = [n for n in BATCHES if n == 1 or (not takes_one_image(runtime) and subject.layer in VARIANTS)]
    throughput = THROUGHPUT_BATCHES if deep and runtime == "onnx" and not settings.quick else ()
    figures = run_isolated(
        measure_artifacts, plain, explained, batches, throughput, settings.choose_effort(), settings.threads,
        threads=settings.threads,
    )  # fmt: skip
    if deep:
        batch = min(MEMORY_BATCH, batches[-1])
        figures["memory"] = {
            name: run_isolated(measure_artifact_memory, each, batch, settings.threads, threads=settings.threads)
            for name, each in (("plain", plain), ("explained", explained))
        }
    return figures


def measure_artifacts(
    plain: Artifact,
    explained: Artifact,
    batches: list[int],
    throughput: tuple[int, ...],
    effort: Effort,
    threads: int,
) -> Figures:
    """Time both artifacts in turn, in one new process."""
    repeats = 1 if effort is QUICK or plain.runtime == EAGER else 3
    image = plain.subject.make_images(1)
    opened: list[Any] = []

    def open_artifact(artifact: Artifact) -> Any:
        run = artifact.open(threads)
        opened.append(run)
        return lambda: run(image)

    open_artifact(plain)()  # imports the runtime
    first = measure_first_calls([partial(open_artifact, plain), partial(open_artifact, explained)], repeats)
    run_plain, run_explained = opened[-2:]

    def time_pairs(batch: int, effort: Effort) -> dict[str, Any]:
        images = plain.subject.make_images(batch)
        return measure_pairs(lambda: run_plain(images), lambda: run_explained(images), effort)

    rough = Effort(effort.seconds / 4, least=1, most=5, warm_up=1)
    return {
        "batches": {str(batch): time_pairs(batch, effort) for batch in batches},
        "throughput": {str(batch): _compute_images_per_second(time_pairs(batch, rough), batch) for batch in throughput},
        "start": {"plain": first[0], "explained": first[1]},
        "parity": {"plain": plain.measure_parity(), "explained": explained.measure_parity()},
    }


def _compute_images_per_second(measured: Mapping[str, Any], batch: int) -> dict[str, float]:
    rates = {name: batch / measured[name]["wall_ms"]["p50"] * 1e3 for name in ("plain", "explained")}
    return {**rates, "ratio": measured["ratio"]["p50"]}


def measure_artifact_memory(artifact: Artifact, batch: int, threads: int) -> Figures:
    """Measure the memory of one artifact, alone in a new process."""
    run = artifact.open(threads)
    images = np.ascontiguousarray(artifact.subject.make_images(batch))
    return measure_memory(lambda: run(images))


def to_markdown(rows: dict[str, Row]) -> str:
    """Write the ratios, then the other figures of the last layer."""
    good = tables.select_measured(rows)
    head = [
        "network",
        "layer",
        "runtime",
        "floor",
        "batch 1",
        "batch 8",
        "plain ms",
        "explained ms",
        "map",
        "correlation",
    ]
    lines = []
    for row in good.values():
        one, eight, parity = row["batches"].get("1"), row["batches"].get("8"), row["parity"]["explained"]
        where = f"{row['layer']}, five classes" if row["where"] == "five" else row["layer"]
        runtime = row["runtime"] if row["threads"] == 1 else f"{row['runtime']}, {row['threads']} threads"
        lines.append(
            [row["model"], where, runtime, f"{row['floor']:.3f}", tables.format_ratio(one), tables.format_ratio(eight),
             tables.format_milliseconds(one, "plain"), tables.format_milliseconds(one, "explained"),
             tables.format_scientific(parity["cam"]), tables.format_correlation(parity["correlation"])]
        )  # fmt: skip
    return tables.make_table(head, lines) + "\n" + _make_resource_table(good) + tables.list_failed(rows)


def _make_resource_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    head = [
        "network, last layer",
        "runtime",
        "file",
        "peak memory",
        "working memory",
        "start",
        "images/s at 8",
        "at 32",
    ]
    lines = []
    for row in rows.values():
        if "memory" not in row:
            continue
        size, memory, start = row["size_bytes"], row["memory"], row["start"]
        file = "" if size["plain"] is None else f"{size['explained'] / size['plain']:.3f}"
        begun = [start[name]["load_cpu_ms"] + start[name]["first_call_cpu_ms"] for name in ("explained", "plain")]
        rate = {**row["throughput"]}
        if "8" in row["batches"]:
            rate["8"] = _compute_images_per_second(row["batches"]["8"], 8)
        lines.append(
            [row["model"], row["runtime"], file, f"{memory['explained']['peak_mib'] / memory['plain']['peak_mib']:.2f}",
             f"{_compute_working(memory['explained']) / _compute_working(memory['plain']):.2f}",
             f"{begun[0] / begun[1]:.2f}",
             *(f"{rate[batch]['explained']:.1f}" if batch in rate else "" for batch in ("8", "32"))]
        )  # fmt: skip
    return (
        "Explained over plain, and throughput of the explained:\n\n" + tables.make_table(head, lines) if lines else ""
    )


def _compute_working(memory: Mapping[str, float]) -> float:
    return max(memory["peak_mib"] - memory["before_mib"], 1.0)


SUITE = Suite(
    "What does an explanation cost in each runtime, over the plain network in the same?", list_tasks, to_markdown
)
