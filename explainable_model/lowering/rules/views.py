"""Views and permutations: elements keep their values and change their places."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from explainable_model.lowering.rules.call import Call, Gradients, Lowering
from explainable_model.lowering.shapes import known, shape_of, unbroadcast, unflatten

aten = torch.ops.aten


def reshaped(call: Call, grad: Tensor, self: Tensor, **_: Any) -> Gradients:
    """view(Tensor(a) self, SymInt[] size) -> Tensor(a); _unsafe_view, reshape, flatten, unflatten, squeeze and
    unsqueeze alike
    """
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


def roll(call: Call, grad: Tensor, self: Tensor, shifts: Sequence[Any], dims: Sequence[int] = ()) -> Gradients:
    """roll(Tensor self, SymInt[1] shifts, int[1] dims=[]) -> Tensor"""
    return {"self": torch.roll(grad, [-s for s in shifts], list(dims))}


def flip(call: Call, grad: Tensor, self: Tensor, dims: Sequence[int]) -> Gradients:
    """flip(Tensor self, int[] dims) -> Tensor"""
    return {"self": grad.flip(list(dims))}


# Copies of elements, whose gradients are added


def expand(call: Call, grad: Tensor, self: Tensor, **_: Any) -> Gradients:
    """expand(Tensor(a) self, SymInt[] size, *, bool implicit=False) -> Tensor(a); expand_as alike"""
    return {"self": unbroadcast(grad, self), "other": None}  # of another tensor only the shape is read


def repeat(call: Call, grad: Tensor, self: Tensor, repeats: Sequence[Any]) -> Gradients:
    """repeat(Tensor self, SymInt[] repeats) -> Tensor"""
    new = len(repeats) - self.ndim
    if new:
        grad = grad.sum(list(range(new)))
    for dim, times in enumerate(repeats[new:]):
        if not known(times == 1):
            grad = unflatten(grad, dim, (times, self.shape[dim])).sum(dim)
    return {"self": grad}


def repeat_interleave(call: Call, grad: Tensor, self: Tensor, repeats: int, dim: int | None = None) -> Gradients:
    """repeat_interleave.self_int(Tensor self, SymInt repeats, int? dim=None, *, SymInt? output_size=None) -> Tensor"""
    if dim is None:
        return {"self": grad.reshape(-1, repeats).sum(1).reshape(shape_of(self))}
    dim %= self.ndim
    return {"self": unflatten(grad, dim, (self.shape[dim], repeats)).sum(dim + 1)}


# Parts of a matrix


def tril(call: Call, grad: Tensor, self: Tensor, diagonal: Any = 0) -> Gradients:
    """tril(Tensor self, SymInt diagonal=0) -> Tensor"""
    return {"self": torch.tril(grad, diagonal)}


def triu(call: Call, grad: Tensor, self: Tensor, diagonal: Any = 0) -> Gradients:
    """triu(Tensor self, SymInt diagonal=0) -> Tensor"""
    return {"self": torch.triu(grad, diagonal)}


def diagonal(call: Call, grad: Tensor, self: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Gradients:
    """diagonal(Tensor(a) self, int offset=0, int dim1=0, int dim2=1) -> Tensor(a)"""
    rows, columns, length = self.shape[dim1], self.shape[dim2], grad.shape[-1]
    above, left = max(-offset, 0), max(offset, 0)
    # Put the gradient on the diagonal of a square matrix, and zeros around it up to the argument's size.
    around = [left, columns - left - length, above, rows - above - length]
    matrix = aten.constant_pad_nd(torch.diag_embed(grad), around, 0.0)
    return {"self": matrix.movedim((-2, -1), (dim1, dim2))}


def diag_embed(call: Call, grad: Tensor, self: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Gradients:
    """diag_embed(Tensor self, int offset=0, int dim1=-2, int dim2=-1) -> Tensor"""
    return {"self": grad.diagonal(offset, dim1, dim2)}


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
    aten.roll.default: roll,
    aten.flip.default: flip,
    aten.expand.default: expand,
    aten.expand_as.default: expand,
    aten.repeat.default: repeat,
    aten.repeat_interleave.self_int: repeat_interleave,
    aten.tril.default: tril,
    aten.triu.default: triu,
    aten.diagonal.default: diagonal,
    aten.diag_embed.default: diag_embed,
}
