"""Joining, splitting and cutting: the gradient is cut, joined and surrounded by zeros."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from explainable_model.lowering.rules.call import Call, Gradients, Lowering
from explainable_model.lowering.shapes import cast, known, unbroadcast

aten = torch.ops.aten


def cat(call: Call, grad: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> Gradients:
    """cat(Tensor[] tensors, int dim=0) -> Tensor"""
    parts: list[Tensor | None] = []
    start: Any = 0
    for index, tensor in enumerate(tensors):
        if tensor.ndim == 1 and known(tensor.shape[0] == 0) and grad.ndim > 1:  # ATen skips an empty list
            parts.append(None)
            continue
        length = tensor.shape[dim]
        parts.append(cast(grad.narrow(dim, start, length), tensor) if call.needs(f"tensors[{index}]") else None)
        start = start + length
    return {"tensors": parts}


def stack(call: Call, grad: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> Gradients:
    """stack(Tensor[] tensors, int dim=0) -> Tensor"""
    parts = [
        cast(grad.select(dim, i), tensor) if call.needs(f"tensors[{i}]") else None for i, tensor in enumerate(tensors)
    ]
    return {"tensors": parts}


def split(call: Call, grad: Sequence[Tensor | None], self: Tensor, dim: int = 0, **_: Any) -> Gradients:
    """split.Tensor(Tensor(a) self, SymInt split_size, int dim=0) -> Tensor(a)[]; split_with_sizes, chunk,
    unsafe_split, unsafe_chunk and tensor_split alike
    """
    return {"self": torch.cat(_fill(grad, call.output), dim)}


def unbind(call: Call, grad: Sequence[Tensor | None], self: Tensor, dim: int = 0) -> Gradients:
    """unbind.int(Tensor(a) self, int dim=0) -> Tensor(a)[]"""
    return {"self": torch.stack(_fill(grad, call.output), dim)}


def _fill(grads: Sequence[Tensor | None], outputs: Sequence[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(o) if g is None else g for g, o in zip(grads, outputs, strict=True)]


def select(call: Call, grad: Tensor, self: Tensor, dim: int, index: Any) -> Gradients:
    """select.int(Tensor(a) self, int dim, SymInt index) -> Tensor(a)"""
    dim %= self.ndim
    length = self.shape[dim]
    index = index + length if known(index < 0) else index
    return {"self": surrounded(grad.unsqueeze(dim), dim, index, length - 1 - index)}


def slice_(
    call: Call, grad: Tensor, self: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Gradients:
    """slice.Tensor(Tensor(a) self, int dim=0, SymInt? start=None, SymInt? end=None, SymInt step=1) -> Tensor(a)"""
    dim %= self.ndim
    length = self.shape[dim]
    start = 0 if start is None else start
    if known(start < 0):
        start = start + length
        start = start if known(start >= 0) else torch.sym_max(start, 0)
    grad = spread(grad, dim, step)
    return {"self": surrounded(grad, dim, start, length - start - grad.shape[dim])}


def narrow(call: Call, grad: Tensor, self: Tensor, dim: int, start: Any, length: Any) -> Gradients:
    """narrow(Tensor(a) self, int dim, SymInt start, SymInt length) -> Tensor(a)"""
    dim %= self.ndim
    whole = self.shape[dim]
    start = start + whole if known(start < 0) else start
    return {"self": surrounded(grad, dim, start, whole - start - length)}


def spread(grad: Tensor, dim: int, step: int) -> Tensor:
    """``step - 1`` zeros between neighbors."""
    if step == 1:
        return grad
    wide = surrounded(grad.unsqueeze(dim + 1), dim + 1, 0, step - 1).flatten(dim, dim + 1)
    return wide.narrow(dim, 0, wide.shape[dim] - (step - 1))


def surrounded(grad: Tensor, dim: int, before: Any, after: Any) -> Tensor:
    """Zeros around the gradient along one dimension; negative values crop."""
    if known(before == 0) and known(after == 0):
        return grad
    pads = [0, 0] * (grad.ndim - 1 - dim) + [before, after]
    return aten.constant_pad_nd(grad, pads, 0.0)  # type: ignore[no-any-return]


# Writing into a part


def slice_scatter(
    call: Call, grad: Tensor, self: Tensor, src: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Gradients:
    """slice_scatter(Tensor self, Tensor src, int dim=0, SymInt? start=None, SymInt? end=None, SymInt step=1)
    -> Tensor
    """
    part = aten.slice.Tensor(grad, dim, start, end, step)
    return {
        "self": aten.slice_scatter(grad, torch.zeros_like(part), dim, start, end, step) if call.needs("self") else None,
        "src": unbroadcast(part, src) if call.needs("src") else None,
    }


def select_scatter(call: Call, grad: Tensor, self: Tensor, src: Tensor, dim: int, index: Any) -> Gradients:
    """select_scatter(Tensor self, Tensor src, int dim, SymInt index) -> Tensor"""
    part = grad.select(dim, index)
    return {
        "self": aten.select_scatter(grad, torch.zeros_like(part), dim, index) if call.needs("self") else None,
        "src": unbroadcast(part, src) if call.needs("src") else None,
    }


def copy(call: Call, grad: Tensor, self: Tensor, src: Tensor) -> Gradients:
    """copy(Tensor self, Tensor src, bool non_blocking=False) -> Tensor"""
    return {"self": None, "src": unbroadcast(grad, src)}


TABLE: Mapping[OpOverload, Lowering] = {
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
    aten.narrow.default: narrow,
    aten.slice_scatter.default: slice_scatter,
    aten.select_scatter.default: select_scatter,
    aten.copy.default: copy,
}
