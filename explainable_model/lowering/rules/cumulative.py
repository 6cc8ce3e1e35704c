"""Running sums, products and extrema along one dimension."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from explainable_model.attribution.counting import counting
from explainable_model.lowering.rules.call import Call, Gradients, Lowering
from explainable_model.lowering.shapes import cast

aten = torch.ops.aten


def cumsum(call: Call, grad: Tensor, self: Tensor, dim: int, **_: Any) -> Gradients:
    """cumsum(Tensor self, int dim, *, ScalarType? dtype=None) -> Tensor"""
    return {"self": cast(grad, self).flip([dim]).cumsum(dim).flip([dim])}


def cumprod(call: Call, grad: Tensor, self: Tensor, dim: int, **_: Any) -> Gradients:
    """cumprod(Tensor self, int dim, *, ScalarType? dtype=None) -> Tensor"""
    # Product k is the factors before i, times factor i, times the factors from there to k. The last part is a row of
    # running products for each i. Nothing is divided by a factor, which may be zero.
    factors, along = self.movedim(dim, -1), cast(grad, self).movedim(dim, -1)
    place = counting(factors, -1)
    after = place > place.unsqueeze(1)
    to_each = torch.where(after, factors.unsqueeze(-2), 1.0)
    to_each = _cumprod(to_each, -1)
    reached = (place >= place.unsqueeze(1)).to(self.dtype)
    before = torch.where(after.t(), factors.unsqueeze(-2), 1.0).prod(-1)
    return {"self": (before * (along.unsqueeze(-2) * to_each * reached).sum(-1)).movedim(-1, dim)}


def logcumsumexp(call: Call, grad: Tensor, self: Tensor, dim: int) -> Gradients:
    """logcumsumexp(Tensor self, int dim) -> Tensor"""
    values, sums, along = (tensor.movedim(dim, -1) for tensor in (self, call.output, grad))
    place = counting(values, -1)
    behind = place < place.unsqueeze(1)  # sums that end before the value
    shares = torch.exp(torch.where(behind, -torch.inf, values.unsqueeze(-1) - sums.unsqueeze(-2)))
    return {"self": (along.unsqueeze(-2) * shares).sum(-1).movedim(-1, dim)}


def running_extremum(call: Call, grad: Any, self: Tensor, dim: int) -> Gradients:
    """cummax(Tensor self, int dim) -> (Tensor values, Tensor indices); cummin alike"""
    return {"self": torch.zeros_like(self).scatter_add(dim, call.output[1], grad[0])}


# The same values in operators that every runtime has: a scan that doubles its reach in each step


def _cumprod(self: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    if not isinstance(self.shape[dim], int):
        return torch.cumprod(self, dim, dtype=dtype)
    products, length, reach = self.to(dtype or self.dtype), self.shape[dim], 1
    while reach < length:
        longer = products.narrow(dim, reach, length - reach) * products.narrow(dim, 0, length - reach)
        products = torch.cat([products.narrow(dim, 0, reach), longer], dim)
        reach *= 2
    return products


def _running(op: OpOverload, sign: int) -> Callable[[Tensor, int], tuple[Tensor, Tensor]]:
    """``cummax`` for ``sign`` 1 and ``cummin`` for -1: values and positions, of equal values the last."""

    def forward(self: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        if not isinstance(self.shape[dim], int):
            whole: tuple[Tensor, Tensor] = op(self, dim)
            return whole
        length, reach = self.shape[dim], 1
        place = counting(self, dim, torch.int64)
        values, indices = self, place.reshape([-1 if d == dim % self.ndim else 1 for d in range(self.ndim)])
        indices = indices.expand(self.shape)
        while reach < length:
            rest = length - reach
            value, index = values.narrow(dim, reach, rest), indices.narrow(dim, reach, rest)
            before, at = values.narrow(dim, 0, rest), indices.narrow(dim, 0, rest)
            stays = value * sign >= before * sign
            values = torch.cat([values.narrow(dim, 0, reach), torch.where(stays, value, before)], dim)
            indices = torch.cat([indices.narrow(dim, 0, reach), torch.where(stays, index, at)], dim)
            reach *= 2
        return values, indices

    return forward


FORWARDS: Mapping[OpOverload, Callable[..., Any]] = {
    aten.cumprod.default: _cumprod,
    aten.cummax.default: _running(aten.cummax.default, 1),
    aten.cummin.default: _running(aten.cummin.default, -1),
}

TABLE: Mapping[OpOverload, Lowering] = {
    aten.cumsum.default: cumsum,
    aten.cumprod.default: cumprod,
    aten.logcumsumexp.default: logcumsumexp,
    aten.cummax.default: running_extremum,
    aten.cummin.default: running_extremum,
}
