"""``MultiScaleRoIAlign`` of torchvision for a batch with the same number of boxes in each image, in plain operators.

Source: He et al. 2017, arXiv 1703.06870, section 3; Lin et al. 2016, arXiv 1612.03144, equation 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

LEVEL_EPS = 1e-6  # of torchvision's LevelMapper


@dataclass(frozen=True)
class RoiPooling:
    """How boxes are cut out of a pyramid.

    Attributes:
        cells: height and width of what is cut out.
        samples: how many points are sampled along each side of a cell.
        scales: from pixels to the cells of each level.
        canonical_scale, canonical_level: a box of this size lies on this level.
    """

    cells: tuple[int, int]
    samples: int
    scales: tuple[float, ...]
    canonical_scale: float
    canonical_level: float

    @classmethod
    def of(cls, pooler: Any, maps: Sequence[Tensor], height: int, width: int) -> "RoiPooling":
        """As ``torchvision.ops.MultiScaleRoIAlign`` cuts boxes out of maps of an image of this size."""
        scales = tuple(2.0 ** round(math.log2(int(level.shape[2]) / height)) for level in maps)
        down, across = pooler.output_size
        return cls((down, across), int(pooler.sampling_ratio), scales, pooler.canonical_scale, pooler.canonical_level)

    def levels_of(self, boxes: Tensor) -> Tensor:
        """``(N, R)`` int64: the level of each box ``(N, R, 4)``, counted from the finest."""
        first, last = (-round(math.log2(scale)) for scale in (self.scales[0], self.scales[-1]))
        if len(self.scales) == 1:
            return torch.zeros(boxes.shape[:2], dtype=torch.int64, device=boxes.device)
        sides = boxes[..., 2:] - boxes[..., :2]
        size = torch.sqrt(sides[..., 0] * sides[..., 1])
        level = torch.floor(self.canonical_level + torch.log2(size / self.canonical_scale) + LEVEL_EPS)
        return level.clamp(first, last).to(torch.int64) - first

    def sample(self, maps: Sequence[Tensor], boxes: Tensor, levels: Tensor) -> Tensor:
        """Cut many boxes out, by reading single cells; without a gradient.

        Args:
            maps: ``(N, C, h, w)`` for each level.
            boxes: ``(N, R, 4)`` in pixels.
            levels: ``(N, R)`` int64.

        Returns:
            ``(N * R, C, *cells)``.
        """
        channels, count = int(maps[0].shape[1]), boxes.shape[1]
        table = torch.cat([level.flatten(2) for level in maps], 2).transpose(1, 2)  # (N, cells, C)
        rows = table.reshape(-1, channels)
        image = torch.arange(boxes.shape[0], device=boxes.device).reshape(-1, 1, 1, 1) * table.shape[1]
        of_level = [self._of_level(values, levels, boxes) for values in self._sizes(maps)]
        scale, height, width, start = of_level
        tops, bottoms, below = _corners(
            boxes[..., 1] * scale, boxes[..., 3] * scale, self.cells[0], self.samples, height
        )
        lefts, rights, beside = _corners(
            boxes[..., 0] * scale, boxes[..., 2] * scale, self.cells[1], self.samples, width
        )
        total = None
        for down, down_weight in ((tops, below[0]), (bottoms, below[1])):
            for across, across_weight in ((lefts, beside[0]), (rights, beside[1])):
                place = start[..., None, None] + down[..., None] * width[..., None, None] + across[..., None, :]
                weight = down_weight[..., None] * across_weight[..., None, :]
                cells = rows[(image + place.to(torch.int64)).flatten()].reshape(*place.shape, channels)
                part = cells * weight.unsqueeze(-1)
                total = part if total is None else total + part
        assert total is not None
        down_cells, across_cells = self.cells
        split = total.reshape(-1, count, down_cells, self.samples, across_cells, self.samples, channels)
        return split.mean((3, 5)).permute(0, 1, 4, 2, 3).flatten(0, 1)

    def cut(self, maps: Sequence[Tensor], boxes: Tensor, levels: Tensor) -> Tensor:
        """Cut few boxes out, by two matrix products for each level: bilinear sampling is separable.

        Arguments and result as of ``sample``; the maps get a gradient.
        """
        total = None
        for number, (level, scale) in enumerate(zip(maps, self.scales, strict=True)):
            height, width = int(level.shape[2]), int(level.shape[3])
            own = (levels == number).to(level.dtype)
            rows = _matrix(boxes[..., 1] * scale, boxes[..., 3] * scale, self.cells[0], self.samples, height)
            columns = _matrix(boxes[..., 0] * scale, boxes[..., 2] * scale, self.cells[1], self.samples, width)
            rows = rows * own[..., None, None]
            strips = torch.matmul(rows.flatten(1, 2).unsqueeze(1), level)  # (N, C, R * cells, w)
            strips = strips.reshape(-1, level.shape[1], boxes.shape[1], self.cells[0], width).transpose(1, 2)
            part = torch.matmul(strips, columns.transpose(2, 3).unsqueeze(2))
            total = part if total is None else total + part
        assert total is not None
        return total.flatten(0, 1)

    def _sizes(self, maps: Sequence[Tensor]) -> list[list[float]]:
        heights, widths = [int(level.shape[2]) for level in maps], [int(level.shape[3]) for level in maps]
        areas = [height * width for height, width in zip(heights, widths, strict=True)]
        starts = [sum(areas[:number]) for number in range(len(areas))]
        return [list(self.scales), list(map(float, heights)), list(map(float, widths)), list(map(float, starts))]

    @staticmethod
    def _of_level(values: Sequence[float], levels: Tensor, like: Tensor) -> Tensor:
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        return torch.tensor(values, dtype=dtype, device=like.device)[levels].to(like.dtype)


def _positions(low: Tensor, high: Tensor, cells: int, samples: int) -> Tensor:
    """``(N, R, cells * samples)``: where the samples of boxes from ``low`` to ``high`` lie, in cells of the level."""
    cell = (high - low).clamp(min=1.0) / cells
    steps = torch.arange(cells * samples, dtype=low.dtype, device=low.device)
    whole = torch.div(steps, samples, rounding_mode="floor")
    return low.unsqueeze(2) + (whole + (steps - whole * samples + 0.5) / samples) * cell.unsqueeze(2)


def _corners(
    low: Tensor, high: Tensor, cells: int, samples: int, size: Tensor
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """The cells before and after each sample, and the weights of both, each ``(N, R, cells * samples)``."""
    at = _positions(low, high, cells, samples)
    most = size.unsqueeze(2) - 1
    inside = ((at >= -1.0) & (at <= size.unsqueeze(2))).to(at.dtype)
    at = torch.minimum(at.clamp(min=0.0), most)
    before = torch.floor(at)
    share = at - before
    return before, torch.minimum(before + 1, most), ((1 - share) * inside, share * inside)


def _matrix(low: Tensor, high: Tensor, cells: int, samples: int, size: int) -> Tensor:
    """``(N, R, cells, size)``: the weight of each cell of a level in each cell of the box, along one axis."""
    at = _positions(low, high, cells, samples)
    inside = ((at >= -1.0) & (at <= size)).to(at.dtype)
    places = torch.arange(size, dtype=at.dtype, device=at.device)
    weights = (1.0 - (at.clamp(0, size - 1).unsqueeze(3) - places).abs()).clamp(min=0.0) * inside.unsqueeze(3)
    return torch.unflatten(weights, 2, (cells, samples)).mean(3)
