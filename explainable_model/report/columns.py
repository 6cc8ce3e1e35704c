"""Reads columns of Arrow as arrays, and finds what is wrong with a row."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

LONGEST_TEXT = 300  # of names, labels and errors; a longer one is cut
LARGEST_SCALE = 1e30  # of a map; more would overflow in float32


def find_problem(content: bytes | None, size: NDArray[Any], scale: float, score: float) -> str:
    """Say why a row with an answer cannot be drawn; nothing where it can."""
    height, width = (int(side) for side in size)
    if content is None:
        return "it has neither a map nor an error"
    if height < 1 or width < 1 or len(content) != height * width:
        return f"its map has {len(content)} bytes for {height} x {width} cells"
    if not 0 <= scale <= LARGEST_SCALE or not np.isfinite(score):
        return "its score or the scale of its map is no usable number"
    return ""


def cut(text: str, longest: int = LONGEST_TEXT) -> str:
    """Cut a long text."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def hash_text(text: str | None) -> int:
    """A number of 64 bits for a text; 0 for none."""
    return 0 if not text else int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def read_numbers(batch: Any, name: str, missing: float) -> NDArray[Any]:
    """A column of numbers, with a number in the place of nulls."""
    values: NDArray[Any] = batch.column(name).fill_null(missing).to_numpy(zero_copy_only=False)
    return values


def read_crops(batch: Any) -> NDArray[np.float32]:
    """What each map covers, in shares of the photo; the whole photo where the row does not say."""
    boxes = [box or (None,) * 4 for box in batch.column("crop").to_pylist()]
    edges = np.array([[np.nan if edge is None else edge for edge in box] for box in boxes], np.float32)
    sides = np.stack([read_numbers(batch, name, 0) for name in ("width", "height")], 1).astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares: NDArray[np.float32] = np.divide(edges.reshape(-1, 4), np.tile(sides, 2), dtype=np.float32)
    shares[~is_box(shares)] = (0, 0, 1, 1)
    return shares


def is_box(shares: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which boxes of ``(n, 4)`` lie in the photo."""
    left, top, right, bottom = shares.T
    found: NDArray[np.bool_] = (left >= -0.01) & (top >= -0.01) & (right <= 1.01) & (bottom <= 1.01)
    found &= (left < right) & (top < bottom)
    return found


def find_first_class(column: Any, explained: NDArray[np.int32]) -> NDArray[np.int32]:
    """The best class of each row; the explained one where the row lists none."""
    lengths = np.asarray(column.value_lengths().fill_null(0))
    classes = np.asarray(column.flatten().field("class").fill_null(-1))
    starts = np.cumsum(lengths) - lengths
    found = explained.copy()
    found[lengths > 0] = classes[starts[lengths > 0]]
    return np.where(found >= 0, found, explained)
