"""Writes the places of maps as boxes in the format of COCO, which labeling tools read."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from explainable_model.report.run_table import RunTable, read_run
from explainable_model.writing import write_bytes

ROWS_AT_ONCE = 100_000
Record = dict[str, Any]


def write_coco(run: str | Path, path: str | Path) -> int:
    """Write a box for each photo: around every cell of its map of at least half the maximum.

    FiftyOne, CVAT, Label Studio and pycocotools read the format. A box says where the network looked; it is no
    detection.

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
            if (box := make_box(table, number, row)) is not None:
                boxes.append({"id": len(boxes) + 1, "image_id": number + 1, **box})
    classes = sorted({box["category_id"] for box in boxes} | set(table.names))
    content = {
        "info": {"description": "Boxes at half the maximum of class activation maps"},
        "images": images,
        "categories": [{"id": index, "name": table.name(index)} for index in classes],
        "annotations": boxes,
    }
    write_bytes(path, json.dumps(content, ensure_ascii=False).encode("utf-8", "replace"))
    return len(boxes)


def make_box(table: RunTable, number: int, row: Record) -> Record | None:
    """The box of a row; ``None`` where it has none that lies in the photo."""
    edges = row["half_max_box"]
    if (
        table.failed[number]
        or not edges
        or None in edges
        or not np.isfinite(edges).all()
        or not (row["width"] and row["height"])
    ):
        return None
    left, top, right, bottom = (
        min(max(float(edge), 0.0), float(side))
        for edge, side in zip(edges, (row["width"], row["height"]) * 2, strict=True)
    )
    if right <= left or bottom <= top:
        return None
    width, height = right - left, bottom - top
    return {
        "category_id": int(table.explained[number]),
        "bbox": [left, top, width, height],
        "area": width * height,
        "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
        "iscrowd": 0,
        "score": float(row["score"]),
    }
