"""Brings an artifact's maps to the resolution of its layer, where it resized them to the image."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.artifact.metadata import Metadata
from explainable_model.explanation import PREDICTED
from explainable_model.imaging.overlay import round_box
from explainable_model.imaging.preprocess import Box

Maps = NDArray[np.floating[Any]]
Run = Callable[[NDArray[Any], NDArray[np.int64]], Maps]

MOST_CELLS = 64  # on a side: a row holds a small map
CELL = 16  # pixels of the image in a cell, where the layer's own resolution is unknown
PROBES = 8  # of the predicted class and of others, since the map of a class may be zero
FEWEST_CELLS = 7  # on a side, where the image has as many pixels
EXACT = {"float32": 1e-4, "float16": 1e-2, "int8": 1e-3}  # how far an inverted map may be off, by precision


@dataclass(frozen=True)
class SmallMaps:
    """How maps become small.

    Attributes:
        source: in words, for the rows' metadata.
        grid: rows and columns of the small map; ``None`` where the maps stay as they are.
        inverse: whether the artifact's bilinear resizing is inverted; else the mean of each cell is taken.
    """

    source: str
    grid: tuple[int, int] | None = None
    inverse: bool = False

    def reduce(self, maps: Maps, boxes: list[Box | None]) -> Maps:
        """Make maps small.

        Args:
            maps: ``(N, H, W)``.
            boxes: of each map, the part that is meant, in its own cells; ``None`` for all of it.

        Returns:
            ``(N, h, w)`` float64.
        """
        values = maps.astype(np.float64)
        if self.grid is None:
            return values
        if self.inverse:
            rows, columns = (_invert(full, small) for full, small in zip(maps.shape[1:], self.grid, strict=True))
            return np.asarray(rows @ values @ columns.T)
        return np.stack([average_cells(each, self.grid, box) for each, box in zip(values, boxes, strict=True)])


def find_small_maps(metadata: Metadata, run: Run) -> SmallMaps:
    """Find how an artifact's maps become small.

    A map that was resized bilinearly from few values is determined by them: the smallest grid from which the artifact's
    answers to made-up images follow is the layer's. Where no such grid exists, cells of 16 pixels are averaged. A
    layer's own map with a side of more than 64 cells is averaged to 64.

    Args:
        metadata: of the artifact.
        run: ``(images (N, C, H, W), class_idx (N,)) -> maps (N, H, W)``.
    """
    if metadata.pixels is not None:
        rows, columns = count_cells(tuple(metadata.network_shape[-2:]))
        return SmallMaps(f"means over {rows} x {columns} cells of maps of the photo's size", (rows, columns))
    maps = _probe(metadata, run)
    size = (int(maps.shape[1]), int(maps.shape[2]))
    if metadata.upsample == "none" and max(size) <= MOST_CELLS:
        return SmallMaps("the layer's own resolution")
    full = f"maps of {size[0]} x {size[1]}"
    grid = (
        _find_grid(maps, EXACT.get(metadata.precision, EXACT["float32"])) if metadata.upsample == "bilinear" else None
    )
    if grid is not None:
        return SmallMaps(f"bilinear resizing inverted: {grid[0]} x {grid[1]} from {full}", grid, inverse=True)
    rows, columns = fit_cells(size) if metadata.upsample == "none" else count_cells(size)
    return SmallMaps(f"means over {rows} x {columns} cells of {full}", (rows, columns))


def _probe(metadata: Metadata, run: Run) -> Maps:
    """Maps of made-up images."""
    shape = metadata.example_shape
    rng = np.random.default_rng(0)
    coarse = rng.standard_normal((PROBES, shape[0], *(-(-side // CELL) for side in shape[1:])))
    fine = coarse.repeat(CELL, -2).repeat(CELL, -1)[..., : shape[1], : shape[2]]
    others = np.linspace(0, metadata.classes - 1, PROBES // 2).astype(np.int64)
    classes = np.concatenate([np.full(PROBES - len(others), PREDICTED), others])
    return run(np.ascontiguousarray(fine.astype(metadata.array_dtype)), classes)


def _find_grid(maps: Maps, tolerance: float) -> tuple[int, int] | None:
    values = maps.astype(np.float64)
    spread = values.max((1, 2)) - values.min((1, 2))
    values = values[spread > 0] / spread[spread > 0][:, None, None]
    if not len(values):  # constant maps follow from any grid
        return None
    rows = _find_length(values, tolerance)
    columns = _find_length(values.transpose(0, 2, 1), tolerance)
    return None if rows is None or columns is None else (rows, columns)


def _find_length(maps: Maps, tolerance: float) -> int | None:
    """The smallest number of values along the first axis from which the maps follow."""
    full = maps.shape[1]
    for small in range(1, min(MOST_CELLS, full) + 1):
        stretched = _stretch(full, small) @ (_invert(full, small) @ maps)
        if np.abs(stretched - maps).max() <= tolerance:
            return small
    return None


@cache
def _stretch(full: int, small: int) -> NDArray[np.float64]:
    """The matrix ``(full, small)`` of linear resizing with half-pixel centers."""
    places = ((np.arange(full) + 0.5) * small / full - 0.5).clip(0, small - 1)
    lower = np.floor(places).astype(int)
    upper = np.minimum(lower + 1, small - 1)
    matrix = np.zeros((full, small))
    np.add.at(matrix, (np.arange(full), lower), 1 - (places - lower))
    np.add.at(matrix, (np.arange(full), upper), places - lower)
    return matrix


@cache
def _invert(full: int, small: int) -> NDArray[np.float64]:
    return np.asarray(np.linalg.pinv(_stretch(full, small)), np.float64)


def count_cells(size: tuple[int, ...]) -> tuple[int, int]:
    """Count rows and columns of cells of 16 pixels of an image; 7 to 64, where it has as many pixels."""
    rows, columns = (min(max(side // CELL, min(side, FEWEST_CELLS)), MOST_CELLS) for side in size)
    return rows, columns


def fit_cells(size: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a layer's own map, as they are where no side is longer than 64, and else in its shape."""
    shrink = max(1.0, max(size) / MOST_CELLS)
    rows, columns = (max(1, round(side / shrink)) for side in size)
    return rows, columns


def average_cells(cam: Maps, grid: tuple[int, int], box: Box | None = None) -> Maps:
    """Average a map ``(H, W)``, or the part of it that a box names, over the cells of a grid.

    A value on the edge of a cell counts with the share that lies inside. The edges of the box are rounded to whole
    values, since a value beyond the part that the network saw is zero.
    """
    size = (cam.shape[1], cam.shape[0])
    left, top, right, bottom = (0, 0, *size) if box is None else round_box(box, size)
    rows = _sum_rows(cam, np.linspace(top, bottom, grid[0] + 1))
    sums = _sum_rows(rows.T, np.linspace(left, right, grid[1] + 1)).T
    means: Maps = sums * (grid[0] * grid[1] / ((right - left) * (bottom - top)))
    return means


def _sum_rows(values: Maps, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum the rows between each two edges, of which one may lie inside a row."""
    first = np.floor(edges).astype(int).clip(0, len(values) - 1)
    share = edges - first
    sums = np.empty((len(edges) - 1, values.shape[1]))
    for n, (low, high) in enumerate(pairwise(first)):
        sums[n] = values[low:high].sum(0, dtype=np.float64) - share[n] * values[low] + share[n + 1] * values[high]
    return sums
