"""Views and moves: every element keeps its value and changes its place."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.nn import functional

from explainable_model.errors import LoweringError
from explainable_model.lowering.call import Call, Gradients, Lowering
from explainable_model.lowering.shapes import known, shape_of, unbroadcast

aten = torch.ops.aten


def reshaped(call: Call, grad: Tensor, self: Tensor, **_: Any) -> Gradients:
    """view(Tensor(a) self, SymInt[] size) -> Tensor(a); reshape, flatten, unflatten, squeeze and unsqueeze alike"""
    return {"self": grad.reshape(shape_of(self))}


def permute(call: Call, grad: Tensor, self: Tensor, dims: Sequence[int]) -> Gradients:
    """permute(Tensor(a) self, int[] dims) -> Tensor(a)"""
    order = [d % self.ndim for d in dims]
    return {"self": grad.permute([order.index(d) for d in range(self.ndim)])}


def transpose(call: Call, grad: Tensor, self: Tensor, dim0: int, dim1: int) -> Gradients:
    """transpose.int(Tensor(a) self, int dim0, int dim1) -> Tensor(a)"""
    return {"self": grad.transpose(dim0, dim1)}


def t(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """t(Tensor(a) self) -> Tensor(a)"""
    return {"self": grad.t()}


def movedim(call: Call, grad: Tensor, self: Tensor, source: Any, destination: Any) -> Gradients:
    """movedim.int(Tensor(a) self, int source, int destination) -> Tensor(a); movedim.intlist alike"""
    return {"self": grad.movedim(destination, source)}


def expand(call: Call, grad: Tensor, self: Tensor, size: Sequence[Any], implicit: bool = False) -> Gradients:
    """expand(Tensor(a) self, SymInt[] size, *, bool implicit=False) -> Tensor(a)"""
    return {"self": unbroadcast(grad, self)}


def repeat(call: Call, grad: Tensor, self: Tensor, repeats: Sequence[Any]) -> Gradients:
    """repeat(Tensor self, SymInt[] repeats) -> Tensor"""
    new = len(repeats) - self.ndim
    if new:
        grad = grad.sum(list(range(new))) if all(known(r == 1) for r in repeats[:new]) else _sum_new(grad, repeats, new)
    for dim, times in enumerate(repeats[new:]):
        if not known(times == 1):
            grad = grad.unflatten(dim, (times, self.shape[dim])).sum(dim)
    return {"self": grad}


def _sum_new(grad: Tensor, repeats: Sequence[Any], new: int) -> Tensor:
    return grad.sum(list(range(new)))


def repeat_interleave(
    call: Call, grad: Tensor, self: Tensor, repeats: int, dim: int | None = None, output_size: Any = None
) -> Gradients:
    """repeat_interleave.self_int(Tensor self, SymInt repeats, int? dim=None, *, SymInt? output_size=None) -> Tensor"""
    if dim is None:
        return {"self": grad.reshape(-1, repeats).sum(1).reshape(shape_of(self))}
    dim %= self.ndim
    return {"self": grad.unflatten(dim, (self.shape[dim], repeats)).sum(dim + 1)}


def roll(call: Call, grad: Tensor, self: Tensor, shifts: Sequence[Any], dims: Sequence[int] = ()) -> Gradients:
    """roll(Tensor self, SymInt[1] shifts, int[1] dims=[]) -> Tensor"""
    return {"self": torch.roll(grad, [-s for s in shifts], list(dims))}


def flip(call: Call, grad: Tensor, self: Tensor, dims: Sequence[int]) -> Gradients:
    """flip(Tensor self, int[] dims) -> Tensor"""
    return {"self": grad.flip(dims)}


# Joining and splitting


def cat(call: Call, grad: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> Gradients:
    """cat(Tensor[] tensors, int dim=0) -> Tensor"""
    parts: list[Tensor | None] = []
    start: Any = 0
    for index, tensor in enumerate(tensors):
        length = tensor.shape[dim]
        parts.append(grad.narrow(dim, start, length) if call.needs(f"tensors[{index}]") else None)
        start = start + length
    return {"tensors": parts}


def stack(call: Call, grad: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> Gradients:
    """stack(Tensor[] tensors, int dim=0) -> Tensor"""
    return {
        "tensors": [grad.select(dim, i) if call.needs(f"tensors[{i}]") else None for i in range(len(tensors))]
    }


def split(call: Call, grad: Sequence[Tensor | None], self: Tensor, dim: int = 0, **_: Any) -> Gradients:
    """split.Tensor(Tensor(a) self, SymInt split_size, int dim=0) -> Tensor(a)[]; split_with_sizes, chunk alike"""
    return {"self": torch.cat(_filled(grad, call.output), dim)}


def unbind(call: Call, grad: Sequence[Tensor | None], self: Tensor, dim: int = 0) -> Gradients:
    """unbind.int(Tensor(a) self, int dim=0) -> Tensor(a)[]"""
    return {"self": torch.stack(_filled(grad, call.output), dim)}


def _filled(grads: Sequence[Tensor | None], outputs: Sequence[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(o) if g is None else g for g, o in zip(grads, outputs, strict=True)]


def select(call: Call, grad: Tensor, self: Tensor, dim: int, index: Any) -> Gradients:
    """select.int(Tensor(a) self, int dim, SymInt index) -> Tensor(a)"""
    dim %= self.ndim
    length = self.shape[dim]
    index = index + length if index < 0 else index
    return {"self": _placed(grad.unsqueeze(dim), dim, index, length - 1 - index)}


def slice_(
    call: Call, grad: Tensor, self: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Gradients:
    """slice.Tensor(Tensor(a) self, int dim=0, SymInt? start=None, SymInt? end=None, SymInt step=1) -> Tensor(a)"""
    dim %= self.ndim
    length = self.shape[dim]
    start = 0 if start is None else start
    start = max(start + length, 0) if start < 0 else start
    if step != 1:
        grad = _spread(grad, dim, step)
    return {"self": _placed(grad, dim, start, length - start - grad.shape[dim])}


def _spread(grad: Tensor, dim: int, step: int) -> Tensor:
    """``step - 1`` zeros between neighbours."""
    wide = _placed(grad.unsqueeze(dim + 1), dim + 1, 0, step - 1).flatten(dim, dim + 1)
    return wide.narrow(dim, 0, wide.shape[dim] - (step - 1))


def _placed(grad: Tensor, dim: int, before: Any, after: Any) -> Tensor:
    """Zeros around the gradient along one dimension; negative values crop."""
    if known(before == 0) and known(after == 0):
        return grad
    pads = [0, 0] * (grad.ndim - 1 - dim) + [before, after]
    return aten.constant_pad_nd(grad, pads, 0.0)  # type: ignore[no-any-return]


def slice_scatter(
    call: Call, grad: Tensor, self: Tensor, src: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Gradients:
    """slice_scatter(Tensor self, Tensor src, int dim=0, SymInt? start=None, SymInt? end=None, SymInt step=1)
    -> Tensor
    """
    zeros = torch.zeros_like(src) if call.needs("self") else None
    return {
        "self": None if zeros is None else aten.slice_scatter(grad, zeros, dim, start, end, step),
        "src": aten.slice.Tensor(grad, dim, start, end, step) if call.needs("src") else None,
    }


# Between channels and space


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
        spread = _placed(grad, dim + 1, 0, step - size).flatten(dim, dim + 1)
        return {"self": _placed(spread, dim, 0, length - windows * step)}
    # Overlapping windows: each place in the window is a slice of the input with that step.
    parts = []
    for place in range(size):
        spread = _spread(grad.select(dim + 1, place), dim, step)
        parts.append(_placed(spread, dim, place, length - place - spread.shape[dim]))
    return {"self": sum(parts[1:], parts[0])}


TABLE: Mapping[OpOverload, Lowering] = {
    aten.view.default: reshaped,
    aten._unsafe_view.default: reshaped,
    aten.reshape.default: reshaped,
    aten.flatten.using_ints: reshaped,
    aten.unflatten.int: reshaped,
    aten.squeeze.default: reshaped,
    aten.squeeze.dim: reshaped,
    aten.squeeze.dims: reshaped,
    aten.unsqueeze.default: reshaped,
    aten.permute.default: permute,
    aten.transpose.int: transpose,
    aten.t.default: t,
    aten.movedim.int: movedim,
    aten.movedim.intlist: movedim,
    aten.expand.default: expand,
    aten.repeat.default: repeat,
    aten.repeat_interleave.self_int: repeat_interleave,
    aten.roll.default: roll,
    aten.flip.default: flip,
    aten.cat.default: cat,
    aten.stack.default: stack,
    aten.split.Tensor: split,
    aten.split_with_sizes.default: split,
    aten.chunk.default: split,
    aten.unsafe_split.Tensor: split,
    aten.unsafe_chunk.default: split,
    aten.tensor_split.sections: split,
    aten.unbind.int: unbind,
    aten.select.int: select,
    aten.slice.Tensor: slice_,
    aten.slice_scatter.default: slice_scatter,
    aten.pixel_shuffle.default: pixel_shuffle,
    aten.pixel_unshuffle.default: pixel_unshuffle,
    aten.channel_shuffle.default: channel_shuffle,
    aten.im2col.default: im2col,
    aten.col2im.default: col2im,
    aten.unfold.default: unfold,
}
