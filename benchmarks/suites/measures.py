"""Measure the cost of a measure beside Quantus: pixel flipping in 32 steps of the same Grad-CAM maps.

Quantus is under the LGPL and no dependency of anything here: ``pip install --no-deps quantus cachetools``.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
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
    threads = settings.threads
    return [Task(key, lambda measure=measure: run_isolated(measure, threads)) for key, measure in rows]  # type: ignore[misc]


def measure_file(threads: int) -> Figures:
    """Measure an artifact in its own runtime."""
    named = _load(threads)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "lite0.onnx"
        wrapper = ExplainableModel(named.model, LAYER, upsample="bicubic")
        session = load(export(wrapper, path, _prepare(named)[:1], preprocess=named.preprocess), threads=threads)
        return _time(lambda photos: evaluate(session, photos, measures=[MEASURE]), "gradcam")


def measure_network(threads: int) -> Figures:
    """Measure the network itself."""
    named = _load(threads)
    return _time(lambda photos: evaluate(named, photos, measures=[MEASURE], layers=[LAYER]), f"gradcam at {LAYER}")


def measure_quantus(threads: int) -> Figures:
    """Measure the same maps with Quantus, which is given them: its time has no part of making them."""
    import quantus
    import torch

    named = _load(threads)
    images = _prepare(named)
    with torch.no_grad():
        scores = named.model(images).softmax(1).numpy()
    classes, images = scores.argmax(1), images.numpy()
    maps = explain_func(named.model, images, classes, target_layer=LAYER, upsample="bicubic")
    metric = quantus.PixelFlipping(
        features_in_step=images[0].size // STEPS,
        perturb_baseline=0.0,
        normalise=False,
        disable_warnings=True,
    )
    curves: list[Any] = []
    sample = time_on_host(lambda: curves.extend(metric(named.model, images, classes, maps, softmax=True)))
    before = scores.max(1)  # of the unchanged images, which Quantus leaves out of its curves
    whole = np.column_stack([before, np.array(curves)])
    return {
        "seconds": sample.cpu / 1e3 / len(images),
        "areas": [float(np.mean((values[1:] + values[:-1]) / 2)) for values in whole],
        "version": quantus.__version__,
    }


def _load(threads: int) -> NamedModel:
    import torch

    torch.set_num_threads(threads)
    return replace(efficientnet_lite0(), output_kind="logits")


def _prepare(named: NamedModel) -> Any:
    import torch

    assert named.preprocess is not None
    return torch.from_numpy(np.concatenate([named.preprocess(open_photo(path)) for path in demo_photos()]))


def _time(run: Callable[[Sequence[Path]], Evaluation], candidate: str) -> Figures:
    run(demo_photos()[:1])  # opens sessions and caches
    found: list[Evaluation] = []
    sample = time_on_host(lambda: found.append(run(demo_photos())))
    rows = found[0].rows  # those of the method and two that know nothing, of each photo
    areas = [row["values"][MEASURE] for row in rows if row["candidate"] == candidate]
    return {"seconds": sample.cpu / 1e3 / len(rows), "areas": areas}


def to_markdown(rows: dict[str, Row]) -> str:
    """Write CPU seconds per map, how many times as long as the fastest, and how far the values are apart."""
    good = tables.select_measured(rows)
    least = min((row["seconds"] for row in good.values()), default=0.0)
    lines = []
    for name, row in good.items():
        values = ", ".join(f"{area:.3f}" for area in row["areas"])
        lines.append([name, f"{row['seconds']:.2f}", f"{row['seconds'] / least:.1f}", values])
    heads = ["pixel flipping, 32 steps", "CPU s per map", "times the least", "area of each photo"]
    return tables.make_table(heads, lines) + tables.list_failed(rows)


SUITE = Suite("What does a measure of a map cost, beside Quantus?", list_tasks, to_markdown)
