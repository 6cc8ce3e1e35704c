"""Draw the plots of the report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

from benchmarks.results import Results, Row
from benchmarks.tables import select_measured

FLOOR_COLOR = "black"


def draw(found: Mapping[str, Results], folder: Path) -> dict[str, str]:
    """Draw the plots that have results; the file names by title."""
    pictures = {}
    for title, name, rows, drawing in (
        (
            "runtimes: explained / plain at the last layer",
            "speed-runtimes.png",
            _select_at(found, "last"),
            draw_ratio_bars,
        ),
        (
            "scaling: cost of an explanation by layer",
            "speed-layers.png",
            _select_kind(found, "layer"),
            draw_layer_curves,
        ),
        ("scaling: making an artifact", "speed-making.png", _select_kind(found, "make"), draw_making_curves),
    ):
        if rows:
            figure = drawing(rows)
            figure.tight_layout()
            figure.savefig(folder / name, dpi=110)
            pyplot.close(figure)
            pictures[title] = name
    return pictures


def _select_at(found: Mapping[str, Results], where: str) -> list[Row]:
    rows = select_measured(found["runtimes"].rows).values()
    return [row for row in rows if row.get("where") == where and row["threads"] == 1]


def _select_kind(found: Mapping[str, Results], kind: str) -> list[Row]:
    return [row for row in select_measured(found["scaling"].rows).values() if row.get("kind") == kind]


def draw_ratio_bars(rows: Sequence[Row]) -> Any:
    """Draw one group of bars per network, one bar per runtime, with quartiles."""
    models, runtimes = (list(dict.fromkeys(row[key] for row in rows)) for key in ("model", "runtime"))
    figure, axes = pyplot.subplots(figsize=(10, 4))
    width = 0.8 / len(runtimes)
    for n, runtime in enumerate(runtimes):
        own = {row["model"]: row["batches"]["1"]["ratio"] for row in rows if row["runtime"] == runtime}
        at = [position + (n - (len(runtimes) - 1) / 2) * width for position, model in enumerate(models) if model in own]
        ratios = [own[model] for model in models if model in own]
        middle = [ratio["p50"] for ratio in ratios]
        spread = [[r["p50"] - r["p25"] for r in ratios], [r["p75"] - r["p50"] for r in ratios]]
        axes.bar(at, middle, width, yerr=spread, label=runtime, error_kw={"elinewidth": 0.7})
    axes.axhline(1, color=FLOOR_COLOR, linewidth=0.8)
    axes.set_xticks(range(len(models)), models, rotation=20, ha="right")
    axes.set_ylabel("explained / plain, batch 1")
    axes.set_ylim(bottom=0.8)
    axes.legend(ncols=3, fontsize="small")
    return figure


def draw_layer_curves(rows: Sequence[Row]) -> Any:
    """Draw the cost over the depth of the layer, and the floor: forward and backward FLOPs over forward FLOPs."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    figure, every = pyplot.subplots(1, len(models), figsize=(5 * len(models), 4), squeeze=False)
    for axes, model in zip(every[0], models, strict=True):
        own = sorted((row for row in rows if row["model"] == model), key=lambda row: row["position"])
        names = [row["layer"] for row in own]
        axes.plot(names, [row["floor"] for row in own], color=FLOOR_COLOR, linestyle="--", label="floor (FLOPs)")
        axes.plot(names, [row["batches"]["1"]["ratio"]["p50"] for row in own], "o-", label="ONNX Runtime")
        _label_axes(axes, model, "target layer", "explained / plain, batch 1")
        axes.tick_params(axis="x", rotation=45)
    return figure


def draw_making_curves(rows: Sequence[Row]) -> Any:
    """Draw the seconds over the number of operators, which grows with the depth."""
    figure, axes = pyplot.subplots(figsize=(5, 4))
    own = sorted(rows, key=lambda row: row["operators"])
    for key, label in (("lower_cpu_s", "lower"), ("export_cpu_s", "export to ONNX, verified")):
        axes.plot([row["operators"] for row in own], [row[key] for row in own], "o-", label=label)
    for row in own:
        axes.annotate(row["model"], (row["operators"], row["export_cpu_s"]), fontsize="x-small")
    _label_axes(axes, "Making an artifact", "operators of the lowered graph", "CPU seconds")
    return figure


def _label_axes(axes: Axes, title: str, horizontal: str, vertical: str) -> None:
    axes.set(title=title, xlabel=horizontal, ylabel=vertical)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize="small")
