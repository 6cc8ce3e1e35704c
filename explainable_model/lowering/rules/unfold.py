"""Windows cut out of a tensor, and channels moved into space or back."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.nn import functional

from explainable_model.errors import LoweringError
from explainable_model.lowering.rules.call import Call, Gradients, Lowering
from explainable_model.lowering.rules.concat import spread, surrounded

aten = torch.ops.aten


def pixel_shuffle(call: Call, grad: Tensor, self: Tensor, upscale_factor: int) -> Gradients:
    """pixel_shuffle(Tensor self, int upscale_factor) -> Tensor"""
    return {"self": functional.pixel_unshuffle(grad, upscale_factor)}


def pixel_unshuffle(call: Call, grad: Tensor, self: Tensor, downscale_factor: int) -> Gradients:
    """pixel_unshuffle(Tensor self, int downscale_factor) -> Tensor"""
    return {"self": functional.pixel_shuffle(grad, downscale_factor)}


def channel_shuffle(call: Call, grad: Tensor, self: Tensor, groups: int) -> Gradients:
    """channel_shuffle(Tensor self, SymInt groups) -> Tensor"""
    # Transposing (groups, channels / groups) back is the shuffle by the other factor.
    return {"self": functional.channel_shuffle(grad, self.shape[1] // groups)}


def im2col(
    call: Call, grad: Tensor, self: Tensor, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> Gradients:
    """im2col(Tensor self, int[2] kernel_size, int[2] dilation, int[2] padding, int[2] stride) -> Tensor"""
    return {"self": aten.col2im(grad, list(self.shape[-2:]), kernel_size, dilation, padding, stride)}


def col2im(
    call: Call, grad: Tensor, self: Tensor, output_size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> Gradients:
    """col2im(Tensor self, SymInt[2] output_size, int[2] kernel_size, int[2] dilation, int[2] padding,
    int[2] stride) -> Tensor
    """
    return {"self": aten.im2col(grad, kernel_size, dilation, padding, stride)}


def unfold(call: Call, grad: Tensor, self: Tensor, dimension: int, size: int, step: int) -> Gradients:
    """unfold(Tensor(a) self, int dimension, int size, int step) -> Tensor(a)"""
    dim = dimension % self.ndim
    windows, length = call.output.shape[dim], self.shape[dim]
    if not isinstance(windows, int) or not isinstance(length, int):
        raise LoweringError("unfold along a dimension of open size; export with it fixed")
    grad = grad.movedim(-1, dim + 1)
    if step >= size:
        apart = surrounded(grad, dim + 1, 0, step - size).flatten(dim, dim + 1)
        return {"self": surrounded(apart, dim, 0, length - windows * step)}
    # Windows overlap: one place of all windows is a strided slice of the input.
    gradient: Tensor | None = None
    for place in range(size):
        apart = spread(grad.select(dim + 1, place), dim, step)
        part = surrounded(apart, dim, place, length - place - apart.shape[dim])
        gradient = part if gradient is None else gradient + part
    return {"self": gradient}


TABLE: Mapping[OpOverload, Lowering] = {
    aten.pixel_shuffle.default: pixel_shuffle,
    aten.pixel_unshuffle.default: pixel_unshuffle,
    aten.channel_shuffle.default: channel_shuffle,
    aten.im2col.default: im2col,
    aten.col2im.default: col2im,
    aten.unfold.default: unfold,
}
