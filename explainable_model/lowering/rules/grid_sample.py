"""Sampling an image at the points of a grid, as spatial transformers do."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from explainable_model.errors import LoweringError
from explainable_model.lowering.rules.call import Call, Gradients, Lowering
from explainable_model.lowering.shapes import shape_of

aten = torch.ops.aten
BILINEAR, NEAREST = 0, 1
ZEROS, BORDER, REFLECTION = 0, 1, 2


@dataclass(frozen=True)
class _Axis:
    """Where the grid falls along one axis of the image, in pixels.

    Attributes:
        at: ``(N, points)``, the position after padding.
        slope: its derivative with respect to the grid.
        size: the image's length along this axis.
    """

    at: Tensor
    slope: Tensor
    size: int

    def corner(self, which: int) -> tuple[Tensor, Tensor, Tensor]:
        """Index, weight and the weight's derivative of the pixel before (0) or after (1) the position."""
        low = torch.floor(self.at)
        index, after = low + which, self.at - low
        inside = ((index >= 0) & (index <= self.size - 1)).to(self.at.dtype)
        weight, slope = (after, self.slope) if which else (1 - after, -self.slope)
        return index.clamp(0, self.size - 1), weight * inside, slope * inside

    def nearest(self) -> tuple[Tensor, Tensor]:
        """Index and weight (one, or zero outside) of the nearest pixel."""
        index = torch.round(self.at)
        inside = (index >= 0) & (index <= self.size - 1)
        return index.clamp(0, self.size - 1), inside.to(self.at.dtype)


def _axis(grid: Tensor, size: int, padding_mode: int, align_corners: bool) -> _Axis:
    per_unit = (size - 1) / 2 if align_corners else size / 2
    at = (grid + 1) * per_unit - (0.0 if align_corners else 0.5)
    slope = torch.ones_like(at) * per_unit
    if padding_mode == REFLECTION:
        low, span = (0.0, float(size - 1)) if align_corners else (-0.5, float(size))
        if span == 0:
            return _Axis(torch.zeros_like(at), torch.zeros_like(at), size)
        distance = at - low
        flips = torch.floor(distance.abs() / span)
        rest = distance.abs() - flips * span
        odd = flips - 2 * torch.floor(flips * 0.5)  # 1 on the way back
        at = low + rest + odd * (span - 2 * rest)
        slope = slope * torch.where(distance < 0, -1.0, 1.0) * (1 - 2 * odd)
    if padding_mode in (BORDER, REFLECTION):
        slope = slope * ((at > 0) & (at < size - 1)).to(at.dtype)
        at = at.clamp(0, size - 1)
    return _Axis(at, slope, size)


def grid_sampler(
    call: Call, grad: Tensor, input: Tensor, grid: Tensor,
    interpolation_mode: int, padding_mode: int, align_corners: bool,
) -> Gradients:  # fmt: skip
    """grid_sampler_2d(Tensor input, Tensor grid, int interpolation_mode, int padding_mode, bool align_corners)
    -> Tensor; grid_sampler and grid_sampler_3d alike
    """
    if interpolation_mode not in (BILINEAR, NEAREST):
        raise LoweringError("grid_sample with mode='bicubic': only 'bilinear' and 'nearest' have a lowering")
    sizes = input.shape[2:]
    if not all(isinstance(size, int) for size in sizes):
        raise LoweringError("grid_sample needs a fixed height and width; export with them fixed")
    # The grid names the last dimension first.
    axes = [_axis(grid[..., -1 - i].flatten(1), size, padding_mode, align_corners) for i, size in enumerate(sizes)]
    along = grad.flatten(2)
    if interpolation_mode == NEAREST:
        corners = [[axis.nearest()] for axis in axes]
        return {"input": _scatter(input, along, corners), "grid": None}
    pairs = [[axis.corner(0), axis.corner(1)] for axis in axes]
    at_input = at_grid = None
    if call.needs("input"):
        at_input = _scatter(input, along, [[(index, weight) for index, weight, _ in pair] for pair in pairs])
    if call.needs("grid"):
        at_grid = _differentiate_grid(input, along, pairs).reshape(shape_of(grid))
    return {"input": at_input, "grid": at_grid}


def _flat(indices: tuple[Tensor, ...], sizes: Any) -> Tensor:
    """Positions in the flattened image, ``(N, 1, points)``."""
    flat = indices[0]
    for index, size in zip(indices[1:], sizes[1:], strict=True):
        flat = flat * size + index
    return flat.to(torch.int64).unsqueeze(1)


def _scatter(input: Tensor, grad: Tensor, corners: list[list[tuple[Tensor, Tensor]]]) -> Tensor:
    """Add each corner's share of the gradient at the corner's pixel."""
    gradient = torch.zeros_like(input).flatten(2)
    for corner in itertools.product(*corners):
        indices, weights = zip(*corner, strict=True)
        share = grad
        for weight in weights:
            share = share * weight.unsqueeze(1)
        gradient = gradient.scatter_add(2, _flat(indices, input.shape[2:]).expand_as(share), share)
    return gradient.reshape(shape_of(input))


def _differentiate_grid(input: Tensor, grad: Tensor, pairs: list[list[tuple[Tensor, Tensor, Tensor]]]) -> Tensor:
    """The gradient of the grid, ``(N, points, dimensions)``, through the weights of the corners."""
    flat, parts = input.flatten(2), [torch.zeros_like(pairs[0][0][1]) for _ in pairs]
    for corner in itertools.product(*pairs):
        indices, weights, slopes = zip(*corner, strict=True)
        value = (flat.gather(2, _flat(indices, input.shape[2:]).expand_as(grad)) * grad).sum(1)
        for i, slope in enumerate(slopes):
            change = value * slope
            for weight in (*weights[:i], *weights[i + 1 :]):
                change = change * weight
            parts[i] = parts[i] + change
    return torch.stack(parts[::-1], -1)


TABLE: Mapping[OpOverload, Lowering] = {
    aten.grid_sampler.default: grid_sampler,
    aten.grid_sampler_2d.default: grid_sampler,
    aten.grid_sampler_3d.default: grid_sampler,
}
