"""Measure the cost of each method: one eager call over the network's forward. The README's table shows the figures."""

import torch

from benchmarks import tables
from benchmarks.isolation import Figures, run_isolated
from benchmarks.results import Row
from benchmarks.suites.suite import Settings, Suite, Task
from benchmarks.timing import Effort, measure_pairs, time_on_host
from explainable_model import METHODS, ExplainableModel
from explainable_model.demo import efficientnet_lite0

ONCE = 8.0  # a call of more seconds is measured once
QUICK_METHODS = ("gradcam", "eigencam")


def list_tasks(settings: Settings) -> list[Task]:
    """One row per method."""
    names = QUICK_METHODS if settings.quick else METHODS
    effort = settings.choose_effort(6.0)
    return [
        Task(name, lambda name=name: run_isolated(measure_method, name, effort, settings.threads)) for name in names
    ]  # type: ignore[misc]


def measure_method(name: str, effort: Effort, threads: int) -> Figures:
    """Time forward and explanation in turn: on EfficientNet-Lite0, or on DeiT-Tiny for methods of transformers."""
    torch.set_num_threads(threads)
    transformer = METHODS[name].needs_tokens
    model = _build_deit() if transformer else efficientnet_lite0().model
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    explainable = ExplainableModel(model, None, name)
    explainable(image)  # the first call finds the layer, and some methods capture the graph for this size of image

    def forward() -> None:
        with torch.no_grad():
            model(image)

    forward()
    first = time_on_host(lambda: explainable(image))
    if first.wall > ONCE * 1e3:
        effort = Effort(seconds=0, least=1, most=1, warm_up=0)
        before = [time_on_host(forward).cpu for _ in range(9)]
        seconds, runs = first.cpu / 1e3, 1
        forward_seconds = sorted(before)[4] / 1e3
        cost = seconds / forward_seconds
    else:
        measured = measure_pairs(forward, lambda: explainable(image), effort)
        cost, runs = measured["ratio"]["p50"], measured["pairs"]
        seconds, forward_seconds = (measured[n]["cpu_ms"]["p50"] / 1e3 for n in ("explained", "plain"))
    return {
        "network": "DeiT-Tiny" if transformer else "EfficientNet-Lite0",
        "cost": cost,
        "seconds": seconds,
        "forward_seconds": forward_seconds,
        "runs": runs,
    }


def _build_deit() -> torch.nn.Module:
    import timm

    torch.manual_seed(0)
    model: torch.nn.Module = timm.create_model("deit_tiny_patch16_224").eval()
    return model


def to_markdown(rows: dict[str, Row]) -> str:
    """Write the figures of the README's table."""
    good = tables.select_measured(rows)
    lines = [[name, row["network"], f"{row['cost']:.2f}", row["runs"]] for name, row in good.items()]
    return tables.make_table(["method", "network", "cost in forwards", "runs"], lines) + tables.list_failed(rows)


SUITE = Suite("What does each method cost, in forwards of the network?", list_tasks, to_markdown)
