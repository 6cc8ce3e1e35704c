"""Run folders of made-up rows, in the schema that ``explainable-model batch`` writes."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
from numpy.typing import NDArray
from PIL import Image

from explainable_model.batch.run_folder import PART, RECORD, ROWS
from explainable_model.batch.schema import METADATA_KEY, SCHEMA_VERSION, encode_map, make_empty_row, make_schema

Row = dict[str, Any]


def make_row(
    name: str,
    cam: NDArray[Any] | None = None,
    *,
    class_idx: int = 0,
    score: float = 0.9,
    label: str | None = None,
    names: Sequence[str] = ("cat", "dog", "owl"),
    photo: Path | None = None,
    size: tuple[int, int] = (64, 48),
    signed: bool = False,
    **changes: Any,
) -> Row:
    """One row with an answer, or with the ``error`` in ``changes``."""
    row = {**make_empty_row(), "id": name, "artifact": "0" * 64, "version": "0.1.0", "label": label}
    if photo is not None:
        with Image.open(photo) as picture:
            size = picture.size
        row |= {"uri": str(photo.resolve()), "sha256": hashlib.sha256(photo.read_bytes()).hexdigest()}
    if "error" in changes:
        return {**row, **changes}
    values = np.eye(7) if cam is None else cam
    width, height = size
    other = (class_idx + 1) % len(names)
    top = [{"class": n, "name": names[n], "score": s} for n, s in ((class_idx, score), (other, (1 - score) / 2))]
    row |= encode_map(values, signed=signed)
    row |= {"class": class_idx, "name": names[class_idx], "score": score, "score_kind": "probability", "top_k": top}
    row |= {"width": width, "height": height, "crop": [0.0, 0.0, float(width), float(height)], "milliseconds": 20.0}
    row |= {"peak_x": 1.0, "peak_y": 1.0, "entropy": 0.5, "hottest_tenth": 0.4, "half_max_box": [0.0, 0.0, 9.0, 9.0]}
    return {**row, **changes}


def make_box(edges: Sequence[float], values: NDArray[Any] | None = None, label: int = 0, **changes: Any) -> Row:
    """A box of a detector with a map of these values, of a class of ``make_row``."""
    values = np.eye(7) if values is None else values
    described = {"entropy": 0.5, "hottest_tenth": 0.4, "inside": 0.75, "peak_x": 1.0, "peak_y": 1.0}
    found = {"box": list(edges), "class": label, "name": ("cat", "dog", "owl")[label], "score": 0.9}
    return {**found, **encode_map(values, signed=False), **described, "half_max_box": [0.0, 0.0, 9.0, 9.0], **changes}


def make_box_row(name: str, boxes: Sequence[Row | None] = (), **options: Any) -> Row:
    """The row of a detector's photo; options as of ``make_row``."""
    row = make_row(name, **options)
    kept = ("id", "uri", "sha256", "label", "width", "height", "crop", "milliseconds", "error", "artifact", "version")
    boxes_or_none = None if row["error"] is not None else [*boxes]
    return {**make_empty_row(), **{key: row[key] for key in kept}, "boxes": boxes_or_none}


def write_run(
    folder: Path,
    rows: Iterable[Row],
    *,
    class_names: Sequence[str] | None = ("cat", "dog", "owl"),
    part_rows: int = 1000,
    schema_version: int = SCHEMA_VERSION,
    schema: pyarrow.Schema | None = None,
    artifact: str = "net.onnx",
    **record_changes: Any,
) -> Path:
    """Write rows as a run folder."""
    record = {
        "schema_version": schema_version,
        "class_names": class_names,
        "artifact": {"name": artifact},
        **record_changes,
    }
    (folder / ROWS).mkdir(parents=True)
    (folder / RECORD).write_text(json.dumps(record), "utf-8")
    kept = list(rows)
    stored = (schema or make_schema()).with_metadata({METADATA_KEY: json.dumps(record).encode()})
    for number, start in enumerate(range(0, max(len(kept), 1), part_rows)):
        table = pyarrow.Table.from_pylist(kept[start : start + part_rows], stored)
        parquet.write_table(table, folder / ROWS / PART.format(number))
    return folder


def blob(y: float, x: float, *, side: int = 7, width: float = 1.0) -> NDArray[np.float64]:
    """A map that is hot around one cell."""
    rows, columns = np.mgrid[:side, :side]
    hot: NDArray[np.float64] = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * width**2))
    return hot
