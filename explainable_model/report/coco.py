"""Writes the boxes of a detector, or the places of maps, in the format of COCO, which labeling tools read."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from explainable_model.report.run_reader import read_run
from explainable_model.report.run_table import RunTable
from explainable_model.writing import write_bytes

ROWS_AT_ONCE = 100_000
HALF_MAX, DETECTED = "Boxes at half the maximum of class activation maps", "Boxes that a detector found"
Record = dict[str, Any]


def write_coco(run: str | Path, path: str | Path) -> int:
    """Write the boxes that a detector found; of a classifier, a box for each photo around its map's upper half.

    FiftyOne, CVAT, Label Studio and pycocotools read the format. The box of a classifier holds every cell of the map of
    at least half the maximum: it says where the network looked, and is no detection.

    Args:
        run: the folder that ``explainable-model batch`` wrote.
        path: the file of JSON.

    Returns:
        How many boxes there are. A photo that failed, or whose map is zero, is an image without a box.

    Raises:
        InputError, ArtifactError, MissingRuntimeError: as ``write_report``.

    Source: the format of COCO, https://cocodataset.org/#format-data: ``bbox`` is left, top, width and height in pixels,
        ids of images and boxes begin with 1; ``score`` is as in the results of a detector.
    """
    table = read_run(run)
    images: list[Record] = []
    boxes: list[Record] = []
    for start in range(0, len(table), ROWS_AT_ONCE):
        for number, row in table.read_rows(np.arange(start, min(start + ROWS_AT_ONCE, len(table)))):
            images.append(
                {"id": number + 1, "file_name": row["id"], "width": row["width"] or 0, "height": row["height"] or 0}
            )
            for box in make_boxes(table, number, row):
                boxes.append({"id": len(boxes) + 1, "image_id": number + 1, **box})
    classes = sorted({box["category_id"] for box in boxes} | set(table.names))
    content = {
        "info": {"description": HALF_MAX if table.boxes is None else DETECTED},
        "images": images,
        "categories": [{"id": index, "name": table.name(index)} for index in classes],
        "annotations": boxes,
    }
    write_bytes(path, json.dumps(content, ensure_ascii=False).encode("utf-8", "replace"))
    return len(boxes)


def make_boxes(table: RunTable, number: int, row: Record) -> list[Record]:
    """The boxes of a row that lie in the photo, as COCO writes them."""
    if table.failed[number] or not (row["width"] and row["height"]):
        return []
    if table.boxes is None:
        found = [_make_box(row["half_max_box"], row, int(table.explained[number]), row["score"])]
    else:
        found = [_make_box(box["box"], row, box["class"], box["score"]) for box in row["boxes"] or ()]
    return [box for box in found if box is not None]


def _make_box(edges: Sequence[float | None] | None, row: Record, class_idx: int, score: float) -> Record | None:
    if not edges or None in edges or not np.isfinite(np.array(edges, float)).all():
        return None
    left, top, right, bottom = (
        min(max(float(edge or 0), 0.0), float(side))
        for edge, side in zip(edges, (row["width"], row["height"]) * 2, strict=True)
    )
    if right <= left or bottom <= top:
        return None
    width, height = right - left, bottom - top
    return {
        "category_id": class_idx,
        "bbox": [left, top, width, height],
        "area": width * height,
        "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
        "iscrowd": 0,
        "score": float(score),
    }
