"""What a row says of its map: where it is hottest, how spread it is, and the box of its upper half."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.batch.schema import encode_map
from explainable_model.imaging.overlay import hottest_point
from explainable_model.imaging.preprocess import Box
from explainable_model.imaging.regions import find_bounding_box

TENTH = 10


def describe_map(cam: NDArray[Any], crop: Box, *, signed: bool) -> dict[str, Any]:
    """Describe a map in the columns of a row.

    Args:
        cam: ``(h, w)``, finite.
        crop: the part of the photo that it covers.
        signed: whether its values can be negative; only the positive ones count in the measures.
    """
    values = cam if signed else cam.clip(0)
    peak = hottest_point(values, crop)
    half = find_bounding_box(values, crop)
    return {
        **encode_map(values, signed=signed),
        "peak_x": peak[0],
        "peak_y": peak[1],
        "entropy": compute_entropy(values),
        "hottest_tenth": compute_hottest_tenth(values),
        "half_max_box": None if half is None else list(half),
    }


def compute_share_in_box(cam: NDArray[Any], crop: Box, box: Sequence[float]) -> float | None:
    """Compute the share of a map's sum that lies inside a box; a cell on its edge counts with the part inside.

    Args:
        cam: ``(h, w)``; negative values count as zero.
        crop: the part of the photo that the map covers.
        box: left, top, right, bottom in pixels of the photo.

    Returns:
        0 to 1; ``None`` for a map without a positive value.

    Source: energy-based pointing game, Wang et al. 2020, arXiv 1910.01279, section 4.3.

    Example:
        >>> compute_share_in_box(np.array([[1.0, 3.0]]), (0, 0, 20, 10), (15, 0, 20, 10))
        0.375
    """
    values = cam.astype(np.float64).clip(0)
    total = values.sum()
    if total <= 0:
        return None
    rows, columns = (
        _cover((box[side] - crop[side]) * cells / extent, (box[side + 2] - crop[side]) * cells / extent, cells)
        for side, cells, extent in ((1, cam.shape[0], crop[3] - crop[1]), (0, cam.shape[1], crop[2] - crop[0]))
    )
    return float(min(rows @ values @ columns / total, 1.0))


def _cover(low: float, high: float, cells: int) -> NDArray[np.float64]:
    """Which share of each cell lies between two places, in cells."""
    start = np.arange(cells, dtype=np.float64)
    return (np.minimum(start + 1, high) - np.maximum(start, low)).clip(0, 1)


def compute_entropy(cam: NDArray[Any]) -> float | None:
    """Compute the Shannon entropy of a map's positive values over that of equal ones.

    Args:
        cam: ``(h, w)``; negative values count as zero.

    Returns:
        0 where one cell holds everything, 1 where all cells are equal; ``None`` for a map without a positive value.

    Example:
        >>> compute_entropy(np.array([[1.0, 1.0], [0.0, 0.0]]))
        0.5
    """
    values = cam.astype(np.float64).clip(0).ravel()
    total = values.sum()
    if total <= 0:
        return None
    if len(values) == 1:
        return 0.0
    shares = values[values > 0] / total
    return float(max(-(shares * np.log(shares)).sum(), 0.0) / math.log(len(values)))


def compute_hottest_tenth(cam: NDArray[Any]) -> float | None:
    """Compute the share of a map's sum that lies in its hottest tenth of cells, rounded up to whole cells.

    Args:
        cam: ``(h, w)``; negative values count as zero.

    Returns:
        Above 0, at most 1; ``None`` for a map without a positive value.

    Example:
        >>> compute_hottest_tenth(np.array([[3.0, 1.0], [0.0, 0.0]]))
        0.75
    """
    values = np.sort(cam.astype(np.float64).clip(0).ravel())[::-1]
    total = values.sum()
    return float(values[: math.ceil(len(values) / TENTH)].sum() / total) if total > 0 else None
