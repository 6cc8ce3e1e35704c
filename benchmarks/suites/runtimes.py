"""What an explanation costs in each runtime: explained over plain, both exported to it."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks import tables
from benchmarks.artifacts import EAGER, Artifact, available_runtimes, ensure_artifacts, takes_one_image
from benchmarks.isolation import Figures, MeasurementError, isolated
from benchmarks.results import Row
from benchmarks.subjects import MODELS, VARIANTS, Subject
from benchmarks.suites.suite import Settings, Suite, Task
from benchmarks.timing import QUICK, Effort, measure_first_calls, measure_memory, measure_pairs
from benchmarks.webassembly import WEBASSEMBLY, is_available, measure_in_node

EVERYWHERE = (EAGER, "torchscript", "onnx")
# These take a minute or more to compile, or need a package of their own: two networks unless asked for.
SOME = ("aotinductor", "openvino", "executorch")
SOME_MODELS = ("resnet18", "mobilenet_v3_large", "tf_efficientnet_lite0")
FIVE_MODELS = ("resnet18", "mobilenet_v3_large", "efficientnet_b0", "vit_b_16")
BATCHES = (1, 8)
THROUGHPUT_BATCHES = (2, 4, 16, 32)
MEMORY_BATCH = 8


def tasks(settings: Settings) -> list[Task]:
    """One row for each network, what is explained of it, and runtime."""
    found = []
    for model in settings.chosen(list(MODELS)):
        for layer in VARIANTS:
            for runtime in _runtimes(settings, model, layer):
                subject = Subject(model, layer, settings.size)
                key = f"{subject.key}/{runtime}" + ("" if settings.threads == 1 else f"/{settings.threads} threads")
                found.append(Task(key, partial(measure_one, subject, runtime, settings)))
    return found


def _runtimes(settings: Settings, model: str, layer: str) -> list[str]:
    if settings.runtimes is not None:
        return list(settings.runtimes)
    if layer == "five":
        asked = [EAGER, "onnx"] if model in FIVE_MODELS else []
    else:
        asked = list(EVERYWHERE)
        if not settings.quick and model in SOME_MODELS:
            asked += SOME
    return available_runtimes(asked) + [WEBASSEMBLY] * (layer != "five" and not settings.quick and is_available())


def measure_one(subject: Subject, runtime: str, settings: Settings) -> Row:
    """One row: artifacts are built where they are missing, then timed in a fresh process."""
    written = "onnx" if runtime == WEBASSEMBLY else runtime
    together = EVERYWHERE if written in EVERYWHERE else [written]  # lowered once
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
    return measure_in_node(plain, explained, settings.effort())


def _measure_runtime(plain: Artifact, explained: Artifact, settings: Settings) -> Figures:
    subject, runtime = plain.subject, plain.runtime
    deep = subject.layer == "last"  # the layer that is explained by default is measured in every respect
    batches = [n for n in BATCHES if n == 1 or (not takes_one_image(runtime) and subject.layer in VARIANTS)]
    throughput = THROUGHPUT_BATCHES if deep and runtime == "onnx" and not settings.quick else ()
    figures = isolated(
        measure_artifacts, plain, explained, batches, throughput, settings.effort(), settings.threads,
        threads=settings.threads,
    )  # fmt: skip
    if deep:
        batch = min(MEMORY_BATCH, batches[-1])
        figures["memory"] = {
            name: isolated(measure_artifact_memory, each, batch, settings.threads, threads=settings.threads)
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
    """Both artifacts in one fresh process, in turn."""
    repeats = 1 if effort is QUICK or plain.runtime == EAGER else 3
    image = plain.subject.images(1)
    opened: list[Any] = []

    def opening(artifact: Artifact) -> Any:
        run = artifact.open(threads)
        opened.append(run)
        return lambda: run(image)

    opening(plain)()  # imports the runtime
    first = measure_first_calls([partial(opening, plain), partial(opening, explained)], repeats)
    run_plain, run_explained = opened[-2:]

    def pairs(batch: int, effort: Effort) -> dict[str, Any]:
        images = plain.subject.images(batch)
        return measure_pairs(lambda: run_plain(images), lambda: run_explained(images), effort)

    rough = Effort(effort.seconds / 4, least=1, most=5, warm_up=1)
    return {
        "batches": {str(batch): pairs(batch, effort) for batch in batches},
        "throughput": {str(batch): _images_per_second(pairs(batch, rough), batch) for batch in throughput},
        "start": {"plain": first[0], "explained": first[1]},
        "parity": {"plain": plain.parity(), "explained": explained.parity()},
    }


def _images_per_second(measured: Mapping[str, Any], batch: int) -> dict[str, float]:
    rates = {name: batch / measured[name]["wall_ms"]["p50"] * 1e3 for name in ("plain", "explained")}
    return {**rates, "ratio": measured["ratio"]["p50"]}


def measure_artifact_memory(artifact: Artifact, batch: int, threads: int) -> Figures:
    """One artifact alone in a fresh process."""
    run = artifact.open(threads)
    images = np.ascontiguousarray(artifact.subject.images(batch))
    return measure_memory(lambda: run(images))


def markdown(rows: dict[str, Row]) -> str:
    """Ratios first, then what else was measured at the last layer."""
    good = tables.measured(rows)
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
            [row["model"], where, runtime, f"{row['floor']:.3f}", tables.ratio(one), tables.ratio(eight),
             tables.milliseconds(one, "plain"), tables.milliseconds(one, "explained"),
             tables.scientific(parity["cam"]), tables.correlation(parity["correlation"])]
        )  # fmt: skip
    return tables.table(head, lines) + "\n" + _resources(good) + tables.failed(rows)


def _resources(rows: Mapping[str, Mapping[str, Any]]) -> str:
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
            rate["8"] = _images_per_second(row["batches"]["8"], 8)
        lines.append(
            [row["model"], row["runtime"], file, f"{memory['explained']['peak_mib'] / memory['plain']['peak_mib']:.2f}",
             f"{_working(memory['explained']) / _working(memory['plain']):.2f}", f"{begun[0] / begun[1]:.2f}",
             *(f"{rate[batch]['explained']:.1f}" if batch in rate else "" for batch in ("8", "32"))]
        )  # fmt: skip
    return "Explained over plain, and throughput of the explained:\n\n" + tables.table(head, lines) if lines else ""


def _working(memory: Mapping[str, float]) -> float:
    return max(memory["peak_mib"] - memory["before_mib"], 1.0)


SUITE = Suite("What does an explanation cost in each runtime, over the plain network in the same?", tasks, markdown)
