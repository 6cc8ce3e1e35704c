"""Pooling by averages, resizing and padding: all one separable linear map ``Y = A_1 X A_2^T``."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.nn import functional
from torch.utils._python_dispatch import _disable_current_modes

from explainable_model.errors import LoweringError
from explainable_model.lowering.call import Call, Gradients, Lowering
from explainable_model.lowering.shapes import known, per_dim

aten = torch.ops.aten


def separable_gradient(grad: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """``A_1^T G A_2``, one matrix ``(out, in)`` per spatial dimension."""
    for distance, matrix in enumerate(reversed(matrices), start=1):
        constant = matrix.to(dtype=grad.dtype, device=grad.device)
        if distance == 1:
            grad = torch.matmul(grad, constant)
        elif distance == 2:
            grad = torch.matmul(constant.t(), grad)
        else:
            grad = torch.matmul(grad.transpose(-distance, -1), constant).transpose(-distance, -1)
    return grad


def matrix_of(function: Callable[[Tensor], Tensor], size: Any) -> Tensor:
    """The matrix ``(out, size)`` of a linear function on ``(N, 1, size)``, in float64.

    Raises:
        LoweringError: the size is not fixed.
    """
    if not isinstance(size, int):
        raise LoweringError("a resampling needs a fixed height and width; export with them fixed")
    with _disable_current_modes():  # a constant: computed now, not traced
        columns = function(torch.eye(size, dtype=torch.float64).reshape(size, 1, size))
        return columns.reshape(size, -1).t().contiguous()


def constant_matrix(rows: Sequence[Sequence[float]]) -> Tensor:
    with _disable_current_modes():
        return torch.tensor(rows, dtype=torch.float64)


# Average pooling


def avg_pool(
    call: Call, grad: Tensor, self: Tensor, kernel_size: Any, stride: Any = (), padding: Any = 0,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None,
) -> Gradients:  # fmt: skip
    """avg_pool2d(Tensor self, int[2] kernel_size, int[2] stride=[], int[2] padding=0, bool ceil_mode=False,
    bool count_include_pad=True, int? divisor_override=None) -> Tensor; avg_pool1d and avg_pool3d alike
    """
    dims = call.op._schema.name[-2]
    spatial = int(dims)
    kernel, padding = per_dim(kernel_size, spatial), per_dim(padding, spatial)
    stride = per_dim(stride, spatial) if stride else kernel
    matrices = []
    for i in range(spatial):
        size, out = self.shape[i - spatial], grad.shape[i - spatial]
        divisor = 1 if divisor_override else None
        matrices.append(
            _average_matrix(size, out, kernel[i], stride[i], padding[i], count_include_pad, divisor)
        )
    gradient = separable_gradient(grad, matrices)
    return {"self": gradient / divisor_override if divisor_override else gradient}


def _average_matrix(
    size: Any, out: Any, kernel: int, stride: int, padding: int, include_pad: bool, divisor: int | None
) -> Tensor:
    if not isinstance(size, int):
        raise LoweringError("average pooling needs a fixed height and width; export with them fixed")
    rows = [[0.0] * size for _ in range(out)]
    for o, row in enumerate(rows):
        start = o * stride - padding
        end = min(start + kernel, size + padding)  # in ceil mode the last window may hang over the padding
        first, last = max(start, 0), min(end, size)
        share = 1.0 / (divisor or (end - start if include_pad else last - first))
        row[first:last] = [share] * (last - first)
    return constant_matrix(rows)


def adaptive_avg_pool(call: Call, grad: Tensor, self: Tensor, output_size: Any) -> Gradients:
    """adaptive_avg_pool2d(Tensor self, SymInt[2] output_size) -> Tensor; adaptive_avg_pool1d and 3d alike"""
    spatial = int(call.op._schema.name[-2])
    size, out = self.shape[-spatial:], grad.shape[-spatial:]
    if all(known(o == 1) for o in out):
        return {"self": (grad / math.prod(size)).expand(self.shape)}
    if all(known(o == s) for o, s in zip(out, size, strict=True)):
        return {"self": grad}
    pool = functional.adaptive_avg_pool1d
    matrices = [matrix_of(lambda t, o=o: pool(t, o), s) for o, s in zip(out, size, strict=True)]  # type: ignore[misc]
    return {"self": separable_gradient(grad, matrices)}


# Resizing


def _resize(call: Call, grad: Tensor, input: Tensor, one_dim: Callable[[Tensor, int], Tensor]) -> Gradients:
    matrices = []
    for size, out in zip(input.shape[2:], grad.shape[2:], strict=True):
        matrices.append(matrix_of(lambda t, out=out: one_dim(t, out), size))  # type: ignore[misc]
    return {"input": separable_gradient(grad, matrices)}


def upsample_nearest(call: Call, grad: Tensor, input: Tensor, **_: Any) -> Gradients:
    """upsample_nearest2d.vec(Tensor input, SymInt[]? output_size, float[]? scale_factors) -> Tensor; 1d, 3d alike"""
    return _resize(call, grad, input, lambda t, out: functional.interpolate(t, size=out, mode="nearest"))


def upsample_nearest_exact(call: Call, grad: Tensor, input: Tensor, **_: Any) -> Gradients:
    """_upsample_nearest_exact2d.vec(Tensor input, SymInt[]? output_size, float[]? scale_factors) -> Tensor"""
    return _resize(call, grad, input, lambda t, out: functional.interpolate(t, size=out, mode="nearest-exact"))


def upsample_linear(call: Call, grad: Tensor, input: Tensor, align_corners: bool, **_: Any) -> Gradients:
    """upsample_bilinear2d.vec(Tensor input, SymInt[]? output_size, bool align_corners, float[]? scale_factors)
    -> Tensor; linear1d and trilinear3d alike
    """

    def one_dim(t: Tensor, out: int) -> Tensor:
        return functional.interpolate(t, size=out, mode="linear", align_corners=align_corners)

    return _resize(call, grad, input, one_dim)


def _planar(mode: str, align_corners: bool, antialias: bool) -> Callable[[Tensor, int], Tensor]:
    """A two-dimensional resize along one axis; a width of 4 keeps torch's antialiasing kernel right."""

    def one_dim(t: Tensor, out: int) -> Tensor:
        plane = t.unsqueeze(3).expand(-1, -1, -1, 4).contiguous()
        resized = functional.interpolate(
            plane, size=(out, 4), mode=mode, align_corners=align_corners, antialias=antialias
        )
        return resized[..., 0]

    return one_dim


