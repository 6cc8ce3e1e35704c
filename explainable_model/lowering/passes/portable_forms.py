"""The operators that a portable graph may not have, each in operators that it may: conditions are zeros and ones."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from explainable_model.errors import LoweringError
from explainable_model.lowering.shapes import per_dim

aten = torch.ops.aten

STEEP = 1e20  # times any difference of two float32 values that matters, this is 1 or more


def _make_constant(make: Callable[[], Tensor]) -> Tensor:
    """A tensor that depends on no input, made outside of the trace: the graph holds its values."""
    with _disable_current_modes():
        return make()


def _count_to(count: int) -> Tensor:
    return _make_constant(lambda: torch.arange(count, dtype=torch.float32))


# Conditions, as zeros and ones


def greater(self: Any, other: Any) -> Tensor:
    """One where ``self > other``."""
    difference: Any = self if _is_zero(other) else self - other
    return torch.clamp(difference * STEEP, 0.0, 1.0)


def _less(self: Any, other: Any) -> Tensor:
    return (self * -STEEP).clamp(0.0, 1.0) if _is_zero(other) else greater(other, self)


def equal(self: Any, other: Any) -> Tensor:
    """One where ``self == other``."""
    return torch.clamp(1.0 - (self - other).abs() * STEEP, 0.0, 1.0)


def _is_zero(number: Any) -> bool:
    return not isinstance(number, Tensor) and number == 0


def _not(condition: Any) -> Any:
    return 1.0 - condition


def _and(self: Any, other: Any) -> Any:
    return self * other


def _or(self: Any, other: Any) -> Any:
    return self + other - self * other


def _where(condition: Any, self: Any, other: Any) -> Any:
    return condition * self + (1.0 - condition) * other


# Classes, as whole numbers


def argmax(self: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The first position of the largest value. Positions count from the end, so that their maximum is the first one."""
    if dim is None:
        raise LoweringError("argmax over all dimensions has no portable form")
    dim, length = dim % self.ndim, self.shape[dim]
    hits = equal(self, amax(self, [dim], keepdim=True))
    from_end = _make_constant(lambda: length - torch.arange(length, dtype=torch.float32))
    from_end = from_end.reshape([-1 if d == dim else 1 for d in range(self.ndim)])
    return length - amax(hits * from_end, [dim], keepdim=keepdim)


