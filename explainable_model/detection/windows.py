"""A convolutional head at few places: only the cells that a place depends on are computed, and differentiated.

What is explained of a box is one number at one place of one level. Its gradient is zero outside of a small window of
the head's input, so that a backward pass over whole levels would spend nearly all of its time on zeros.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

POINTWISE = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.SiLU,
    nn.GELU,
    nn.Hardswish,
    nn.Identity,
    nn.Dropout,
    nn.BatchNorm2d,
)
"""Modules that compute each cell by itself, in evaluation mode."""
CONVOLUTION_BLOCKS = ("Conv", "DWConv")  # of ultralytics


def local_layers(*modules: nn.Module) -> list[nn.Module] | None:
    """The convolutions and pointwise modules of a head in their order; ``None`` where it has others."""
    found: list[nn.Module] = []
    for module in modules:
        if isinstance(module, nn.Sequential):
            inner = local_layers(*module)
        elif type(module).__name__ in CONVOLUTION_BLOCKS and hasattr(module, "conv"):
            parts = (getattr(module, name, None) for name in ("conv", "bn", "act"))
            inner = local_layers(*(part for part in parts if isinstance(part, nn.Module)))
        else:
            pointwise = isinstance(module, POINTWISE) or type(module).__name__ == "FrozenBatchNorm2d"
            inner = [module] if pointwise or _is_same_convolution(module) else None
        if inner is None:
            return None
        found += inner
    return found


def _is_same_convolution(module: nn.Module) -> bool:
    """Whether a module is a convolution that keeps the size of its input."""
    if type(module) is not nn.Conv2d or module.padding_mode != "zeros" or isinstance(module.padding, str):
        return False
    kept = all(
        length % 2 == 1 and 2 * padding == dilation * (length - 1)
        for length, padding, dilation in zip(module.kernel_size, module.padding, module.dilation, strict=True)
    )
    square = len(set(module.kernel_size)) == 1 and len(set(module.dilation)) == 1
    return kept and square and set(module.stride) == {1}


def _radius(layer: nn.Module) -> int:
    return int(layer.padding[0]) if isinstance(layer, nn.Conv2d) else 0


@dataclass(frozen=True)
class Places:
    """Cells of a pyramid.

    Attributes:
        level, row, column: ``(N, R)`` int64.
    """

    level: Tensor
    row: Tensor
    column: Tensor

    def is_on(self, number: int, like: Tensor) -> Tensor:
        """``(N, R)``: one for a place on this level, else zero."""
        return (self.level == number).to(like.dtype)


def locate(cells: Tensor, level: Tensor, maps: Sequence[Tensor]) -> Places:
    """The places of cells that are counted row by row in their level.

    Args:
        cells: ``(N, R)`` int64.
        level: ``(N, R)`` int64.
        maps: ``(N, C, h, w)`` for each level.
    """
    width = torch.tensor([int(values.shape[3]) for values in maps], device=cells.device)[level]
    row = torch.div(cells, width, rounding_mode="floor")
    return Places(level, row, cells - row * width)


def run_at(layers: Sequence[nn.Module], maps: Sequence[Tensor], places: Places, only: int | None = None) -> Tensor:
    """What a head computes at some places, with the gradient of its input.

    Args:
        layers: from ``local_layers``.
        maps: ``(N, C, h, w)`` for each level.
        places: ``(N, R)``.
        only: a level; places on others have an output of no meaning. ``None`` for a head that all levels share.

    Returns:
        ``(N, R, outputs)``.
    """
    radius = sum(map(_radius, layers))
    numbers = range(len(maps)) if only is None else (only,)
    offsets = torch.arange(-radius, radius + 1, device=places.row.device)
    value, inside = None, None
    for number in numbers:
        level = maps[number]
        height, width = int(level.shape[2]), int(level.shape[3])
        own = places.is_on(number, level)[..., None, None]
        rows = _one_hot(places.row, offsets, height, level) * own
        columns = _one_hot(places.column, offsets, width, level)
        strips = torch.matmul(rows.flatten(1, 2).unsqueeze(1), level)
        strips = strips.reshape(-1, level.shape[1], rows.shape[1], rows.shape[2], width).transpose(1, 2)
        part = torch.matmul(strips, columns.transpose(2, 3).unsqueeze(2))
        within = rows.sum(3).unsqueeze(3) * columns.sum(3).unsqueeze(2)
        value = part if value is None else value + part
        inside = within if inside is None else inside + within
    assert value is not None
    assert inside is not None
    output = _run(layers, value.flatten(0, 1), inside.flatten(0, 1).unsqueeze(1))
    return output.reshape(*places.row.shape, -1)


def _one_hot(start: Tensor, offsets: Tensor, size: int, like: Tensor) -> Tensor:
    """``(N, R, window, size)``: which cell each cell of a window is; none for cells outside of the level."""
    cells = torch.arange(size, device=like.device)
    return ((start.unsqueeze(2) + offsets).unsqueeze(3) == cells).to(like.dtype)


def _run(layers: Sequence[nn.Module], value: Tensor, inside: Tensor) -> Tensor:
    """Run windows ``(M, C, s, s)`` through the layers without padding; cells outside of the level are zeros."""
    for layer in layers:
        if not isinstance(layer, nn.Conv2d):
            value = layer(value)
            continue
        radius = _radius(layer)
        if radius:
            value = value * inside
            inside = inside[..., radius:-radius, radius:-radius]
        value = functional.conv2d(value, layer.weight, layer.bias, dilation=layer.dilation, groups=layer.groups)
    return value
