"""Measure how costs grow: of making with the network's depth, of running with the depth of the layer."""

import time
from functools import partial
from typing import Any

from benchmarks import tables
from benchmarks.isolation import Figures, run_isolated
from benchmarks.results import Row
from benchmarks.subjects import Subject
from benchmarks.suites import runtimes
from benchmarks.suites.suite import Settings, Suite, Task
from benchmarks.timing import Effort, measure_pairs, time_on_host

DEPTHS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
LAYERS = {
    "resnet18": ("layer1.0", "layer1.1", "layer2.0", "layer2.1", "layer3.0", "layer3.1", "layer4.0", "layer4.1"),
    "mobilenet_v3_large": tuple(f"features.{n}" for n in (1, 3, 5, 7, 9, 11, 13, 15, 16)),
}
LATENCY_RUNTIME = "onnx"
CLASSES = (1, 2, 5, 10)


def list_tasks(settings: Settings) -> list[Task]:
    """One row per network for making; one per layer and one per number of classes for running."""
    networks = settings.choose_models(DEPTHS)
    found = [Task(f"make/{name}", partial(_measure_making, name, settings)) for name in networks if name in DEPTHS]
    for model in settings.choose_models(tuple(LAYERS)):
        layers = LAYERS.get(model, ())
        for layer in layers[-1:] if settings.quick else layers:
            found.append(
                Task(f"layer/{model}/{layer}", partial(_measure_layer, Subject(model, layer, settings.size), settings))
            )
    for count in CLASSES[:1] if settings.quick else CLASSES:
        found.append(Task(f"classes/resnet18/{count}", partial(_measure_classes, count, settings)))
    return found


def _measure_making(model: str, settings: Settings) -> Row:
    figures = run_isolated(measure_making, Subject(model, size=settings.size), timeout=3600)
    return {"kind": "make", "model": model, **figures}


def measure_making(subject: Subject) -> Figures:
    """Measure the processor time of ``lower``, and of ``export`` to ONNX, which lowers, writes, loads and verifies."""
    import tempfile

    import onnxruntime  # noqa: F401 (the import comes before the clock starts)
    import torch

    from explainable_model import export, lower

    torch.set_num_threads(1)
    explainable = subject.explainable()
    image = torch.from_numpy(subject.make_images(2))
    lowered: list[Any] = []
    lowering = time_on_host(lambda: lowered.append(lower(explainable, image)))
    with tempfile.TemporaryDirectory() as folder:
        exporting = time_on_host(lambda: export(explainable, f"{folder}/model.onnx", image))
    operators = sum(node.op == "call_function" for node in lowered[0].graph_module.graph.nodes)
    return {
        "modules": sum(1 for _ in explainable.model.modules()),
        "operators": operators,
        "lower_cpu_s": lowering.cpu / 1e3,
        "export_cpu_s": exporting.cpu / 1e3,
        "measured_at": time.strftime("%Y-%m-%d"),
    }


def _measure_layer(subject: Subject, settings: Settings) -> Row:
    measured = runtimes.measure_one(subject, LATENCY_RUNTIME, settings)
    return {"kind": "layer", "position": LAYERS[subject.model].index(subject.layer), **measured}


def _measure_classes(count: int, settings: Settings) -> Row:
    return {
        "kind": "classes",
        "count": count,
        **run_isolated(
            measure_classes, Subject("resnet18", size=settings.size), count, settings.choose_effort(), settings.threads
        ),
    }


def measure_classes(subject: Subject, count: int, effort: Effort, threads: int) -> Figures:
    """Time ``count`` classes of one image at once, eager, over the plain forward."""
    import torch

    from explainable_model import ExplainableModel

    torch.set_num_threads(threads)
    model, image = subject.build(), torch.from_numpy(subject.make_images(1))
    explainable = ExplainableModel(model, None, top_k=count)

    def forward() -> None:
        with torch.no_grad():
            model(image)

    return {"model": subject.model, "batches": {"1": measure_pairs(forward, lambda: explainable(image), effort)}}


def to_markdown(rows: dict[str, Row]) -> str:
    """Write three tables."""
    good = tables.select_measured(rows)
    made = [
        [row["model"], row["modules"], row["operators"], f"{row['lower_cpu_s']:.1f}", f"{row['export_cpu_s']:.1f}"]
        for row in good.values()
        if row["kind"] == "make"
    ]
    layers = [
        [row["model"], row["layer"], f"{row['floor']:.3f}", tables.format_ratio(row["batches"]["1"]),
         f"{row['batches']['1']['ratio']['p50'] / row['floor']:.2f}",
         tables.format_scientific(row["parity"]["explained"]["cam"])]
        for row in good.values()
        if row["kind"] == "layer"
    ]  # fmt: skip
    classes = [
        [row["count"], tables.format_ratio(row["batches"]["1"])] for row in good.values() if row["kind"] == "classes"
    ]
    return "\n".join(
        [
            tables.make_table(["network", "modules", "operators", "lower, CPU s", "export to ONNX, CPU s"], made),
            tables.make_table(["network", "layer", "floor", "ONNX Runtime, batch 1", "over the floor", "map"], layers),
            tables.make_table(["classes at once, resnet18 eager", "ratio"], classes) + tables.list_failed(rows),
        ]
    )


SUITE = Suite("How do the costs grow with the network, the layer and the number of classes?", list_tasks, to_markdown)
