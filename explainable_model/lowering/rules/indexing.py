"""Gathering by index: the gradient is scattered back and added up where an element was read twice."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch._ops import OpOverload

from explainable_model.lowering.rules.call import Call, Gradients, Lowering
from explainable_model.lowering.shapes import shape_of, unbroadcast

aten = torch.ops.aten


def index_select(call: Call, grad: Tensor, self: Tensor, dim: int, index: Tensor) -> Gradients:
    """index_select(Tensor self, int dim, Tensor index) -> Tensor"""
    return {"self": _add_at(self, dim % self.ndim, index, grad)}


def index(call: Call, grad: Tensor, self: Tensor, indices: Sequence[Tensor | None]) -> Gradients:
    """index.Tensor(Tensor self, Tensor?[] indices) -> Tensor"""
    given = [(dim, i) for dim, i in enumerate(indices) if i is not None]
    if len(given) == 1 and given[0][1].dtype in (torch.int64, torch.int32):
        dim, places = given[0]
        flat = grad.flatten(dim, dim + places.ndim - 1) if places.ndim else grad.unsqueeze(dim)
        return {"self": _add_at(self, dim, places, flat)}
    return {"self": aten.index_put(torch.zeros_like(self), indices, grad, True)}


def _add_at(like: Tensor, dim: int, places: Tensor, grad: Tensor) -> Tensor:
    places = torch.where(places < 0, places + like.shape[dim], places).to(torch.int64)  # scatter counts from 0 only
    column = places.reshape([-1 if d == dim else 1 for d in range(like.ndim)]).expand_as(grad)
    return torch.zeros_like(like).scatter_add(dim, column, grad)


def gather(call: Call, grad: Tensor, self: Tensor, dim: int, index: Tensor) -> Gradients:
    """gather(Tensor self, int dim, Tensor index, *, bool sparse_grad=False) -> Tensor"""
    return {"self": torch.zeros_like(self).scatter_add(dim, index, grad)}


def embedding(call: Call, grad: Tensor, weight: Tensor, indices: Tensor, padding_idx: int = -1) -> Gradients:
    """embedding(Tensor weight, Tensor indices, SymInt padding_idx=-1, bool scale_grad_by_freq=False,
    bool sparse=False) -> Tensor
    """
    if padding_idx >= 0:  # that row is never trained
        grad = torch.where((indices == padding_idx).unsqueeze(-1), 0.0, grad)
    return {"weight": _add_at(weight, 0, indices, grad.reshape(-1, weight.shape[1]))}


# Writing by index


def scatter(call: Call, grad: Tensor, self: Tensor, dim: int, index: Tensor, src: Tensor) -> Gradients:
    """scatter.src(Tensor self, int dim, Tensor index, Tensor src) -> Tensor"""
    return {
        "self": grad.scatter(dim, index, 0.0) if call.needs("self") else None,
        "src": grad.gather(dim, index) if call.needs("src") else None,
    }


def scatter_value(call: Call, grad: Tensor, self: Tensor, dim: int, index: Tensor, value: float) -> Gradients:
    """scatter.value(Tensor self, int dim, Tensor index, Scalar value) -> Tensor"""
    return {"self": grad.scatter(dim, index, 0.0)}


def scatter_add(call: Call, grad: Tensor, self: Tensor, dim: int, index: Tensor, src: Tensor) -> Gradients:
    """scatter_add(Tensor self, int dim, Tensor index, Tensor src) -> Tensor"""
    return {"self": grad, "src": grad.gather(dim, index) if call.needs("src") else None}


def index_put(
    call: Call, grad: Tensor, self: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False
) -> Gradients:
    """index_put(Tensor self, Tensor?[] indices, Tensor values, bool accumulate=False) -> Tensor"""
    at_self = at_values = None
    if call.needs("self"):
        at_self = grad if accumulate else aten.index_put(grad, indices, torch.zeros_like(values), False)
    if call.needs("values"):
        at_values = unbroadcast(aten.index.Tensor(grad, indices), values)
    return {"self": at_self, "values": at_values}


def max_unpool(call: Call, grad: Tensor, self: Tensor, indices: Tensor, output_size: Sequence[int]) -> Gradients:
    """max_unpool2d(Tensor self, Tensor indices, SymInt[2] output_size) -> Tensor"""
    spatial = len(output_size)
    read = grad.flatten(-spatial).gather(-1, indices.flatten(-spatial))
    return {"self": read.reshape(shape_of(self))}


TABLE: Mapping[OpOverload, Lowering] = {
    aten.index_select.default: index_select,
    aten.index.Tensor: index,
    aten.gather.default: gather,
    aten.embedding.default: embedding,
    aten.scatter.src: scatter,
    aten.scatter.value: scatter_value,
    aten.scatter_add.default: scatter_add,
    aten.index_put.default: index_put,
    aten.max_unpool2d.default: max_unpool,
}
