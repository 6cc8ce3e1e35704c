"""Measures that compare a map with a mask of what is to be found."""

import numpy as np
from numpy.typing import NDArray

from explainable_model.evaluation.curves import Floats
from explainable_model.imaging.regions import HALF, compute_share_inside

Mask = NDArray[np.bool_]

TOLERANCE = 15 / 224  # of the longer side: 15 pixels in an image of 224


def pointing_game(cam: Floats, mask: Mask, *, tolerance: float = TOLERANCE) -> float:
    """1 where the map is largest inside the mask or within a tolerance of it, else 0. Larger is better.

    Of several largest values the one in the middle of them is taken. A map without a positive value is a miss.

    Args:
        cam: ``(H, W)``.
        mask: ``(H, W)``.
        tolerance: as a share of the longer side.

    Source: excitation backprop, Zhang et al. 2016, arXiv 1608.00507, section 4.2.
    """
    if cam.max() <= 0:
        return 0.0
    points = np.argwhere(cam == cam.max())
    row, column = points[np.abs(points - points.mean(0)).sum(1).argmin()]
    rows, columns = np.nonzero(mask)
    distance = float(np.hypot(rows - row, columns - column).min())
    return float(distance <= tolerance * max(cam.shape))


def energy_in_mask(cam: Floats, mask: Mask) -> float | None:
    """Share of the map inside the mask, see ``compute_share_inside``. Larger is better; chance is the mask's area."""
    return compute_share_inside(cam, mask)


def intersection_over_union(cam: Floats, mask: Mask, *, threshold: float = HALF) -> float:
    """Overlap of the mask with the part of the map from a share of its maximum on. Larger is better.

    Args:
        cam: ``(H, W)``.
        mask: ``(H, W)``.
        threshold: the share of the maximum.

    Returns:
        0 to 1.

    Example:
        >>> intersection_over_union(np.array([[1.0, 0.6], [0.0, 0.0]]), np.array([[True, False], [False, False]]))
        0.5
    """
    if cam.max() <= 0:
        return 0.0
    found = cam >= threshold * cam.max()
    return float((found & mask).sum() / (found | mask).sum())
