"""One photo of a data set: where it lies, and how its bytes are read."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explainable_model.batch.stores import Stores, is_address
from explainable_model.errors import InputError, first_line

FILE, TAR, PARQUET = "file", "tar", "parquet"
ROWS_AT_ONCE = 16  # photos of a Parquet file that are in memory together


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo of a data set.

    Attributes:
        id: names it.
        uri: where it lies, for people and other programs.
        label: as it was given.
        asked: the class to explain, a number or a name; ``None`` for the predicted class.
        kind: ``file``, also of a store, ``tar`` or ``parquet``.
        container: the file that holds it: the photo itself, a tar or a Parquet file; of a store, with its options.
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
    """Reads the bytes of photos; those of a Parquet file in their order, since its pages cannot be entered anywhere.

    Args:
        stores: those that are open, if they are shared.
    """

    def __init__(self, stores: Stores | None = None) -> None:
        self._rows: Iterator[Any] | None = None
        self._group: tuple[str, int, str] = ("", -1, "")
        self._next = 0
        self._lock = threading.Lock()
        self._stores = stores or Stores()

    def read(self, photo: Photo) -> bytes:
        """Read a photo's bytes; threads may call it, but for Parquet, whose photos come in order.

        Raises:
            InputError: there is no such photo, or it cannot be read.
        """
        try:
            if photo.kind == TAR:
                return _read_range(self._stores, photo.container, photo.first, photo.second)
            if photo.kind == PARQUET:
                return self._read_row(photo)
            place = photo.container or photo.uri
            return self._stores.read(place) if is_address(place) else Path(place).read_bytes()
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
                self._rows, self._group, self._next = _iterate_rows(self._stores, *group), group, 0
            rows, self._rows, value = self._rows, None, None  # rows that raise an error have ended
            while self._next <= photo.second:
                value = next(rows, _END)
                if value is _END:
                    raise InputError(f"{photo.uri} is no longer there: {photo.container} has fewer rows.")
                self._next += 1
            self._rows = rows
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes) or not content:
            raise InputError(f"{photo.uri} is empty: there are no bytes in column {photo.column!r}.")
        return content


_END = object()


def _iterate_rows(stores: Stores, container: str, group: int, column: str) -> Iterator[Any]:
    import pyarrow.parquet as parquet

    with stores.open_file(container) as stream, parquet.ParquetFile(stream, pre_buffer=False) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=[column]):
            for value in batch.column(0):
                yield value.as_py()


def _read_range(stores: Stores, path: str, offset: int, size: int) -> bytes:
    content = stores.read_range(path, offset, size)
    if len(content) != size:
        raise InputError(f"{path} ends after {offset + len(content)} bytes; it was longer when its photos were listed.")
    return content
