"""Writes a run as tasks with pre-annotations of Label Studio: class and hot place, or the boxes of a detector."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from explainable_model.report.coco import ROWS_AT_ONCE, make_boxes
from explainable_model.report.run_reader import read_run
from explainable_model.report.run_table import RunTable
from explainable_model.writing import write_bytes

CONFIG = """<View>
  <Image name="image" value="$image"/>
  <Choices name="class" toName="image" choice="single">{choices}</Choices>
  <RectangleLabels name="place" toName="image">{labels}</RectangleLabels>
</View>
"""
BOX_CONFIG = """<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="place" toName="image">{labels}</RectangleLabels>
</View>
"""
Task = dict[str, Any]


def write_label_studio(run: str | Path, path: str | Path, *, root: str = "") -> int:
    """Write a task for each photo, whose prediction holds the class and the box at half the maximum of its map.

    Import the file into a project with the interface of ``make_label_config``. The box says where the network looked;
    it is no detection. Of a detector's run, the prediction holds the boxes that it found, each with its score.

    Args:
        run: the folder that ``explainable-model batch`` wrote.
        path: the file of JSON.
        root: what stands before the id of a photo in its address, such as ``/data/local-files/?d=``; an id that is an
            address itself stays as it is.

    Returns:
        How many tasks there are; one of a photo that failed has no prediction.

    Raises:
        InputError, ArtifactError, MissingRuntimeError: as ``write_report``.

    Source: https://labelstud.io/guide/predictions: edges are per cent of the photo.
    """
    table = read_run(run)
    tasks = [
        _make_task(table, number, row, root)
        for start in range(0, len(table), ROWS_AT_ONCE)
        for number, row in table.read_rows(np.arange(start, min(start + ROWS_AT_ONCE, len(table))))
    ]
    write_bytes(path, json.dumps(tasks, ensure_ascii=False).encode("utf-8", "replace"))
    return len(tasks)


def make_label_config(run: str | Path) -> str:
    """Make the labeling interface of a project: the classes of a run as choices and as labels of boxes.

    Of a detector's run, they are labels of boxes alone.

    Args:
        run: as of ``write_label_studio``.
    """
    from xml.sax.saxutils import quoteattr

    table = read_run(run)
    found = table.explained[~table.failed] if table.boxes is None else table.boxes.label
    names = [table.name(index) for index in sorted({*table.names, *np.unique(found).tolist()})]
    return (CONFIG if table.boxes is None else BOX_CONFIG).format(
        choices="".join(f"<Choice value={quoteattr(name)}/>" for name in names),
        labels="".join(f"<Label value={quoteattr(name)}/>" for name in names),
    )


def _make_task(table: RunTable, number: int, row: dict[str, Any], root: str) -> Task:
    address = row["id"] if "://" in row["id"] else f"{root}{row['id']}"
    task: Task = {"data": {"image": address, "id": row["id"]}}
    if row["label"] is not None:
        task["data"]["label"] = row["label"]
    if table.failed[number]:
        return task
    size = {"original_width": row["width"], "original_height": row["height"], "image_rotation": 0}
    target = {"to_name": "image", **size}
    boxes = make_boxes(table, number, row)
    results = [_make_place(table, box, row, target) for box in boxes]
    if table.boxes is None:
        name, score = table.name(int(table.explained[number])), float(row["score"])
        results.insert(0, {"from_name": "class", "type": "choices", **target, "value": {"choices": [name]}})
    else:
        results = [{**result, "score": box["score"]} for result, box in zip(results, boxes, strict=True)]
        score = max((box["score"] for box in boxes), default=0.0)
    version = table.artifact.get("name", "explainable-model")
    return {**task, "predictions": [{"model_version": version, "score": score, "result": results}]}


def _make_place(table: RunTable, box: Task, row: Task, target: Task) -> Task:
    left, top, width, height = box["bbox"]
    value = {
        "x": 100 * left / row["width"],
        "y": 100 * top / row["height"],
        "width": 100 * width / row["width"],
        "height": 100 * height / row["height"],
        "rotation": 0,
        "rectanglelabels": [table.name(box["category_id"])],
    }
    return {"from_name": "place", "type": "rectanglelabels", **target, "value": value}
