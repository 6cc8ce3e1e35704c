"""Single samples of a resized axis, of any size: the work is that of the samples alone, in the graph of an artifact."""

from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

Place: TypeAlias = tuple[Tensor, Tensor]
"""``(whole, rest)``: pixels before a point, and the rest of the way in units of a pixel over twice the new size."""

Tap: TypeAlias = tuple[Tensor, Tensor]

# Sizes in simple ratios make many values exactly half a level, which Pillow rounds up in its integers. A little more
# than a half is added before rounding down, so that the last bit of a runtime's floating point number decides nothing.
LAST_BIT = 2**-11
HALF_UP = 0.5 + LAST_BIT
CUBIC = -0.5  # Pillow's and ATen's coefficient where they antialias
CUBIC_OFFSETS = (-1, 0, 1, 2)


def locate(count: Any, start: Any, length: Any, resized: Any, device: torch.device) -> Place:
    """Find where the centers of the pixels ``start`` to ``start + count - 1`` of a resized axis lie in the source.

    Pixel ``i`` lies at ``(2 i + 1) length / (2 resized)``. No product here exceeds the square of a photo's side or the
    source's length times ``count``, since OpenVINO computes in 32 bits: the distance from the middle is multiplied, and
    whole multiples of ``resized`` are left out of it.

    Args:
        count: how many pixels are wanted.
        start: the first of them.
        length: of the source.
        resized: length of the resized axis, of which the pixels are a part.
        device: of the result.

    Returns:
        ``(2 i + 1) length = whole 2 resized + rest``, both ``(count,)`` int64.
    """
    from_middle = 2 * torch.arange(count, device=device) + (2 * start + 1 - resized)
    halves = from_middle * (length // resized) + length
    over = from_middle * (length % resized) + (halves % 2) * resized
    more = over // (2 * resized)
    return halves // 2 + more, over - more * (2 * resized)


def find_taps(
    place: Place, resized: Any, last: Any, dtype: torch.dtype, mode: str = "bilinear", first: Any = 0
) -> list[Tap]:
    """Find what each sample reads, as enlarging does it, or reducing without an antialiasing filter.

    Args:
        place: of the samples, as ``locate`` finds them.
        resized: the length for which it found them.
        last: the last pixel that can be read, counted from ``first``; beyond its ends an axis repeats.
        dtype: of the pixels; weights have 32 bits at least.
        mode: ``bilinear`` or ``bicubic``.
        first: the first pixel that can be read.

    Returns:
        Two or four pairs of a pixel, counted from ``first``, and its weight: ``(samples,)``.
    """
    whole, rest = place
    before = rest < resized
    left = whole - before.to(whole.dtype) - first
    wide = torch.promote_types(dtype, torch.float32)
    share = (rest + torch.where(before, resized, -resized)).to(wide) / (2 * resized)
    if mode == "bilinear":
        return [(left.clamp(0, last), 1 - share), ((left + 1).clamp(0, last), share)]
    weights = []
    for offset in CUBIC_OFFSETS:
        away = (share - offset).abs()
        near = ((CUBIC + 2) * away - (CUBIC + 3)) * away * away + 1
        far = (((away - 5) * away + 8) * away - 4) * CUBIC
        inside = (left + offset >= 0) & (left + offset <= last)  # a filter that leaves the axis takes what it covers
        weights.append(torch.where(away <= 1, near, far) * inside.to(share.dtype))
    total = weights[0] + weights[1] + weights[2] + weights[3]
    return [
        ((left + offset).clamp(0, last), weight / total) for offset, weight in zip(CUBIC_OFFSETS, weights, strict=True)
    ]


def blend(values: Tensor, dim: int, taps: list[Tap]) -> Tensor:
    """Read an axis at some points: the weighted sum of the pixels around each."""
    if dim == values.ndim - 1:  # runtimes copy whole rows much faster than single numbers
        return blend(values.transpose(-1, -2), dim - 1, taps).transpose(-1, -2)
    along = [1] * values.ndim
    along[dim] = -1
    parts = [values.index_select(dim, pixel) * weight.to(values.dtype).reshape(along) for pixel, weight in taps]
    return parts[0] + parts[1] if len(parts) == 2 else parts[0] + parts[1] + (parts[2] + parts[3])


def pick_around(values: Tensor, dim: int, taps: list[Tap], count: int) -> tuple[Tensor, list[Tap]]:
    """Cut out the pixels that ``count`` neighboring samples of an enlarged axis read.

    Returns:
        The pixels, and the taps counted in them.
    """
    first = taps[0][0][:1]
    pixels = first + torch.arange(count + len(taps) + 1, device=values.device)
    part = values.index_select(dim, pixels.clamp(max=values.shape[dim] - 1))
    return part, [(pixel - first, weight) for pixel, weight in taps]


def pick(values: Tensor, dim: int, place: Place) -> Tensor:
    """Read the pixel of an axis in which each sample lies."""
    return values.index_select(dim, place[0])


def shrink(levels: Tensor, size: tuple[Any, Any], mode: str) -> Tensor:
    """Resize with an antialiasing filter, to sizes that are not larger."""
    return functional.interpolate(levels, size=list(size), mode=mode, antialias=True)


def round_levels(levels: Tensor) -> Tensor:
    """Round to whole levels, half up; a bicubic filter overshoots."""
    return (levels + HALF_UP).floor().clamp(0, 255)
