"""Maps of all rows on one coarse grid, and where on it they are hottest."""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Levels: TypeAlias = NDArray[np.uint8]  # (n, h, w): 255 is the maximum of each map, 0 is no evidence
Maps: TypeAlias = NDArray[np.float64]

LARGEST_SIDE = 14  # a finer map is averaged: places are compared, not outlines
CHUNK = 65_536  # maps, which bounds the memory
PLATEAU = 0.95  # cells of this share of the maximum are the hottest place


class Place(NamedTuple):
    """A point of the part of a photo that the network saw, in shares: ``(0, 0)`` is its upper left corner."""

    y: float
    x: float

    @property
    def is_middle(self) -> bool:
        """Whether it lies in the middle third of both directions, where most subjects of photos are."""
        return all(1 / 3 <= value <= 2 / 3 for value in self)

    def describe(self) -> str:
        """Name the ninth of the photo: ``top left corner``, ``right edge``, ``middle``."""
        vertical = "top" if self.y < 1 / 3 else "bottom" if self.y > 2 / 3 else ""
        horizontal = "left" if self.x < 1 / 3 else "right" if self.x > 2 / 3 else ""
        if vertical and horizontal:
            return f"{vertical} {horizontal} corner"
        return f"{vertical or horizontal} edge" if vertical or horizontal else "middle"


def choose_grid(height: int, width: int) -> tuple[int, int]:
    """Choose the grid on which maps are compared, from the size of the first map."""
    return min(height, LARGEST_SIDE), min(width, LARGEST_SIDE)


def fit_map(levels: NDArray[np.uint8], zero: int, grid: tuple[int, int]) -> Levels:
    """Bring the evidence of a map onto a grid, with 255 as its maximum.

    Args:
        levels: ``(h, w)``.
        zero: the level of no evidence; smaller ones are evidence against the class, which is left out.
        grid: height and width.
    """
    from PIL import Image

    evidence = np.maximum(levels.astype(np.float32) - zero, 0)
    if evidence.shape != grid:
        picture = Image.fromarray(evidence).resize((grid[1], grid[0]), Image.Resampling.BILINEAR)
        evidence = np.asarray(picture)
    largest = float(evidence.max())
    if largest <= 0:
        return np.zeros(grid, np.uint8)
    fitted: Levels = np.rint(evidence * (255 / largest)).clip(0, 255).astype(np.uint8)
    return fitted


def as_shares(maps: Levels) -> Maps:
    """Divide each map by its sum: shares of the heat, ``(n, h, w)``; a map of zeros stays as it is."""
    heat = maps.astype(np.float64)
    total = heat.sum((1, 2), keepdims=True)
    shares: Maps = np.divide(heat, total, out=np.zeros_like(heat), where=total > 0)
    return shares


def average_maps(maps: Levels) -> Levels:
    """Average maps of which each has the same weight; the result has 255 as its maximum."""
    mean = as_shares(maps).mean(0)
    largest = mean.max()
    average: Levels = np.rint(mean * (255 / largest)).astype(np.uint8) if largest > 0 else np.zeros_like(maps[0])
    return average


def find_hottest(maps: Levels) -> NDArray[np.float64]:
    """Find the hottest place of each map: the center of its hottest cells, ``(n, 2)``, rows first, in shares.

    A map with several maxima far apart is hottest between them: it has no fixed place.
    """
    parts = [_find_hottest(maps[start : start + CHUNK]) for start in range(0, max(len(maps), 1), CHUNK)]
    return np.concatenate(parts)


def _find_hottest(maps: Levels) -> NDArray[np.float64]:
    _, height, width = maps.shape
    heat = maps.astype(np.float64)
    hottest = heat >= PLATEAU * heat.max((1, 2), keepdims=True)
    count = hottest.sum((1, 2))
    rows = (np.arange(height) + 0.5) / height
    columns = (np.arange(width) + 0.5) / width
    return np.stack([(hottest.sum(2) * rows).sum(1) / count, (hottest.sum(1) * columns).sum(1) / count], 1)


def is_near(
    points: NDArray[np.float64], place: Sequence[float], grid: tuple[int, int], reach: float = 1.0
) -> NDArray[np.bool_]:
    """Whether points lie within a cell of a place, or within a seventh of the photo where cells are smaller.

    Args:
        points: ``(n, 2)``, rows first, in shares.
        place: in the same order.
        grid: height and width.
        reach: in cells.
    """
    far = reach * np.array([max(1 / side, 1 / 7) for side in grid]) + 1e-9
    near: NDArray[np.bool_] = (np.abs(points - np.asarray(place)) <= far).all(1)
    return near


def share_in_place(first: Levels, second: Levels) -> NDArray[np.float64]:
    """Compute which share of the heat lies in the same place in two maps each: 1 equal, 0 apart; ``(n,)``.

    Source: intersection of histograms, Swain and Ballard 1991.
    """
    common: NDArray[np.float64] = np.minimum(as_shares(first), as_shares(second)).sum((1, 2))
    return common
