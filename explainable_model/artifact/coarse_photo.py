"""A coarse copy of a photo in a record, for networks that find nothing in waves."""

import base64
import binascii
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explainable_model.artifact.runner import Array
from explainable_model.artifact.shapes import NHW, NHWC, array_dtype

MAX_BYTES = 2**20


@dataclass(frozen=True)
class CoarsePhoto:
    """An image of squares of one color, in 8 bits.

    Attributes:
        values: base64 of one byte for each square, in the order of the image's dimensions, without the batch.
        side: pixels along the side of a square; squares at the right and lower edge may be cut.
        low, high: what the bytes 0 and 255 stand for; of a photo of 16 bits, whole numbers of its own range, which lie
            a multiple of 255 apart.
    """

    values: str
    side: int
    low: float
    high: float


def make_coarse(image: Array, side: int, pixels: str | None = None) -> CoarsePhoto:
    """Average an image over squares, and round it to 8 bits.

    Args:
        image: one image without the batch, ``(C, H, W)``, or in the layout ``pixels``.
        side: pixels along the side of a square.
        pixels: layout of photos.
    """
    rows, columns = _find_axes(pixels)
    coarse = image.astype(np.float64)
    for axis in (rows, columns):
        starts = np.arange(0, coarse.shape[axis], side)
        widths = np.diff([*starts, coarse.shape[axis]])
        shape = [-1 if a == axis else 1 for a in range(coarse.ndim)]
        coarse = np.add.reduceat(coarse, starts, axis=axis) / widths.reshape(shape)
    low, high = (float(coarse.min()), float(coarse.max())) if image.dtype != np.uint8 else (0.0, 255.0)
    most = 255
    if image.dtype == np.uint16:  # often 12 bits, of which a window shows a part
        low = float(math.floor(low))
        step = max(1, math.ceil((high - low) / 255))
        high, most = low + 255 * step, min(255, int((np.iinfo(np.uint16).max - low) // step))
    levels = np.round((coarse - low) / ((high - low) or 1.0) * 255).clip(0, most).astype(np.uint8)
    return CoarsePhoto(base64.b64encode(levels.tobytes()).decode(), side, low, high)


def expand_coarse(photo: CoarsePhoto, shape: Sequence[int], dtype: str, batch: int, pixels: str | None = None) -> Array:
    """Make the image of a coarse copy; every second image of the batch is mirrored.

    Args:
        photo: the coarse copy.
        shape: of one image, without the batch.
        dtype: of the image.
        batch: how many images to make.
        pixels: layout of photos.

    Raises:
        ValueError: the copy holds another number of squares, or its numbers cannot be.
    """
    rows, columns = _find_axes(pixels)
    small = _count_squares(photo, shape, pixels)
    try:
        stored = base64.b64decode(photo.values, validate=True)
    except binascii.Error as error:
        raise ValueError(f"the coarse photo is not base64 ({error})") from error
    if len(stored) != math.prod(small) or not math.isfinite(photo.low) or not math.isfinite(photo.high):
        raise ValueError(f"the coarse photo has {len(stored)} squares; expected {math.prod(small)}")
    levels: NDArray[np.uint8] = np.frombuffer(stored, np.uint8).reshape(small)
    values = photo.low + levels * ((photo.high - photo.low) / 255)
    for axis in (rows, columns):
        values = np.take(values, np.arange(shape[axis]) // photo.side, axis=axis)
    images = [np.flip(values, columns) if number % 2 else values for number in range(batch)]
    return np.stack(images).astype(array_dtype(dtype))


def find_coarse_problem(photo: CoarsePhoto, shape: Sequence[int], pixels: str | None) -> str:
    """What is wrong with a coarse copy in a record; an empty string where nothing is."""
    if type(photo.side) is not int or not 1 <= photo.side <= max(shape) or len(photo.values) > 2 * MAX_BYTES:
        return f"a coarse photo with squares of {photo.side!r:.40} pixels"
    try:
        expand_coarse(photo, shape, "uint8", 1, pixels)
    except ValueError as error:
        return str(error)
    return ""


def _find_axes(pixels: str | None) -> tuple[int, int]:
    """Which dimensions of one image are its rows and columns."""
    return (0, 1) if pixels in (NHWC, NHW) else (1, 2)


def _count_squares(photo: CoarsePhoto, shape: Sequence[int], pixels: str | None) -> list[int]:
    axes = _find_axes(pixels)
    return [math.ceil(length / photo.side) if axis in axes else length for axis, length in enumerate(shape)]
