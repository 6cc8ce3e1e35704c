"""The rows of an evaluation in a file of JSON lines, which a second run continues."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from explainable_model.errors import InputError

TEXTS = ("key", "content", "photo", "candidate")
LARGEST = 2**53  # of a whole number: a larger one is no float


def digest_arrays(*arrays: NDArray[Any] | None) -> str:
    """Compute a checksum of the values of arrays, for example of a photo and its mask."""
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        described = "none" if array is None else f"{array.dtype} {array.shape}"
        digest.update(described.encode() + (b"" if array is None else np.ascontiguousarray(array).tobytes()))
    return digest.hexdigest()


class RowFile:
    """Rows by key; with a path, each is written as soon as it is known.

    A row holds a checksum of what it was measured on: a photo or a mask that has changed since is measured again.

    Args:
        path: the file; ``None`` for none. It is continued where it is of the same evaluation.
        fingerprint: what the rows depend on: the file, the measures, the seed.

    Raises:
        InputError: the file holds something else, or cannot be written.
    """

    def __init__(self, path: Path | None, fingerprint: Mapping[str, Any]) -> None:
        self.used: dict[str, dict[str, Any]] = {}  # of this evaluation; the file may hold more
        self._known: dict[str, dict[str, Any]] = {}
        self._stream: TextIO | None = None
        if path is None:
            return
        header = json.dumps({"evaluation": fingerprint}, sort_keys=True)
        try:
            if path.exists() and path.stat().st_size:
                self._read(path, header)
            self._stream = path.open("a", encoding="utf-8")
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror}.") from error
        if self._stream.tell() == 0:
            self._write(header)

    def _read(self, path: Path, header: str) -> None:
        try:
            first, *lines = path.read_text("utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is damaged: it is not text ({error}). Remove it, or choose another.") from error
        if first != header:
            raise InputError(
                f"{path} holds the rows of another evaluation, with another model, other measures or another seed; "
                "choose another file, or remove this one."
            )
        whole = lines[:-1]  # a row that was cut off has no end of line
        for number, line in enumerate(whole, 2):
            row = _read_row(line, f"Line {number} of {path}")
            self._known[row["key"]] = row
        if lines[-1:] != [""]:
            with path.open("r+b") as stream:
                stream.truncate(len("\n".join([first, *whole, ""]).encode()))

    def use(self, key: str, content: str) -> bool:
        """Take the row of the file, if there is one that was measured on this content."""
        row = self._known.get(key)
        if row is None or row.get("content") != content:
            return False
        self.used[key] = row
        return True

    def add(self, key: str, content: str, row: Mapping[str, Any]) -> None:
        """Add a row."""
        self.used[key] = {"key": key, "content": content, **row}
        self._write(json.dumps(self.used[key]))

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()

    def _write(self, line: str) -> None:
        if self._stream is not None:
            self._stream.write(line + "\n")
            self._stream.flush()


def _read_row(line: str, place: str) -> dict[str, Any]:
    """A row as ``add`` wrote it.

    Raises:
        InputError: it is another.
    """
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place} is damaged ({error}). Remove the line: the photo is measured again.") from error
    problem = _find_problem(row)
    if problem:
        raise InputError(f"{place} is damaged: {problem}. Remove the line: the photo is measured again.")
    found: dict[str, Any] = row
    return found


def _find_problem(row: Any) -> str:
    if not isinstance(row, dict) or set(row) - {"class_idx", "content"} != {*TEXTS, "values"} - {"content"}:
        return f"expected {', '.join(TEXTS)}, values, and perhaps class_idx"
    if not all(isinstance(row.get(name, ""), str) for name in TEXTS):
        return f"{', '.join(TEXTS)}: one of them is no text"
    if type(row.get("class_idx", 0)) is not int:
        return f"class_idx is {row['class_idx']!r:.40}"
    values = row["values"].values() if isinstance(row["values"], dict) else [""]
    numbers = all(
        value is None or isinstance(value, float) or (isinstance(value, int) and abs(value) < LARGEST)
        for value in values
    )
    return "" if numbers else f"values is {row['values']!r:.80}"
