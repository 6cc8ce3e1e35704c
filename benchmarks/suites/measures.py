"""Measure the cost of a measure beside Quantus: pixel flipping in 32 steps of the Grad-CAM map of one photo.

Quantus is under the LGPL and no dependency of anything here: ``pip install --no-deps quantus cachetools``.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import tables
from benchmarks.isolation import Figures, run_isolated
from benchmarks.results import Row
from benchmarks.suites.suite import Settings, Suite, Task
from benchmarks.timing import time_on_host
from explainable_model import ExplainableModel, NamedModel, export, load
from explainable_model.demo import demo_photos, efficientnet_lite0
from explainable_model.evaluation import Evaluation, evaluate, explain_func
from explainable_model.imaging.preprocess import open_photo

LAYER, STEPS, MEASURE = "bn2", 32, "pixel_flipping"
OURS, QUANTUS = "explainable_model", "Quantus"


def list_tasks(settings: Settings) -> list[Task]:
    """One row for each library and runtime."""
    rows: Sequence[tuple[str, Callable[[int], Figures]]] = (
        (f"{OURS}, ONNX Runtime", measure_file),
        (f"{OURS}, PyTorch", measure_network),
        (f"{QUANTUS}, PyTorch", measure_quantus),
    )
    arguments = settings.threads, settings.scratch
    return [Task(key, lambda measure=measure: run_isolated(measure, *arguments)) for key, measure in rows]  # type: ignore[misc]


def measure_file(threads: int, scratch: Path) -> Figures:
    """Measure an artifact in its own runtime."""
    path = scratch / "measured.onnx"
    named = _load(threads)
    scratch.mkdir(parents=True, exist_ok=True)
    wrapper = ExplainableModel(named.model, LAYER, upsample="bicubic")
    export(wrapper, path, _prepare(named), preprocess=named.preprocess)
    session = load(path, threads=threads)
    return _time(lambda measure: evaluate(session, _photo(), measures=[measure]), "gradcam")


def measure_network(threads: int, _: Path) -> Figures:
    """Measure the network itself."""
    named = _load(threads)
    return _time(lambda measure: evaluate(named, _photo(), measures=[measure], layers=[LAYER]), f"gradcam at {LAYER}")


def measure_quantus(threads: int, _: Path) -> Figures:
    """Measure the same map with Quantus, which is given it: its time has no part of making it."""
    import quantus
    import torch

    named = _load(threads)
    images = _prepare(named)
    with torch.no_grad():
        scores = named.model(images).softmax(1).numpy()
    classes, images = scores.argmax(1), images.numpy()
    maps = explain_func(named.model, images, classes, target_layer=LAYER, upsample="bicubic")
    metric = quantus.PixelFlipping(
        features_in_step=maps[0].size // STEPS,
        perturb_baseline=0.0,
        normalise=False,
        disable_warnings=True,
    )
    curves: list[Any] = []
    sample = time_on_host(lambda: curves.extend(metric(named.model, images, classes, maps, softmax=True)))
    curve = np.append(scores.max(), curves[0])  # Quantus leaves the unchanged image out
    return {
        "seconds": sample.cpu / 1e3,
        "area": float(np.mean((curve[1:] + curve[:-1]) / 2)),
        "version": quantus.__version__,
    }


def _load(threads: int) -> NamedModel:
    import torch

    torch.set_num_threads(threads)
    return replace(efficientnet_lite0(), output_kind="logits")


def _photo() -> Path:
    return demo_photos()[0]


def _prepare(named: NamedModel) -> Any:
    import torch

    assert named.preprocess is not None
    return torch.from_numpy(named.preprocess(open_photo(_photo())))


def _time(run: Callable[[str], Evaluation], candidate: str) -> Figures:
    run("complexity")  # opens sessions and caches
    found: list[Evaluation] = []
    sample = time_on_host(lambda: found.append(run(MEASURE)))
    values = {row["candidate"]: row["values"][MEASURE] for row in found[0].rows}
    return {"seconds": sample.cpu / 1e3 / len(values), "area": values[candidate]}  # two maps know nothing


def to_markdown(rows: dict[str, Row]) -> str:
    """Write CPU seconds per map, how many times as long as the fastest, and the value."""
    good = tables.select_measured(rows)
    least = min((row["seconds"] for row in good.values()), default=0.0)
    lines = []
    for name, row in good.items():
        lines.append([name, f"{row['seconds']:.2f}", f"{row['seconds'] / least:.1f}", f"{row['area']:.3f}"])
    heads = ["pixel flipping, 32 steps", "CPU s per map", "times the least", "area"]
    return tables.make_table(heads, lines) + tables.list_failed(rows)


SUITE = Suite("What does a measure of a map cost, beside Quantus?", list_tasks, to_markdown)