def upsample_bicubic(call: Call, grad: Tensor, input: Tensor, align_corners: bool, **_: Any) -> Gradients:
    """upsample_bicubic2d.vec(Tensor input, SymInt[]? output_size, bool align_corners, float[]? scale_factors)
    -> Tensor
    """
    return _resize(call, grad, input, _planar("bicubic", align_corners, antialias=False))


def upsample_bilinear_aa(call: Call, grad: Tensor, input: Tensor, align_corners: bool, **_: Any) -> Gradients:
    """_upsample_bilinear2d_aa.vec(Tensor input, SymInt[]? output_size, bool align_corners,
    float[]? scale_factors) -> Tensor
    """
    return _resize(call, grad, input, _planar("bilinear", align_corners, antialias=True))


def upsample_bicubic_aa(call: Call, grad: Tensor, input: Tensor, align_corners: bool, **_: Any) -> Gradients:
    """_upsample_bicubic2d_aa.vec(Tensor input, SymInt[]? output_size, bool align_corners,
    float[]? scale_factors) -> Tensor
    """
    return _resize(call, grad, input, _planar("bicubic", align_corners, antialias=True))


# Padding


def pad(
    call: Call, grad: Tensor, self: Tensor, pad: Sequence[Any], mode: str = "constant", value: Any = None
) -> Gradients:
    """pad(Tensor self, SymInt[] pad, str mode="constant", float? value=None) -> Tensor"""
    if mode == "constant":
        return constant_pad(call, grad, self, pad, value)
    spatial = len(pad) // 2
    matrices = []
    for i in range(spatial):
        around = list(pad[2 * (spatial - 1 - i) : 2 * (spatial - i)])
        matrices.append(
            matrix_of(lambda t, a=around: functional.pad(t, a, mode=mode), self.shape[i - spatial])  # type: ignore[misc]
        )
    return {"self": separable_gradient(grad, matrices)}


def constant_pad(call: Call, grad: Tensor, self: Tensor, pad: Sequence[Any], value: Any = 0) -> Gradients:
    """constant_pad_nd(Tensor self, SymInt[] pad, Scalar value=0) -> Tensor"""
    if all(known(p >= 0) for p in pad):
        for i, before in enumerate(pad[::2]):
            dim = self.ndim - 1 - i
            if not (known(before == 0) and known(pad[2 * i + 1] == 0)):
                grad = grad.narrow(dim, before, self.shape[dim])
        return {"self": grad}
    return {"self": aten.constant_pad_nd(grad, [-p for p in pad], 0.0)}


TABLE: Mapping[OpOverload, Lowering] = {
    aten.avg_pool1d.default: avg_pool,
    aten.avg_pool2d.default: avg_pool,
    aten.avg_pool3d.default: avg_pool,
    aten.adaptive_avg_pool1d.default: adaptive_avg_pool,
    aten.adaptive_avg_pool2d.default: adaptive_avg_pool,
    aten._adaptive_avg_pool2d.default: adaptive_avg_pool,
    aten.adaptive_avg_pool3d.default: adaptive_avg_pool,
    aten._adaptive_avg_pool3d.default: adaptive_avg_pool,
    aten.upsample_nearest1d.vec: upsample_nearest,
    aten.upsample_nearest2d.vec: upsample_nearest,
    aten.upsample_nearest3d.vec: upsample_nearest,
    aten._upsample_nearest_exact1d.vec: upsample_nearest_exact,
    aten._upsample_nearest_exact2d.vec: upsample_nearest_exact,
    aten._upsample_nearest_exact3d.vec: upsample_nearest_exact,
    aten.upsample_linear1d.vec: upsample_linear,
    aten.upsample_bilinear2d.vec: upsample_linear,
    aten.upsample_trilinear3d.vec: upsample_linear,
    aten.upsample_bicubic2d.vec: upsample_bicubic,
    aten._upsample_bilinear2d_aa.vec: upsample_bilinear_aa,
    aten._upsample_bicubic2d_aa.vec: upsample_bicubic_aa,
    aten.pad.default: pad,
    aten.constant_pad_nd.default: constant_pad,
}
