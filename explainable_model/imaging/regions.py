"""Measures of a map: where it is large, and how much of it lies inside a mask."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from explainable_model.errors import InputError
from explainable_model.imaging.arrays import as_array
from explainable_model.imaging.preprocess import Box

HALF = 0.5


def find_bounding_box(cam: ArrayLike, box: Box, threshold: float = HALF) -> Box | None:
    """Find the smallest box that holds every value of a map from a share of its maximum on.

    Args:
        cam: ``(h, w)``; negative values count as zero.
        box: the part of the photo that the map covers, as from ``Preprocess.box``.
        threshold: the share of the maximum, from 0 (exclusive) to 1.

    Returns:
        ``(left, top, right, bottom)`` in pixels of the photo; ``None`` for a map without a positive value.

    Raises:
        InputError: a threshold outside (0, 1], or a map of another shape.

    Example:
        >>> find_bounding_box([[0, 0.2], [0, 1.0]], (0, 0, 20, 20))
        (10.0, 10.0, 20.0, 20.0)
    """
    if not 0 < threshold <= 1:
        raise InputError(f"threshold is {threshold}; expected a share of the maximum: above 0, at most 1.")
    values = _as_map(cam)
    if values.max() <= 0:
        return None
    rows, columns = np.nonzero(values >= threshold * values.max())
    left, top, right, bottom = box
    across, down = (right - left) / values.shape[1], (bottom - top) / values.shape[0]
    return (
        float(left + columns.min() * across),
        float(top + rows.min() * down),
        float(left + (columns.max() + 1) * across),
        float(top + (rows.max() + 1) * down),
    )


def compute_share_inside(cam: ArrayLike, mask: ArrayLike) -> float | None:
    """Compute the share of a map that lies inside a mask: the sum of its values there over the sum of all.

    Args:
        cam: ``(h, w)``; negative values count as zero.
        mask: ``(h, w)`` of the map's own size; any value but zero is inside.

    Returns:
        0 to 1; ``None`` for a map without a positive value.

    Raises:
        InputError: a mask of another shape, or an empty one.

    Source: energy-based pointing game, Wang et al. 2020, arXiv 1910.01279, section 4.3.

    Example:
        >>> compute_share_inside([[0.0, 1.0], [0.0, 3.0]], [[0, 0], [0, 1]])
        0.75
    """
    values, inside = _as_map(cam), as_array(mask, "mask") != 0
    if inside.shape != values.shape:
        raise InputError(f"The mask has shape {inside.shape}; expected {values.shape}, that of the map.")
    if not inside.any():
        raise InputError("The mask is empty; expected at least one value that is not zero.")
    total = float(values.sum())
    return float(values[inside].sum()) / total if total > 0 else None


def _as_map(cam: ArrayLike) -> NDArray[np.float64]:
    values: NDArray[Any] = as_array(cam, "cam").astype(np.float64)
    if values.ndim != 2 or values.size == 0:
        raise InputError(f"cam has shape {values.shape}; expected (h, w), one map of one image: cam[0].")
    return values.clip(0)
