"""Gathering by index: the gradient is scattered back and added up where an element was read twice."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch._ops import OpOverload

from explainable_model.lowering.call import Call, Gradients, Lowering

aten = torch.ops.aten


def index_select(call: Call, grad: Tensor, self: Tensor, dim: int, index: Tensor) -> Gradients:
    """index_select(Tensor self, int dim, Tensor index) -> Tensor"""
    return {"self": _added(self, dim % self.ndim, index, grad)}


def index(call: Call, grad: Tensor, self: Tensor, indices: Sequence[Tensor | None]) -> Gradients:
    """index.Tensor(Tensor self, Tensor?[] indices) -> Tensor"""
    given = [(dim, i) for dim, i in enumerate(indices) if i is not None]
    if len(given) == 1 and given[0][1].dtype == torch.int64:
        dim, places = given[0]
        flat = grad.flatten(dim, dim + places.ndim - 1) if places.ndim > 1 else grad
        return {"self": _added(self, dim, places.reshape(-1), flat)}
    return {"self": torch.index_put(torch.zeros_like(self), indices, grad, accumulate=True)}  # type: ignore[arg-type]


def _added(like: Tensor, dim: int, places: Tensor, grad: Tensor) -> Tensor:
    column = places.reshape([-1 if d == dim else 1 for d in range(like.ndim)]).expand_as(grad)
    return torch.zeros_like(like).scatter_add(dim, column, grad)


def gather(call: Call, grad: Tensor, self: Tensor, dim: int, index: Tensor) -> Gradients:
    """gather(Tensor self, int dim, Tensor index, *, bool sparse_grad=False) -> Tensor"""
    return {"self": torch.zeros_like(self).scatter_add(dim, index, grad)}


TABLE: Mapping[OpOverload, Lowering] = {
    aten.index_select.default: index_select,
    aten.index.Tensor: index,
    aten.gather.default: gather,
}
