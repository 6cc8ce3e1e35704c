"""The content of the page of a detector's run: figures of all boxes, and the boxes of the photos that are shown."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.report.box_columns import MEASURES, BoxColumns
from explainable_model.report.columns import cut
from explainable_model.report.payload import (
    BINS,
    Record,
    describe_head,
    pack_map,
    round_all,
    round_number,
)
from explainable_model.report.run_table import RunTable

MOST_MAPS = 10  # of a photo on the page
MOST_BOXES = 300  # of a photo on the page, in about 100 bytes each
FINEST_BOX_MAP = 16  # cells a side, since a photo has several maps
OUTSIDE = 0.5  # a map with a smaller share inside its box looks elsewhere


def describe_box_run(table: RunTable, boxes: BoxColumns, title: str) -> Record:
    """Describe the whole run: counts, classes, and how much of each map lies inside its box."""
    answered = ~table.failed
    return {
        **describe_head(table, title),
        "empty": int(boxes.is_empty().sum()),
        "unsure": None,
        "accuracy": None,
        "classes": _describe_classes(table, boxes),
        "strengths": _count_shares(boxes),
        "detection": {
            "boxes": len(boxes),
            "bare": int((answered & (boxes.find_best(len(table)) < 0)).sum()),
            "outside": int((boxes.inside < OUTSIDE).sum()),
        },
    }


def _describe_classes(table: RunTable, boxes: BoxColumns) -> list[Record]:
    found = []
    for label in np.unique(boxes.label).tolist():
        chosen = boxes.label == label
        shares = boxes.inside[chosen & np.isfinite(boxes.inside)]
        found.append(
            {
                "name": table.name(label),
                "boxes": int(chosen.sum()),
                "photos": len(np.unique(boxes.row[chosen])),
                "score": round_number(float(boxes.score[chosen].mean(dtype=np.float64))),
                "inside": round_number(float(np.median(shares))) if len(shares) else None,
                "empty": int((chosen & boxes.is_empty()).sum()),
            }
        )
    return sorted(found, key=lambda one: -one["boxes"])


def _count_shares(boxes: BoxColumns) -> Record | None:
    """Count boxes by the share of their maps that lies inside them."""
    shares = boxes.inside[np.isfinite(boxes.inside)].clip(0, 1)
    if not len(shares):
        return None
    none = [0] * BINS
    return {"low": 0.0, "high": 1.0, "counts": [none, none, np.histogram(shares, BINS, (0, 1))[0].tolist()]}


def describe_box_row(table: RunTable, number: int, row: Mapping[str, Any], picture: str, missing: str) -> Record:
    """Describe one photo of the page with its boxes; arguments as of ``describe_row``."""
    found: Record = {"id": cut(row.get("name") or row["id"]), "right": -1}
    if row["label"] is not None:
        found["label"] = cut(row["label"])
    if table.failed[number]:
        return {**found, "error": cut(table.damaged.get(number) or row["error"] or "no answer")}
    boxes = row["boxes"] or []
    found |= {"crop": round_all(table.crop[number]), "size": [row["width"] or 4, row["height"] or 3]}
    found["boxes"] = [
        _describe_box(table, box, found["size"], rank < MOST_MAPS) for rank, box in enumerate(boxes[:MOST_BOXES])
    ]
    if len(boxes) > MOST_BOXES:
        found["more"] = len(boxes) - MOST_BOXES
    return {**found, "picture": picture} if picture else {**found, "missing": missing}


def describe_cut(boxes: BoxColumns, shown: NDArray[np.int64]) -> list[str]:
    """Say that photos of the page have more boxes than it holds; nothing where none has."""
    counts = np.bincount(boxes.row, minlength=1)
    many = int((counts[shown[shown < len(counts)]] > MOST_BOXES).sum())
    return [
        f"{many:,} of the photos have more than {MOST_BOXES} boxes; this page, its filters and its CSV have the best "
        f"{MOST_BOXES} of each. The rows of the run and every figure have all."
    ] * bool(many)


def _describe_box(table: RunTable, box: Mapping[str, Any], size: list[int], has_map: bool) -> Record:
    edges = np.clip(np.array(box["box"], np.float64) / [*size, *size], 0, 1)
    found: Record = {"class": table.name(box["class"]), "score": round_number(box["score"]), "box": round_all(edges)}
    measures = ((key, round_number(box[key])) for key in MEASURES)
    found |= {key: value for key, value in measures if value is not None}
    if (np.frombuffer(box["cam"], np.uint8) == (box["cam_zero"] or 0)).all():
        return {**found, "empty": True}
    return {**found, **pack_map(box, FINEST_BOX_MAP)} if has_map else found
