"""Sums, means, extrema and norms."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from explainable_model.attribution.counting import counting
from explainable_model.errors import LoweringError
from explainable_model.lowering.rules.call import Call, Gradients, Lowering
from explainable_model.lowering.shapes import cast

aten = torch.ops.aten


def _dims(tensor: Tensor, dim: int | Sequence[int] | None) -> list[int]:
    if dim is None or (isinstance(dim, Sequence) and not dim):
        return list(range(tensor.ndim))
    return sorted(d % tensor.ndim for d in (dim if isinstance(dim, Sequence) else [dim]))


def _restore(reduced: Tensor, dims: Sequence[int], keepdim: bool) -> Tensor:
    """A reduced tensor with the reduced dimensions put back as ones."""
    for dim in [] if keepdim else dims:
        reduced = reduced.unsqueeze(dim)
    return reduced


def sum_(call: Call, grad: Tensor, self: Tensor, dim: Any = None, keepdim: bool = False, **_: Any) -> Gradients:
    """sum.dim_IntList(Tensor self, int[1]? dim, bool keepdim=False, *, ScalarType? dtype=None) -> Tensor"""
    return {"self": cast(_restore(grad, _dims(self, dim), keepdim), self).expand(self.shape)}


def mean(call: Call, grad: Tensor, self: Tensor, dim: Any = None, keepdim: bool = False, **_: Any) -> Gradients:
    """mean.dim(Tensor self, int[1]? dim, bool keepdim=False, *, ScalarType? dtype=None) -> Tensor"""
    dims = _dims(self, dim)
    share = cast(grad, self) / math.prod(self.shape[d] for d in dims)
    return {"self": _restore(share, dims, keepdim).expand(self.shape)}


def variance(
    call: Call, grad: Tensor, self: Tensor, dim: Any = None, correction: Any = None, keepdim: bool = False
) -> Gradients:
    """var.correction(Tensor self, int[1]? dim=None, *, Scalar? correction=None, bool keepdim=False) -> Tensor"""
    return {"self": _differentiate_variance(grad, self, dim, correction, keepdim)}


def _differentiate_variance(grad: Tensor, self: Tensor, dim: Any, correction: Any, keepdim: bool) -> Tensor:
    dims = _dims(self, dim)
    count = math.prod(self.shape[d] for d in dims) - (1 if correction is None else correction)
    centered = self - self.mean(dims, keepdim=True)
    return _restore(grad, dims, keepdim) * (2.0 / count) * centered


def deviation(
    call: Call, grad: Tensor, self: Tensor, dim: Any = None, correction: Any = None, keepdim: bool = False
) -> Gradients:
    """std.correction(Tensor self, int[1]? dim=None, *, Scalar? correction=None, bool keepdim=False) -> Tensor"""
    # The deviation of equal values has no slope; autograd takes zero.
    halved = torch.where(call.output == 0, 0.0, grad / (2 * call.output))
    return {"self": _differentiate_variance(halved, self, dim, correction, keepdim)}


def var_mean(
    call: Call, grad: Any, self: Tensor, dim: Any = None, correction: Any = None, keepdim: bool = False
) -> Gradients:
    """var_mean.correction(Tensor self, int[1]? dim=None, *, Scalar? correction=None, bool keepdim=False)
    -> (Tensor, Tensor)
    """
    of_var, of_mean = grad
    share = None if of_mean is None else mean(call, of_mean, self, dim, keepdim)["self"]
    if of_var is None:
        return {"self": share}
    spread = _differentiate_variance(of_var, self, dim, correction, keepdim)
    return {"self": spread + share if isinstance(share, Tensor) else spread}


def extremum(call: Call, grad: Tensor, self: Tensor, dim: Any = (), keepdim: bool = False) -> Gradients:
    """amax(Tensor self, int[1] dim=[], bool keepdim=False) -> Tensor; amin, and max and min of all, alike;
    ties share equally
    """
    dims = _dims(self, dim)
    hit = (self == _restore(call.output, dims, keepdim)).to(grad.dtype)
    return {"self": _restore(grad, dims, keepdim) * hit / hit.sum(dims, keepdim=True)}


def selected(call: Call, grad: Any, self: Tensor, dim: int, keepdim: bool = False) -> Gradients:
    """max.dim(Tensor self, int dim, bool keepdim=False) -> (Tensor values, Tensor indices); min, median alike"""
    dims = _dims(self, dim)
    indices = _restore(call.output[1], dims, keepdim)
    return {"self": torch.zeros_like(self).scatter(dim, indices, _restore(grad[0], dims, keepdim))}


def kth_value(call: Call, grad: Any, self: Tensor, k: Any, dim: int = -1, keepdim: bool = False) -> Gradients:
    """kthvalue(Tensor self, SymInt k, int dim=-1, bool keepdim=False) -> (Tensor values, Tensor indices)"""
    return selected(call, grad, self, dim, keepdim)


def ordered(call: Call, grad: Any, self: Tensor, dim: int = -1, **_: Any) -> Gradients:
    """sort(Tensor self, int dim=-1, bool descending=False) -> (Tensor values, Tensor indices); topk alike"""
    return {"self": torch.zeros_like(self).scatter(dim, call.output[1], grad[0])}


def logsumexp(call: Call, grad: Tensor, self: Tensor, dim: Any, keepdim: bool = False) -> Gradients:
    """logsumexp(Tensor self, int[1] dim, bool keepdim=False) -> Tensor"""
    dims = _dims(self, dim)
    share = torch.exp(self - _restore(call.output, dims, keepdim))
    return {"self": _restore(grad, dims, keepdim) * share}


def product(call: Call, grad: Tensor, self: Tensor, dim: int, keepdim: bool = False) -> Gradients:
    """prod.dim_int(Tensor self, int dim, bool keepdim=False, *, ScalarType? dtype=None) -> Tensor"""
    dim %= self.ndim
    # The product of the others, without dividing by a factor that may be zero: a row for each factor left out.
    rows = self.movedim(dim, -1)
    place = counting(rows, -1)
    left_out = place.unsqueeze(1) == place
    others = torch.where(left_out, 1.0, rows.unsqueeze(-2)).prod(-1)
    return {"self": _restore(grad, [dim], keepdim) * others.movedim(-1, dim)}


def vector_norm(
    call: Call, grad: Tensor, self: Tensor, ord: Any = 2, dim: Any = None, keepdim: bool = False
) -> Gradients:
    """linalg_vector_norm(Tensor self, Scalar ord=2, int[1]? dim=None, bool keepdim=False, *,
    ScalarType? dtype=None) -> Tensor
    """
    dims = _dims(self, dim)
    grad, norm = _restore(grad, dims, keepdim), _restore(call.output, dims, keepdim)
    if ord == 1:
        return {"self": grad * torch.sign(self)}
    if ord == 2:
        return {"self": grad * torch.where(norm == 0, 0.0, self / norm)}
    if ord == math.inf:
        hit = (self.abs() == norm).to(grad.dtype)
        return {"self": grad * torch.sign(self) * hit / hit.sum(dims, keepdim=True)}
    if ord < 1:
        raise LoweringError(f"linalg_vector_norm with ord={ord!r}: only orders of 1 and more have a lowering")
    share = torch.where(norm == 0, 0.0, torch.pow(self.abs() / norm, ord - 1))
    return {"self": grad * torch.sign(self) * share}


TABLE: Mapping[OpOverload, Lowering] = {
    aten.sum.dim_IntList: sum_,
    aten.sum.default: sum_,
    aten.mean.dim: mean,
    aten.mean.default: mean,
    aten.var.correction: variance,
    aten.std.correction: deviation,
    aten.var_mean.correction: var_mean,
    aten.amax.default: extremum,
    aten.amin.default: extremum,
    aten.max.default: extremum,
    aten.min.default: extremum,
    aten.max.dim: selected,
    aten.min.dim: selected,
    aten.median.dim: selected,
    aten.kthvalue.default: kth_value,
    aten.sort.default: ordered,
    aten.sort.stable: ordered,
    aten.topk.default: ordered,
    aten.logsumexp.default: logsumexp,
    aten.prod.dim_int: product,
    aten.linalg_vector_norm.default: vector_norm,
}


def _amax(self: Tensor, dim: Sequence[int] = (), keepdim: bool = False) -> Tensor:
    return torch.amax(self, _dims(self, dim), keepdim)


def _amin(self: Tensor, dim: Sequence[int] = (), keepdim: bool = False) -> Tensor:
    return torch.amin(self, _dims(self, dim), keepdim)


FORWARDS: Mapping[OpOverload, Callable[..., Tensor]] = {
    aten.amax.default: _amax,
    aten.amin.default: _amin,
}
"""ONNX's exporter refuses an extremum over all dimensions that names none."""