def amax(self: Tensor, dim: Sequence[int] = (), keepdim: bool = False) -> Tensor:
    """The maximum as a max pooling with one window, for ncnn has no other maximum over some dimensions."""
    dims = sorted(d % self.ndim for d in dim) if dim else list(range(self.ndim))
    kept = [d for d in range(self.ndim) if d not in dims]
    rows = self if dims == list(range(len(kept), self.ndim)) else self.permute([*kept, *dims])
    length = math.prod(self.shape[d] for d in dims)
    window = (self.shape[dims[0]], length // self.shape[dims[0]])
    pooled = aten.max_pool2d.default(rows.reshape(-1, 1, *window), window)
    return pooled.reshape([1 if d in dims else n for d, n in enumerate(self.shape) if keepdim or d not in dims])  # type: ignore[no-any-return]


def _amin(self: Tensor, dim: Sequence[int] = (), keepdim: bool = False) -> Tensor:
    return -amax(-self, dim, keepdim)


def one_hot(index: Tensor, count: int) -> Tensor:
    """``(*shape, count)``: one at each index."""
    return (1.0 - (index.unsqueeze(-1) - _count_to(count)).abs()).clamp_min(0.0)


def _index_select(self: Tensor, dim: int, index: Tensor) -> Tensor:
    if dim != 0 or self.ndim != 2:
        raise LoweringError("index_select has a portable form for the rows of a matrix only")
    return torch.matmul(one_hot(index, self.shape[0]), self)


def _gather(self: Tensor, dim: int, index: Tensor, sparse_grad: bool = False) -> Tensor:
    if dim % self.ndim != self.ndim - 1 or index.ndim != self.ndim:
        raise LoweringError("gather has a portable form along the last dimension only")
    return (one_hot(index, self.shape[-1]) * self.unsqueeze(-2)).sum(-1)


# Arrangement


def _expand(self: Tensor, size: Sequence[int], implicit: bool = False) -> Tensor:
    kept = [-1] * (len(size) - self.ndim) + list(self.shape)
    shape = [old if new == -1 else new for new, old in zip(size, kept, strict=True)]
    return self * _make_constant(lambda: torch.ones(shape))


def _narrow(self: Tensor, dim: int, start: int, length: int) -> Tensor:
    return aten.slice.Tensor(self, dim, start, start + length)  # type: ignore[no-any-return]


def _of_ones(self: Tensor, **_: Any) -> Tensor:
    shape = list(self.shape)
    return _make_constant(lambda: torch.ones(shape))


def _of_zeros(self: Tensor, **_: Any) -> Tensor:
    shape = list(self.shape)
    return _make_constant(lambda: torch.zeros(shape))


def _pad(self: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    if mode != "constant":
        raise LoweringError(f"padding by {mode} has no portable form")
    return aten.constant_pad_nd.default(self, pad, value or 0.0)  # type: ignore[no-any-return]


def _cast(self: Tensor, dtype: torch.dtype | None = None, *_: Any, **__: Any) -> Tensor:
    if dtype in (None, torch.float32):
        return self
    raise LoweringError(f"a conversion to {dtype} has no portable form")


def _convolution(
    input: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], transposed: bool, output_padding: Sequence[int], groups: int,
) -> Tensor:  # fmt: skip
    """A transposed convolution without padding, whose output is cropped, or padded where strides never reached."""
    arguments = (bias, stride, padding, dilation, transposed, output_padding, groups)
    if not transposed or not (any(padding) or any(output_padding)):
        return aten.convolution(input, weight, *arguments)  # type: ignore[no-any-return]
    dims = weight.ndim - 2
    zero = [0] * dims
    whole: Tensor = aten.convolution(input, weight, None, stride, zero, dilation, True, zero, groups)
    after = []
    for i in range(dims):
        end = whole.shape[2 + i] - padding[i] + output_padding[i]
        if padding[i] or end < whole.shape[2 + i]:
            whole = aten.slice.Tensor(whole, 2 + i, padding[i], min(end, whole.shape[2 + i]))
        after.append(max(end - padding[i] - whole.shape[2 + i], 0))
    if any(after):
        whole = aten.constant_pad_nd(whole, [p for a in reversed(after) for p in (0, a)], 0.0)
    return whole if bias is None else whole + bias.reshape(-1, *[1] * dims)


def _conv_transpose(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    lists = (per_dim(setting, weight.ndim - 2) for setting in (stride, padding, dilation, output_padding))
    stride, padding, dilation, output_padding = lists
    return _convolution(input, weight, bias, stride, padding, dilation, True, output_padding, groups)


FORMS: Mapping[Any, Callable[..., Any]] = {
    aten.gt.Scalar: greater,
    aten.gt.Tensor: greater,
    aten.lt.Scalar: _less,
    aten.lt.Tensor: _less,
    aten.ge.Scalar: lambda self, other: _not(_less(self, other)),
    aten.ge.Tensor: lambda self, other: _not(_less(self, other)),
    aten.le.Scalar: lambda self, other: _not(greater(self, other)),
    aten.le.Tensor: lambda self, other: _not(greater(self, other)),
    aten.eq.Scalar: equal,
    aten.eq.Tensor: equal,
    aten.ne.Scalar: lambda self, other: _not(equal(self, other)),
    aten.ne.Tensor: lambda self, other: _not(equal(self, other)),
    aten.bitwise_and.Tensor: _and,
    aten.__and__.Tensor: _and,
    aten.logical_and.default: _and,
    aten.bitwise_or.Tensor: _or,
    aten.__or__.Tensor: _or,
    aten.logical_or.default: _or,
    aten.bitwise_not.default: _not,
    aten.logical_not.default: _not,
    aten.where.self: _where,
    aten.where.ScalarSelf: _where,
    aten.where.ScalarOther: _where,
    aten.where.Scalar: _where,
    aten.argmax.default: argmax,
    aten.amax.default: amax,
    aten.amin.default: _amin,
    aten.index_select.default: _index_select,
    aten.gather.default: _gather,
    aten.expand.default: _expand,
    aten.narrow.default: _narrow,
    aten.ones_like.default: _of_ones,
    aten.zeros_like.default: _of_zeros,
    aten.pad.default: _pad,
    aten._to_copy.default: _cast,
    aten.to.dtype: _cast,
    aten.convolution.default: _convolution,
    aten.conv_transpose1d.default: _conv_transpose,
    aten.conv_transpose2d.input: _conv_transpose,
    aten.conv_transpose3d.input: _conv_transpose,
}
"""The portable form of each operator that a portable graph may not have."""
