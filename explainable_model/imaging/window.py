"""Brings pictures of more than 8 bits to 8 bits: X-rays, depth maps, scientific cameras."""

import math
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from explainable_model.errors import InputError, LowRangeWarning
from explainable_model.imaging.stored import has_signed_bytes, read_stored

if TYPE_CHECKING:
    from PIL.Image import Image

Window: TypeAlias = tuple[float, float]  # the values that become black and white

SIXTEEN_BITS: Window = (0.0, 65535.0)
FLOAT_WINDOWS: tuple[Window, ...] = ((0.0, 1.0), (0.0, 255.0), SIXTEEN_BITS)
LOW_SHARE = 0.25  # of the window: below it, 256 gray levels become 64 or fewer
STRIP = 1 << 20  # values that are computed at a time
BITS_PER_SAMPLE, SMALLEST, LARGEST = 258, (280, 340), (281, 341)  # tags of TIFF
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0


def is_deep(photo: "Image") -> bool:
    """Whether a picture has more than 8 bits for each value, or values below zero."""
    return photo.mode.startswith(("I", "F")) or has_signed_bytes(photo)


def check_window(window: Window) -> None:
    """Refuse a window without a width.

    Raises:
        ValueError: not two finite values, the smaller one first.
    """
    if len(window) != 2 or not all(map(math.isfinite, window)) or window[0] >= window[1]:
        raise ValueError(f"window is {window}; expected (black, white) with black < white, for example (0, 4095).")


def parse_window(text: str) -> Window:
    """Parse ``BLACK,WHITE``, for example ``0,4095``.

    Raises:
        ValueError: another text.
    """
    parts = text.split(",")
    try:
        black, white = map(float, parts)
    except ValueError as error:
        raise ValueError(f"window is {text!r}; expected BLACK,WHITE, for example 0,4095.") from error
    check_window((black, white))
    return black, white


def to_eight_bits(photo: "Image", window: Window | None = None, limits: Window | None = None) -> "Image":
    """Map the values of a deep picture to 0 to 255: black and below become 0, white and above 255.

    In a TIFF file whose smallest value is white (``WhiteIsZero``) the result is turned round.

    Args:
        photo: one channel of 16 or 32 bits; NaN and infinity become 0.
        window: the values that become black and white. By default those that a TIFF file names, else the range of the
            type: 0 to 65535 of integers, and the first of 0 to 1, 255 and 65535 that holds the values of floats.
        limits: the range of the type, where the file names it; only the warning is the same.

    Returns:
        One channel of 8 bits.

    Raises:
        InputError: values outside the range of the type, and no window.

    Warns:
        LowRangeWarning: the values fill less than a quarter of a window that nobody chose.
    """
    from PIL import Image

    name = _name(photo)
    stored = read_stored(photo)
    chosen = window or read_window(photo)
    if chosen is None:
        low, high = _find_range(stored)
        black, white = limits or _guess_window(photo.mode, low, high, name)
        _warn_of_low_range(low, high, black, white, name)
    else:
        black, white = chosen
    levels = np.empty(stored.size, np.uint8)
    for start, values in _read_strips(stored):
        levels[start : start + len(values)] = _scale(values, (black, white))
    if _is_inverted(photo):
        np.subtract(255, levels, out=levels)
    return Image.fromarray(levels.reshape(stored.shape))


def tabulate_levels(window: Window) -> NDArray[np.uint8]:
    """The gray level of every value of 16 bits: ``(65536,)``, the same levels as of ``to_eight_bits``."""
    return _scale(np.arange(SIXTEEN_BITS[1] + 1), window).astype(np.uint8)


def find_values(window: Window) -> NDArray[np.uint16]:
    """A value of 16 bits for every gray level: ``(256,)``, those of which ``tabulate_levels`` makes 0 to 255.

    Raises:
        ValueError: a gray level that no whole number from 0 to 65535 becomes.
    """
    black, white = window
    levels = np.arange(256)
    values = (black + levels / 255 * (white - black)).round().clip(*SIXTEEN_BITS).astype(np.uint16)
    if not np.array_equal(tabulate_levels(window)[values], levels):
        raise ValueError(
            f"window is {window}; expected one inside of (0, 65535) that is 255 wide or more, so that every gray level "
            "has a value of 16 bits."
        )
    return values


