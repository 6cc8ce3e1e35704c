"""The table of the quality of maps, in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.tables import make_table
from explainable_model import METHODS
from explainable_model.evaluation import MEASURES

ARROWS = {"larger": "↑", "smaller": "↓", "neither": ""}
TABLES: Mapping[str, Sequence[str]] = {
    "Does the map depend on the class and on the weights?": (
        *("class_sensitivity", "discrimination", "grid_pointing", "randomization"),
    ),
    "Does it lie on the object?": ("pointing_game", "energy_in_mask", "iou"),
    "Does the score depend on what it marks?": (
        *("insertion", "deletion", "road", "pixel_flipping", "average_drop", "increase"),
    ),
    "Other measures": (
        *("adcc", "coherency", "complexity", "sparseness", "max_sensitivity", "infidelity"),
        "faithfulness_correlation",
    ),
}
INTRODUCTION = """\
# Quality of maps

The maps of EfficientNet-Lite0 with ImageNet weights on composites of photos: an object cut out of one photo, 100 to
140 of 224 pixels long, on a photo of grass, gravel or bricks. The class is the predicted one; a composite is kept only
where the network names the same class for the object on gray. The objects are photos of Tux Paint's stamps (GPL-2; the
Debian package `tuxpaint-stamps-default`), the backgrounds photos of scikit-image (CC0). `python -m benchmarks quality`
makes the composites, measures, and writes this page; [quality.json](quality.json) has the same figures.

A cell is the mean over photos and its 95 % bootstrap interval. The last column counts the photos, or the mosaics of
four of them. ↑ larger is better, ↓ smaller is better. Intervals that overlap leave the order open. `random map` and
`center map` know neither the photo nor the network: a method that does not beat them on a measure shows nothing by it.
A row without a layer explains at the image, or at the default layer, `bn2`. `rise` draws 500 masks.
[The measures](../../docs/evaluation.md#the-measures) have their formulas, [the methods](../../docs/methods.md) their
cost. `randomization` permutes the weights of all layers, the first one too; how much the later ones alone matter,
`randomize_by_layer` shows.
"""


def to_markdown(found: Mapping[str, Any]) -> str:
    """Write the tables of ``quality.json``."""
    parts = [INTRODUCTION]
    for title, every in TABLES.items():
        measures = [measure for measure in every if any(measure in row for row in found["rows"].values())]
        rows = [_list_cells(name, row, measures) for name, row in found["rows"].items() if set(measures) & set(row)]
        if rows:
            heads = [f"{measure} {ARROWS[MEASURES[measure].better]}".strip() for measure in measures]
            parts += [f"## {title}\n", make_table(["", *heads, "photos"], rows)]
    measured = {name.partition(" at ")[0] for name in found["rows"]}
    missing = [name for name, method in METHODS.items() if not method.needs_tokens and name not in measured]
    if missing:
        parts.append(f"Without a figure: {', '.join(f'`{name}`' for name in missing)}.\n")
    versions = found["environment"]
    parts.append(
        f"torch {versions['torch']}, timm {versions['timm']}, onnxruntime {versions['onnxruntime']}; seed 0.\n"
    )
    return "\n".join(parts)


def _list_cells(name: str, row: Mapping[str, Mapping[str, float]], measures: Sequence[str]) -> list[str]:
    cells = [_format(row[measure]) if measure in row else "" for measure in measures]
    counts = sorted({int(row[measure]["photos"]) for measure in measures if measure in row})
    return [name, *cells, " or ".join(map(str, counts))]


def _format(value: Mapping[str, float]) -> str:
    return f"{value['mean']:.2f} ({value['low']:.2f} to {value['high']:.2f})"
