"""Compares two runs photo by photo: which predictions flipped, and which maps moved."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explainable_model.errors import InputError
from explainable_model.report.grids import Levels, share_in_place
from explainable_model.report.run_table import RunTable

SAME_EDGE = 0.02  # edges of two crops that are so near are taken as the same
MOVED = 0.5  # a map has moved where more than half of its heat lies elsewhere


@dataclass(frozen=True, eq=False)
class Pairs:
    """The photos that two runs share.

    Attributes:
        first, second: numbers of the rows in each run.
        flipped: whether the predictions differ.
        moved: which share of the heat lies elsewhere, 0 to 1; NaN where a run has no map.
        changed: photos with the same id and other bytes, which are left out.
        only_first, only_second: rows that the other run does not have.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    flipped: NDArray[np.bool_]
    moved: NDArray[np.float64]
    changed: int
    only_first: int
    only_second: int


def pair_runs(first: RunTable, second: RunTable) -> Pairs:
    """Find the photos that two runs share, by their ids, or by their bytes where no id is shared.

    Raises:
        InputError: no photo is in both.
    """
    for keys in ("ids", "contents"):
        a, b = getattr(first, keys), getattr(second, keys)
        _, left, right = np.intersect1d(a, b, return_indices=True)
        known = a[left] != 0
        left, right = left[known], right[known]
        if len(left):
            break
    else:
        raise InputError(
            f"{first.folder.path} and {second.folder.path} have no photo in common, by id or by content; expected two "
            "runs of the same photos."
        )
    order = np.argsort(left)
    left, right = left[order], right[order]
    one, other = first.contents[left], second.contents[right]
    same = (one == other) | (one == 0) | (other == 0)
    left, right = left[same], right[same]
    answered = ~first.failed[left] & ~second.failed[right]
    return Pairs(
        left,
        right,
        answered & (first.predicted[left] != second.predicted[right]),
        _measure_moves(first, second, left, right),
        int((~same).sum()),
        len(first) - len(order),
        len(second) - len(order),
    )


def _measure_moves(
    first: RunTable, second: RunTable, left: NDArray[np.int64], right: NDArray[np.int64]
) -> NDArray[np.float64]:
    moved = np.full(len(left), np.nan)
    both = first.has_map()[left] & second.has_map()[right]
    grid = min(first.grid, second.grid, key=lambda sides: sides[0] * sides[1])
    for start in range(0, int(both.sum()), 4096):  # bounds the memory
        chosen = np.flatnonzero(both)[start : start + 4096]
        a, b = left[chosen], right[chosen]
        common = _intersect(first.crop[a], second.crop[b])
        one = _cut_out(first.maps[a], first.crop[a], common, grid)
        other = _cut_out(second.maps[b], second.crop[b], common, grid)
        moved[chosen] = 1 - share_in_place(one, other)
        moved[chosen[~(one.any((1, 2)) & other.any((1, 2)))]] = np.nan
    return moved


def _intersect(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """The part of the photo that both networks saw."""
    return np.concatenate([np.maximum(one[:, :2], other[:, :2]), np.minimum(one[:, 2:], other[:, 2:])], 1)


def _cut_out(maps: Levels, crops: NDArray[np.float32], parts: NDArray[np.float32], grid: tuple[int, int]) -> Levels:
    """Cut the same part of the photo out of every map, and bring it onto a grid."""
    if maps.shape[1:] == grid and np.allclose(crops, parts, atol=SAME_EDGE):
        return maps
    sides = np.tile(crops[:, 2:] - crops[:, :2], 2)
    edges = (parts - np.tile(crops[:, :2], 2)) / sides * np.tile(maps.shape[:0:-1], 2)
    return np.stack([_cut_one(one, box, grid) for one, box in zip(maps, edges.tolist(), strict=True)])


def _cut_one(levels: NDArray[np.uint8], box: list[float], grid: tuple[int, int]) -> NDArray[np.uint8]:
    from PIL import Image

    height, width = grid
    if box[0] >= box[2] or box[1] >= box[3]:
        return np.zeros(grid, np.uint8)
    extent = (box[0], box[1], box[2], box[3])
    picture = Image.fromarray(levels).resize((width, height), Image.Resampling.BILINEAR, box=extent)
    return np.asarray(picture)
