"""Batches of columns as engines pass them: mappings of lists or arrays, data frames, tables of Arrow."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from explainable_model.batch.photos import Photo
from explainable_model.batch.schema import COLUMNS, NAMES, make_schema
from explainable_model.errors import InputError

URI, CONTENT = ("uri", "path"), ("bytes", "image", "data")
OPTIONAL = ("id", "label", "class")
TYPES = {column.name: column.type for column in COLUMNS}
PANDAS = {"int32": "Int32", "int16": "Int16", "uint8": "Int16", "float32": "float32"}  # others are objects


def read_columns(columns: Any) -> list[tuple[Photo, Any]]:
    """Read a batch as photos and their contents, ``None`` for a photo that has only a path.

    Raises:
        InputError: no mapping, or no column holds photos.
    """
    lists = _to_lists(columns)
    uris = next((lists[name] for name in URI if name in lists), None)
    contents = next((lists[name] for name in CONTENT if name in lists), None)
    if uris is None and contents is None:
        raise InputError(
            f"The batch has the columns {', '.join(map(str, lists)) or 'none'}; expected one of photos: "
            f"{', '.join((*URI, *CONTENT))}."
        )
    count = len(uris if uris is not None else contents or ())
    empty = [None] * count
    ids, labels, classes = (lists.get(name, empty) for name in OPTIONAL)
    rows = zip(uris or empty, contents or empty, ids, labels, classes, strict=True)
    return [_read_row(*row) for row in rows]


def _read_row(uri: Any, content: Any, given: Any, label: Any, asked: Any) -> tuple[Photo, Any]:
    if isinstance(content, Mapping):  # an image of the package datasets
        uri = uri or content.get("path")
        content = content.get("bytes")
    elif isinstance(content, bytearray | memoryview):
        content = bytes(content)
    elif content is not None and not isinstance(content, bytes):
        content = np.asarray(content)
    place = "" if _is_missing(uri) else str(uri)
    name = place if _is_missing(given) else str(given)
    return Photo(name, place, _to_text(label), _to_text(asked), container=place), content


def _to_text(value: Any) -> str | None:
    if _is_missing(value):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)  # pandas writes NaN for what is not there


def _to_lists(columns: Any) -> dict[str, Sequence[Any]]:
    if isinstance(columns, list):  # the samples of a DataLoader
        return _to_lists(_join_samples(columns))
    if hasattr(columns, "to_pydict"):  # pyarrow
        found: dict[str, Sequence[Any]] = columns.to_pydict()
        return found
    if hasattr(columns, "iloc"):  # pandas
        return {str(name): list(columns[name]) for name in columns.columns}
    if isinstance(columns, Mapping):
        return {str(name): list(values) for name, values in columns.items()}
    raise InputError(
        f"The batch is {type(columns).__name__}; expected a mapping of columns, a pandas.DataFrame, a pyarrow.Table or "
        "a list of photos."
    )


def _join_samples(samples: list[Any]) -> dict[str, list[Any]]:
    """The columns of samples: paths, bytes, pictures as arrays, or mappings of these."""
    if all(isinstance(sample, Mapping) for sample in samples):
        return {str(name): [sample.get(name) for sample in samples] for sample in samples[:1] for name in sample}
    if all(isinstance(sample, str | os.PathLike) for sample in samples):
        return {"uri": [os.fspath(sample) for sample in samples]}
    return {"bytes": samples}


def write_columns(rows: list[dict[str, Any]], like: Any) -> Any:
    """Make columns of rows, of the kind of ``like``.

    Returns:
        A ``pyarrow.Table`` for Arrow and for a mapping of arrays, a ``pandas.DataFrame``, or a mapping of lists.
    """
    if hasattr(like, "iloc"):
        import pandas

        return pandas.DataFrame({name: _to_series(name, [row[name] for row in rows]) for name in NAMES})
    if hasattr(like, "to_pydict") or (
        isinstance(like, Mapping) and any(isinstance(values, np.ndarray) for values in like.values())
    ):
        import pyarrow

        return pyarrow.Table.from_pylist(rows, make_schema())
    return {name: [row[name] for row in rows] for name in NAMES}


def _to_series(name: str, values: list[Any]) -> Any:
    """A column of pandas that keeps whole numbers whole where some are missing."""
    import pandas

    return pandas.Series(values, dtype=PANDAS.get(TYPES[name], "object"))
