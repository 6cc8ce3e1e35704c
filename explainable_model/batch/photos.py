"""One photo of a data set: where it lies, and how its bytes are read."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explainable_model.batch.schema import import_pyarrow
from explainable_model.errors import InputError, first_line

FILE, TAR, PARQUET, REMOTE = "file", "tar", "parquet", "remote"
ROWS_AT_ONCE = 16  # photos of a Parquet file that are in memory together
SCHEMES = ("s3://", "gs://", "gcs://", "hdfs://", "file://")


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo of a data set.

    Attributes:
        id: names it.
        uri: where it lies, for people and other programs.
        label: as it was given.
        asked: the class to explain, a number or a name; ``None`` for the predicted class.
        kind: ``file``, ``tar``, ``parquet`` or ``remote``.
        container: the file that holds it: the photo itself, a tar or a Parquet file.
        first, second: offset and size in a tar; row group and row in it of a Parquet file.
        column: of a Parquet file.
    """

    id: str
    uri: str
    label: str | None = None
    asked: str | None = None
    kind: str = FILE
    container: str = ""
    first: int = 0
    second: int = 0
    column: str = ""


class PhotoReader:
    """Reads the bytes of photos; those of a Parquet file in their order, since its pages cannot be entered anywhere."""

    def __init__(self) -> None:
        self._rows: Iterator[Any] | None = None
        self._group: tuple[str, int, str] = ("", -1, "")
        self._next = 0
        self._lock = threading.Lock()
        self._remotes: dict[str, Any] = {}

    def read(self, photo: Photo) -> bytes:
        """Read a photo's bytes; threads may call it, but for Parquet, whose photos come in order.

        Raises:
            InputError: there is no such photo, or it cannot be read.
        """
        try:
            if photo.kind == TAR:
                return _read_range(photo.container, photo.first, photo.second)
            if photo.kind == PARQUET:
                return self._read_row(photo)
            if photo.kind == REMOTE:
                return self._read_remote(photo.container)
            return Path(photo.container or photo.uri).read_bytes()
        except FileNotFoundError as error:
            raise InputError(f"There is no file {photo.container or photo.uri}.") from error
        except InputError:
            raise
        except Exception as error:  # pyarrow raises errors of many types
            raise InputError(f"{photo.uri} cannot be read: {first_line(error)}") from error

    def _read_row(self, photo: Photo) -> bytes:
        with self._lock:
            group = (photo.container, photo.first, photo.column)
            if self._rows is None or group != self._group or photo.second < self._next:
                self._rows, self._group, self._next = _iterate_rows(*group), group, 0
            value: Any = None
            while self._next <= photo.second:
                value = next(self._rows, _END)
                if value is _END:
                    self._rows = None
                    raise InputError(f"{photo.uri} is no longer there: {photo.container} has fewer rows.")
                self._next += 1
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes) or not content:
            raise InputError(f"{photo.uri} is empty: there are no bytes in column {photo.column!r}.")
        return content

    def _read_remote(self, uri: str) -> bytes:
        system, path = open_remote(uri, self._remotes)
        with system.open_input_stream(path) as stream:
            content: bytes = stream.read()
        return content


_END = object()


def _iterate_rows(container: str, group: int, column: str) -> Iterator[Any]:
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(container, pre_buffer=False) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=[column]):
            for value in batch.column(0):
                yield value.as_py()


def _read_range(path: str, offset: int, size: int) -> bytes:
    with open(path, "rb") as stream:
        stream.seek(offset)
        content = stream.read(size)
    if len(content) != size:
        raise InputError(f"{path} ends after {offset + len(content)} bytes; it was longer when its photos were listed.")
    return content


def is_remote(text: str) -> bool:
    """Whether a text names photos in a store that pyarrow opens, such as ``s3://bucket/photos``."""
    return text.startswith(SCHEMES)


def open_remote(uri: str, opened: dict[str, Any]) -> tuple[Any, str]:
    """Open the file system of a URI once, and find the path in it.

    Args:
        uri: such as ``s3://bucket/photos/cat.jpg``.
        opened: those that are open, by scheme and host.

    Raises:
        InputError: it cannot be opened.
        MissingRuntimeError: pyarrow is not installed.
    """
    arrow = import_pyarrow(f"{uri} is a store, which")
    import pyarrow.fs

    scheme, rest = uri.rstrip("/").split("://", 1)
    host = "" if scheme == "file" else rest.split("/", 1)[0]
    key = f"{scheme}://{host}"
    try:
        if key not in opened:
            opened[key] = pyarrow.fs.FileSystem.from_uri(uri)[0]
        return opened[key], rest if scheme != "hdfs" else rest[len(host) :]
    except (OSError, ValueError, arrow.ArrowException) as error:
        raise InputError(f"{uri} cannot be opened: {first_line(error)}") from error
