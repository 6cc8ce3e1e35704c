"""The rows of a batch: their columns, and what the file's metadata say. Needs pyarrow only for ``make_schema``."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.errors import ArtifactError, MissingRuntimeError

SCHEMA_VERSION = 2
MOST_VALUES = 100_000  # of a list in a row
MOST_UNPACKED = 100  # times the bytes of the file: repeated names compress well
FEW_UNPACKED = 2**30
MOST_AT_ONCE = 2**28  # bytes of a column
METADATA_KEY = b"explainable_model.batch"
PROBABILITY, SCORE = "probability", "score"
MIDDLE = 128  # the byte that stands for zero in signed maps


@dataclass(frozen=True)
class Column:
    """One column of the rows.

    Attributes:
        name: in the file.
        type: of Arrow, as ``make_schema`` reads it.
        meaning: one sentence.
        nullable: whether a row may lack it; rows with an error lack what was not found.
        since: the schema that added it; null in rows of an older one.
    """

    name: str
    type: str
    meaning: str
    nullable: bool = True
    since: int = 1


BOX_COLUMNS = (
    Column("box", "box", "Left, top, right, bottom in pixels of the upright photo."),
    Column("class", "int32", "Its class, as the detector counts."),
    Column("name", "string", "Name of the class, where names are known."),
    Column("score", "float32", "As the detector says it: 0 to 1."),
    Column("cam", "binary", "The map of this box; as `cam` of a row, over the part of the photo in `crop`."),
    Column("cam_height", "int16", "Rows of the map."),
    Column("cam_width", "int16", "Columns of the map."),
    Column("cam_scale", "float32", "What one step of a byte is worth."),
    Column("cam_zero", "uint8", "The byte that stands for zero."),
    Column("peak_x", "float32", "Column in the photo of the center of the map's hottest cell."),
    Column("peak_y", "float32", "Row in the photo of the center of the map's hottest cell."),
    Column("entropy", "float32", "As of a row."),
    Column("hottest_tenth", "float32", "As of a row."),
    Column("half_max_box", "box", "Where the network looked, as of a row; not the box that it found."),
    Column("inside", "float32", "Share of the map's sum inside `box`; null for a zero map."),
)
COLUMNS = (
    Column("id", "string", "Names the photo; no other row of the run has it.", False),
    Column("uri", "string", "Where the photo lies: an absolute path; of a tar `FILE.tar#MEMBER`."),
    Column("sha256", "string", "SHA-256 of the photo's bytes; photos that were copied have the same."),
    Column("width", "int32", "Pixels of the upright photo."),
    Column("height", "int32", "Pixels of the upright photo."),
    Column("label", "string", "The label that was given with the photo, as it was written."),
    Column("class", "int32", "The class that the map explains: the predicted one, unless another was asked for."),
    Column("name", "string", "Its name, where names are known."),
    Column("score", "float32", "Its probability, or the network's own output where there is no probability."),
    Column("score_kind", "string", "`probability` or `score`."),
    Column("top_k", "top", "The best classes, best first: class, name and score of each."),
    Column("cam", "binary", "The map, row by row, a byte per cell: value = (byte - cam_zero) * cam_scale."),
    Column("cam_height", "int16", "Rows of the map."),
    Column("cam_width", "int16", "Columns of the map."),
    Column("cam_scale", "float32", "What one step of a byte is worth."),
    Column("cam_zero", "uint8", "The byte that stands for zero: 0, of signed maps 128."),
    Column("crop", "box", "The part of the photo that the map covers: left, top, right, bottom in pixels."),
    Column("peak_x", "float32", "Column in the photo of the center of the map's hottest cell."),
    Column("peak_y", "float32", "Row in the photo of the center of the map's hottest cell."),
    Column("entropy", "float32", "How spread the map is: 0 for one cell, 1 for equal cells; null for a zero map."),
    Column("hottest_tenth", "float32", "Share of the map's sum in its hottest tenth of cells; null for a zero map."),
    Column("half_max_box", "box", "Box in the photo around every cell of at least half the maximum; null: zero map."),
    Column("boxes", "boxes", "Of a detector: the boxes, best first; empty where it found none.", since=2),
    Column("milliseconds", "float32", "Time for this photo: its decoding, and its share of its batch."),
    Column("error", "string", "Why there is no answer; null where there is one."),
    Column("artifact", "string", "SHA-256 of the artifact's file.", False),
    Column("version", "string", "Version of explainable-model that made the row.", False),
)
NAMES = tuple(column.name for column in COLUMNS)


def import_pyarrow(purpose: str = "Rows are Parquet, which") -> Any:
    """Import pyarrow.

    Raises:
        MissingRuntimeError: it is not installed.
    """
    try:
        return import_module("pyarrow")
    except ImportError as error:
        raise MissingRuntimeError(f"{purpose} needs pyarrow: pip install 'explainable-model[batch]'.") from error


def make_schema() -> Any:
    """Make the ``pyarrow.Schema`` of the rows.

    Raises:
        MissingRuntimeError: pyarrow is not installed.
    """
    arrow = import_pyarrow()
    simple = {name: getattr(arrow, name)() for name in ("string", "int32", "int16", "uint8", "float32", "binary")}
    top = arrow.struct([("class", arrow.int32()), ("name", arrow.string()), ("score", arrow.float32())])
    types = {**simple, "top": arrow.list_(top), "box": arrow.list_(arrow.float32(), 4)}
    types["boxes"] = arrow.list_(arrow.struct([(column.name, types[column.type]) for column in BOX_COLUMNS]))
    fields = [arrow.field(column.name, types[column.type], column.nullable) for column in COLUMNS]
    return arrow.schema(fields)


def add_new_columns(batch: Any, version: int, columns: Sequence[str]) -> Any:
    """Add to rows of an older schema the columns that it lacks, as nulls, so that every reader finds them.

    Args:
        batch: ``pyarrow.RecordBatch``.
        version: the schema of its file.
        columns: names of those that are read.
    """
    arrow = import_pyarrow()
    new = [column.name for column in COLUMNS if column.since > version and column.name in columns]
    new = [name for name in new if name not in batch.schema.names]
    for name in new:
        field = make_schema().field(name)
        batch = batch.append_column(field, arrow.nulls(batch.num_rows, field.type))
    return batch.select([*filter(set(batch.schema.names).__contains__, NAMES)]) if new else batch


def describe_rows(record: Mapping[str, Any]) -> dict[bytes, bytes]:
    """What a file says of its rows, as the metadata of a Parquet file.

    Args:
        record: ``schema_version``, ``artifact``, ``options``, ``class_names`` and ``cam_source``.
    """
    return {METADATA_KEY: json.dumps(record, ensure_ascii=False).encode()}


def read_file_metadata(metadata: Mapping[bytes, bytes] | None, path: Any) -> dict[str, Any]:
    """Read what a file says of its rows.

    Args:
        metadata: of the Parquet file: ``pyarrow.parquet.read_metadata(path).metadata``.
        path: its name, for messages.

    Raises:
        ArtifactError: the file holds no rows of a batch, or rows of a newer schema.
    """
    text = (metadata or {}).get(METADATA_KEY)
    if text is None:
        raise ArtifactError(f"{path} holds no rows of a batch; expected a file that explainable-model batch wrote.")
    try:
        described: Any = json.loads(text)
        version: Any = described["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{path} is damaged: its description of the rows cannot be read ({error}).") from error
    if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} holds rows of schema {version}; this version reads up to {SCHEMA_VERSION}. Upgrade "
            "explainable-model."
        )
    found: dict[str, Any] = described
    return found


def check_size(metadata: Any, path: Any, number: int) -> None:
    """Check how much the values of a part of a Parquet file would take, before any is read.

    Args:
        metadata: ``pyarrow.parquet.FileMetaData``.
        path: the file, for messages.
        number: of the part, a row group.

    Raises:
        ArtifactError: its columns hold far more values than rows, or unpack to far more bytes than the file has.
    """
    size = Path(path).stat().st_size
    group = metadata.row_group(number)
    columns = [group.column(place) for place in range(group.num_columns)]
    values = max((column.num_values for column in columns), default=0)
    if values > MOST_VALUES * max(group.num_rows, 1) or group.num_rows < 0:
        raise ArtifactError(f"{path} is damaged: a column has {values} values for {group.num_rows} rows.")
    unpacked = sum(column.total_uncompressed_size for column in columns)
    if unpacked > max(MOST_UNPACKED * size, FEW_UNPACKED):
        raise ArtifactError(f"{path} has {size} bytes, and a part of it unpacks to {unpacked}; it is refused.")


def count_rows_at_once(metadata: Any, most: int) -> int:
    """How many rows to read at a time, where each may repeat the longest text that a column holds once.

    Args:
        metadata: ``pyarrow.parquet.FileMetaData``.
        most: where the texts are short.
    """
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    columns = [group.column(place) for group in groups for place in range(group.num_columns)]
    longest = max((column.total_uncompressed_size for column in columns if column.has_dictionary_page), default=0)
    return max(1, min(most, MOST_AT_ONCE // max(longest, 1)))


def encode_map(values: NDArray[Any], *, signed: bool) -> dict[str, Any]:
    """Store a map in one byte per cell.

    Args:
        values: ``(h, w)``, finite; negative values only where ``signed``.
        signed: whether zero is in the middle of the bytes.

    Returns:
        The columns ``cam``, ``cam_height``, ``cam_width``, ``cam_scale`` and ``cam_zero``. The largest absolute value
        is exact, the others are within half a step.
    """
    zero = MIDDLE if signed else 0
    steps = 255 - zero
    largest = float(np.abs(values).max())
    scale = np.float32(largest / steps) if largest > 0 else np.float32(1 / steps)
    step = max(float(scale), float(np.finfo(np.float32).tiny))
    levels = np.rint(values.astype(np.float64) / step) + zero
    height, width = values.shape
    return {
        "cam": levels.clip(0, 255).astype(np.uint8).tobytes(),
        "cam_height": height,
        "cam_width": width,
        "cam_scale": float(scale),
        "cam_zero": zero,
    }


def decode_map(row: Mapping[str, Any]) -> NDArray[np.float32]:
    """Read the map of a row, or of one of its boxes: ``(cam_height, cam_width)`` float32.

    Args:
        row: a row as a mapping, for example of ``table.to_pylist()``; of a detector ``row["boxes"][0]`` and so on.

    Raises:
        ArtifactError: it has no map, or its bytes are not as many as its height and width say.
    """
    name = row.get("id", "The box")
    if row["cam"] is None:
        boxes = "its boxes have one each: decode_map(row['boxes'][0])" if row.get("boxes") else None
        raise ArtifactError(f"{name} has no map: {boxes or row.get('error') or 'there is no box'}")
    levels = np.frombuffer(row["cam"], np.uint8)
    height, width = row["cam_height"], row["cam_width"]
    if len(levels) != height * width:
        raise ArtifactError(f"{name} has a map of {len(levels)} bytes; expected {height} x {width}.")
    signed = levels.reshape(height, width).astype(np.float32) - np.float32(row["cam_zero"])
    scaled: NDArray[np.float32] = signed * np.float32(row["cam_scale"])
    return scaled


def make_empty_row() -> dict[str, Any]:
    """A row in which nothing is known."""
    return dict.fromkeys(NAMES)


def make_spark_schema() -> str:
    """Write the schema of the rows as ``mapInPandas`` of Spark takes it."""
    names = {"int32": "int", "int16": "smallint", "uint8": "smallint", "float32": "float", "box": "array<float>"}
    names["top"] = "array<struct<class:int,name:string,score:float>>"
    inner = ",".join(f"{column.name}:{names.get(column.type, column.type)}" for column in BOX_COLUMNS)
    names["boxes"] = f"array<struct<{inner}>>"
    return ", ".join(f"`{column.name}` {names.get(column.type, column.type)}" for column in COLUMNS)


def describe_columns(columns: Sequence[Column] = COLUMNS) -> str:
    """Write columns as a table in Markdown, for docs/batch.md."""
    lines = ["| column | type | meaning |", "|---|---|---|"]
    shown = {"top": "list<struct<class int32, name string, score float32>>", "box": "list<float32>[4]"}
    shown["boxes"] = "list<struct<box, class, ...>>"
    lines += [f"| `{c.name}` | {shown.get(c.type, c.type)} | {c.meaning} |" for c in columns]
    return "\n".join(lines)