def _scale(values: NDArray[np.float64], window: Window) -> NDArray[np.float64]:
    """Map values to whole levels from 0 to 255."""
    black, white = window
    levels: NDArray[np.float64] = ((values.clip(black, white) - black) / (white - black) * 255).round()
    return levels


def _read_strips(stored: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """The values in strips, each with its first index: a large picture in float64 takes eight times its levels."""
    flat = stored.reshape(-1)
    for start in range(0, len(flat), STRIP):
        strip = flat[start : start + STRIP].astype(np.float64)
        yield start, np.nan_to_num(strip, copy=False, posinf=0.0, neginf=0.0)


def _find_range(stored: NDArray[Any]) -> Window:
    """The smallest and the largest value."""
    ranges = [(float(values.min()), float(values.max())) for _, values in _read_strips(stored)]
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def keeps_high_bytes(photo: "Image") -> bool:
    """Whether Pillow keeps only the high byte of each value: of PNG files with several channels of 16 bits."""
    tiles: Any = getattr(photo, "tile", ())
    return any(";16" in str(tile[3]) for tile in tiles)


def check_high_bytes(photo: "Image", window: Window | None) -> "Image":
    """Check a picture of which Pillow keeps the high bytes alone; returns it.

    Raises:
        InputError: a window, which needs the low bytes too.

    Warns:
        LowRangeWarning: the high bytes are small.
    """
    name = _name(photo)
    if window is not None:
        raise InputError(
            f"{name} has several channels of 16 bits, of which Pillow reads 8; a window needs one channel. Convert the "
            "picture to 8 bits or to one channel."
        )
    high = 256 * int(np.asarray(photo.convert("RGB")).max())
    if high < LOW_SHARE * SIXTEEN_BITS[1]:
        warnings.warn(
            f"{name} has values up to about {high} of a range to 65535, so it is nearly black. Convert it to 8 bits.",
            LowRangeWarning,
            stacklevel=3,
        )
    return photo


def read_window(photo: "Image") -> Window | None:
    """Read the smallest and largest value, or the number of bits, that a TIFF file names."""
    tags: Any = getattr(photo, "tag_v2", None)
    if tags is None:
        return None
    black, white = (next((_first(tags[tag]) for tag in names if tag in tags), None) for names in (SMALLEST, LARGEST))
    if white is not None and white > (black or 0.0):
        return black or 0.0, white
    bits = _first(tags.get(BITS_PER_SAMPLE, 16))
    return (0.0, 2.0**bits - 1) if 8 < bits < 16 else None


def _is_inverted(photo: "Image") -> bool:
    """Whether the smallest value of a TIFF file is white, as in many X-rays; Pillow turns 8 bits alone round."""
    tags: Any = getattr(photo, "tag_v2", None)
    return tags is not None and tags.get(PHOTOMETRIC, 1) == WHITE_IS_ZERO


def _first(value: Any) -> float:
    return float(value[0] if isinstance(value, tuple) else value)


def _name(photo: "Image") -> str:
    return str(getattr(photo, "filename", "") or "The picture")


def _guess_window(mode: str, low: float, high: float, name: str) -> Window:
    windows = FLOAT_WINDOWS if mode.startswith("F") else (SIXTEEN_BITS,)
    window = next((window for window in windows if window[0] <= low and high <= window[1]), None)
    if window is None:
        raise InputError(
            f"{name} has values from {low:g} to {high:g}; expected 0 to 65535. Choose the values that become black "
            f"and white: window=({low:g}, {high:g})."
        )
    return window


def _warn_of_low_range(low: float, high: float, black: float, white: float, name: str) -> None:
    start = max(black, 0.0) if low >= 0 else low  # a range with negative values has its zero somewhere in the middle
    if high - start >= LOW_SHARE * (white - black):
        return
    whole = black == 0 and white > 1
    suggestion = 2 ** math.ceil(math.log2(high + 1)) - 1 if whole else high
    problem = "it is nearly black" if black == 0 else "few gray levels are left"
    warnings.warn(
        f"{name} has values from {low:g} to {high:g} of a range from {black:g} to {white:g}, so {problem}. Choose the "
        f"values that become black and white, for example window=({0 if black == 0 else low:g}, {suggestion:g}).",
        LowRangeWarning,
        stacklevel=3,
    )
