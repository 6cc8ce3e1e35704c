"""Lists the photos of a table: paths in a CSV file, bytes in a Parquet file."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from explainable_model.batch.photos import FILE, PARQUET, Photo
from explainable_model.batch.schema import import_pyarrow
from explainable_model.batch.stores import Stores, drop_options, find_folder, locate
from explainable_model.errors import InputError

PATH_COLUMNS = ("path", "uri", "file", "filename", "image", "photo")
BYTES_COLUMNS = ("bytes", "image", "data", "photo", "jpg", "png", "img")
COLUMN_ID, COLUMN_LABEL, COLUMN_CLASS = "id", "label", "class"


def read_table(path: str | Path) -> Iterator[dict[str, str]]:
    """Read the rows of a CSV file, whose first line names the columns.

    Raises:
        InputError: it cannot be read, is not UTF-8, or a line has more cells than columns.
    """
    try:
        with Stores().open_file(str(path)) as file, io.TextIOWrapper(file, "utf-8-sig", newline="") as stream:
            for number, row in enumerate(csv.DictReader(stream), 2):
                if None in row:
                    raise InputError(f"{path}, line {number}: more cells than columns; put commas in quotes.")
                yield {name.strip(): value or "" for name, value in row.items()}
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a table: {error}. Expected CSV in UTF-8.") from error


def find_column(row: Mapping[str, Any], wanted: tuple[str, ...], path: str | Path) -> str:
    """Find a column by its possible names, in any case.

    Raises:
        InputError: there is none.
    """
    by_name = {name.casefold(): name for name in row}
    found = next((by_name[name] for name in wanted if name in by_name), None)
    if found is None:
        raise InputError(
            f"{path} has the columns {', '.join(map(str, row)) or 'none'}; expected one named {' or '.join(wanted)}."
        )
    return found


def list_table(path: str) -> Iterator[Photo]:
    """List the photos of a CSV file: ``path``, relative to its folder, and perhaps ``label``, ``class`` and ``id``.

    Raises:
        InputError: as ``read_table`` and ``find_column``, or a row without a path.
    """
    folder = find_folder(path)
    column = ""
    for number, row in enumerate(read_table(path), 2):
        column = column or find_column(row, PATH_COLUMNS, path)
        text = row[column].strip()
        if not text:
            raise InputError(f"{path}, line {number}: no path in column {column!r}.")
        _, uri, container = locate(text, folder=folder)
        label, asked = row.get(COLUMN_LABEL) or None, row.get(COLUMN_CLASS) or None
        yield Photo(row.get(COLUMN_ID) or drop_options(text), uri, label, asked, FILE, container)


def list_parquet(path: str) -> Iterator[Photo]:
    """List the photos of a Parquet file that holds their bytes, as data sets of Hugging Face do.

    The bytes are a binary column, or the field ``bytes`` of a column. ``id``, ``label`` and ``class`` are read, too. A
    label of Hugging Face's ``ClassLabel`` gets its name.

    Raises:
        InputError: it cannot be read, or no column holds bytes.
        MissingRuntimeError: pyarrow is not installed.
    """
    arrow = import_pyarrow(f"{path} is Parquet, which")
    import pyarrow.parquet as parquet

    try:
        with Stores().open_file(path) as stream, parquet.ParquetFile(stream) as file:
            yield from _list_rows(file, path)
    except (OSError, arrow.ArrowException) as error:
        raise InputError(f"{path} cannot be read as Parquet: {error}") from error


def _list_rows(file: Any, path: str) -> Iterator[Photo]:
    schema = file.schema_arrow
    column, names = _find_bytes(schema, path), _find_label_names(schema)
    others = [name for name in (COLUMN_ID, COLUMN_LABEL, COLUMN_CLASS) if name in schema.names]
    name, uri, container = locate(path)
    number = 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        read = file.read_row_group(group, columns=others).to_pylist() if others else [{}] * rows
        for row, values in enumerate(read):
            label = values.get(COLUMN_LABEL)
            if names and isinstance(label, int) and 0 <= label < len(names):
                label = names[label]
            given = values.get(COLUMN_ID)
            yield Photo(
                f"{name}#{number}" if given is None else str(given),
                f"{uri}#{number}",
                None if label is None else str(label),
                None if values.get(COLUMN_CLASS) is None else str(values[COLUMN_CLASS]),
                PARQUET,
                container,
                group,
                row,
                column,
            )
            number += 1


def _find_bytes(schema: Any, path: str) -> str:
    from pyarrow import types

    def holds_bytes(kind: Any) -> bool:
        return bool(types.is_binary(kind) or types.is_large_binary(kind)) or (
            bool(types.is_struct(kind)) and kind.get_field_index("bytes") >= 0
        )

    found = [field.name for field in schema if holds_bytes(field.type)]
    named = [name for name in BYTES_COLUMNS if name in found]
    if not found:
        raise InputError(f"{path} has the columns {', '.join(schema.names)}; expected one of bytes, such as 'bytes'.")
    return str((named or found)[0])


def _find_label_names(schema: Any) -> list[str]:
    """The names of the labels, as the package datasets stores them in the schema."""
    try:
        stored = json.loads((schema.metadata or {})[b"huggingface"])
        names = stored["info"]["features"][COLUMN_LABEL]["names"]
    except (KeyError, TypeError, ValueError):
        return []
    return [str(name) for name in names] if isinstance(names, list) else []
