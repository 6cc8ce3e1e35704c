"""Average pooling and resizing: each is a separable linear map ``Y = A_1 X A_2^T``."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.nn import functional
from torch.utils._python_dispatch import _disable_current_modes

from explainable_model.attribution.counting import counting
from explainable_model.errors import LoweringError
from explainable_model.lowering.rules import resample_dynamic as open_resample
from explainable_model.lowering.rules.call import Call, Gradients, Lowering
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
        LoweringError: the size is open.
    """
    if not isinstance(size, int):
        raise LoweringError("it needs a fixed height and width; lower it with dynamic_size=False")
    with _disable_current_modes():  # a constant: computed now, not traced
        columns = function(torch.eye(size, dtype=torch.float64).reshape(size, 1, size))
        return columns.reshape(size, -1).t().contiguous()


# Average pooling


def avg_pool(
    call: Call, grad: Tensor, self: Tensor, kernel_size: Any, stride: Any = (), padding: Any = 0,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None,
) -> Gradients:  # fmt: skip
    """avg_pool2d(Tensor self, int[2] kernel_size, int[2] stride=[], int[2] padding=0, bool ceil_mode=False,
    bool count_include_pad=True, int? divisor_override=None) -> Tensor; avg_pool1d and avg_pool3d alike
    """
    spatial = int(call.op._schema.name[-2])
    kernel, padding = per_dim(kernel_size, spatial), per_dim(padding, spatial)
    stride = per_dim(stride, spatial) if stride else kernel
    matrices = []
    for i in range(spatial):
        dim = i - spatial
        if not isinstance(self.shape[dim], int):
            counted = count_include_pad if divisor_override is None else None
            ends = counting(grad, dim), counting(self, dim)
            matrices.append(open_resample.average(*ends, kernel[i], stride[i], padding[i], counted))
            continue
        window = functional.avg_pool1d if divisor_override is None else _sum_pool1d
        settings = (kernel[i], stride[i], padding[i], ceil_mode, count_include_pad)
        matrices.append(matrix_of(lambda t, w=window, s=settings: w(t, *s), self.shape[i - spatial]))  # type: ignore[misc]
    gradient = separable_gradient(grad, matrices)
    return {"self": gradient if divisor_override is None else gradient / divisor_override}


def _pool_by_divisor(op: Any) -> Callable[..., Tensor]:
    """Average pooling with a divisor of its own as the average of full windows; ONNX has no such divisor."""

    def forward(
        self: Tensor, kernel_size: Any, stride: Any = (), padding: Any = 0, ceil_mode: bool = False,
        count_include_pad: bool = True, divisor_override: int | None = None,
    ) -> Tensor:  # fmt: skip
        if divisor_override is None:
            output: Tensor = op(self, kernel_size, stride, padding, ceil_mode, count_include_pad)
            return output
        spatial = int(op._schema.name[-2])
        kernel, pads = per_dim(kernel_size, spatial), per_dim(padding, spatial)
        strides = per_dim(stride, spatial) if stride else kernel
        if ceil_mode:  # the last windows reach over the end
            after = [_reach_over(*row) for row in zip(self.shape[-spatial:], kernel, strides, pads, strict=True)]
            self = aten.constant_pad_nd(self, [pad for a, p in zip(after, pads, strict=True) for pad in (a, p)][::-1])
            pads = [0] * spatial
        full: Tensor = op(self, kernel, strides, pads, False, True)
        return full * (math.prod(kernel) / divisor_override)

    return forward


def _reach_over(size: Any, kernel: int, stride: int, padding: int) -> Any:
    """How many zeros behind a side the last window reads, with the size of the output rounded up."""
    windows = -((kernel - size - 2 * padding) // stride) + 1
    windows = windows - 1 if known((windows - 1) * stride >= size + padding) else windows  # it would begin behind
    return (windows - 1) * stride + kernel - size - padding


def _sum_pool1d(image: Tensor, kernel: int, stride: int, padding: int, ceil_mode: bool, _: bool) -> Tensor:
    pooled = functional.avg_pool2d(
        image.unsqueeze(2), (1, kernel), (1, stride), (0, padding), ceil_mode, divisor_override=1
    )
    return pooled.squeeze(2)


def adaptive_avg_pool(call: Call, grad: Tensor, self: Tensor, output_size: Any) -> Gradients:
    """adaptive_avg_pool2d(Tensor self, SymInt[2] output_size) -> Tensor; adaptive_avg_pool1d,
    adaptive_avg_pool3d, _adaptive_avg_pool2d and _adaptive_avg_pool3d alike
    """
    spatial = int(call.op._schema.name[-2])
    size, out = self.shape[-spatial:], grad.shape[-spatial:]
    if all(known(o == 1) for o in out):
        return {"self": (grad / math.prod(size)).expand(self.shape)}
    if all(known(o == s) for o, s in zip(out, size, strict=True)):
        return {"self": grad}
    pool = functional.adaptive_avg_pool1d
    matrices = [
        matrix_of(lambda t, o=o: pool(t, o), s)  # type: ignore[misc]
        if isinstance(o, int) and isinstance(s, int)
        else open_resample.adaptive(counting(grad, dim), counting(self, dim))
        for dim, (o, s) in enumerate(zip(out, size, strict=True), start=-spatial)
    ]
    return {"self": separable_gradient(grad, matrices)}


def _pool_open_sizes(op: Any) -> Callable[..., Tensor]:
    """Adaptive pooling whose open sizes are matrix products; ONNX would use the example's windows for every size."""

    def forward(self: Tensor, output_size: Any) -> Tensor:
        size = self.shape[-len(output_size) :]
        if all(isinstance(s, int) for s in size) or all(known(o == 1) for o in output_size):
            output: Tensor = op(self, output_size)
            return output
        pooled = self
        for dim, out in enumerate(output_size, start=-len(output_size)):
            rows = counting(self.new_ones(()).expand(out), 0)
            matrix = open_resample.adaptive(rows, counting(self, dim)).to(self.dtype)
            pooled = torch.matmul(pooled.movedim(dim, -1), matrix.t()).movedim(-1, dim)
        return pooled

    return forward


# Resizing


def _resize(
    grad: Tensor,
    input: Tensor,
    output_size: Sequence[Any] | None,
    scale_factors: Sequence[float] | None,
    mode: str,
    align_corners: bool | None = None,
    antialias: bool = False,
) -> Gradients:
    """Gradient of a resize. A given scale factor is used as it is, for the ratio of the sizes may differ from it."""
    matrices = []
    for i, (size, out) in enumerate(zip(input.shape[2:], grad.shape[2:], strict=True)):
        if not (isinstance(size, int) and isinstance(out, int)):
            scale = scale_factors[i] if scale_factors is not None and output_size is None else None
            ends = counting(grad, 2 + i), counting(input, 2 + i)
            matrices.append(_open_resize(*ends, scale, mode + " antialiased" * antialias, align_corners))
            continue
        if scale_factors is None or output_size is not None:
            target: dict[str, Any] = {"size": (out, 4)}
        else:
            target = {"scale_factor": (scale_factors[i], 1.0)}
        matrices.append(matrix_of(lambda t, w=target: _resize_rows(t, w, mode, align_corners, antialias), size))  # type: ignore[misc]
    return {"input": separable_gradient(grad, matrices)}


def _open_resize(out: Tensor, into: Tensor, scale: float | None, mode: str, align_corners: bool | None) -> Tensor:
    if mode == "bilinear":
        return open_resample.linear(out, into, scale, align_corners)
    if mode in ("nearest", "nearest-exact"):
        return open_resample.nearest(out, into, scale, 0.0 if mode == "nearest" else 0.5)
    raise LoweringError(f"a {mode} resize needs a fixed height and width; lower it with dynamic_size=False")


def _resize_rows(
    rows: Tensor, target: Mapping[str, Any], mode: str, align_corners: bool | None, antialias: bool
) -> Tensor:
    """``(N, 1, size)`` resized as the height of an image whose width stays 4 (antialiasing goes wrong at width 1)."""
    plane = rows.unsqueeze(3).expand(-1, -1, -1, 4).contiguous()
    resized = functional.interpolate(plane, mode=mode, align_corners=align_corners, antialias=antialias, **target)
    return resized[..., 0]


def upsample_nearest(
    call: Call, grad: Tensor, input: Tensor, output_size: Any, scale_factors: Sequence[float] | None
) -> Gradients:
    """upsample_nearest2d.vec(Tensor input, SymInt[]? output_size, float[]? scale_factors) -> Tensor;
    upsample_nearest1d, upsample_nearest3d alike
    """
    return _resize(grad, input, output_size, scale_factors, "nearest")


def upsample_nearest_exact(
    call: Call, grad: Tensor, input: Tensor, output_size: Any, scale_factors: Sequence[float] | None
) -> Gradients:
    """_upsample_nearest_exact2d.vec(Tensor input, SymInt[]? output_size, float[]? scale_factors) -> Tensor;
    _upsample_nearest_exact1d, _upsample_nearest_exact3d alike
    """
    return _resize(grad, input, output_size, scale_factors, "nearest-exact")


def upsample_linear(
    call: Call, grad: Tensor, input: Tensor, output_size: Any, align_corners: bool, scale_factors: Any
) -> Gradients:
    """upsample_bilinear2d.vec(Tensor input, SymInt[]? output_size, bool align_corners, float[]? scale_factors)
    -> Tensor; upsample_linear1d, upsample_trilinear3d alike
    """
    return _resize(grad, input, output_size, scale_factors, "bilinear", align_corners)


def upsample_bicubic(
    call: Call, grad: Tensor, input: Tensor, output_size: Any, align_corners: bool, scale_factors: Any
) -> Gradients:
    """upsample_bicubic2d.vec(Tensor input, SymInt[]? output_size, bool align_corners, float[]? scale_factors)
    -> Tensor
    """
    return _resize(grad, input, output_size, scale_factors, "bicubic", align_corners)


def upsample_bilinear_aa(
    call: Call, grad: Tensor, input: Tensor, output_size: Any, align_corners: bool, scale_factors: Any
) -> Gradients:
    """_upsample_bilinear2d_aa.vec(Tensor input, SymInt[]? output_size, bool align_corners,
    float[]? scale_factors) -> Tensor
    """
    return _resize(grad, input, output_size, scale_factors, "bilinear", align_corners, antialias=True)


def upsample_bicubic_aa(
    call: Call, grad: Tensor, input: Tensor, output_size: Any, align_corners: bool, scale_factors: Any
) -> Gradients:
    """_upsample_bicubic2d_aa.vec(Tensor input, SymInt[]? output_size, bool align_corners,
    float[]? scale_factors) -> Tensor
    """
    return _resize(grad, input, output_size, scale_factors, "bicubic", align_corners, antialias=True)


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
}

FORWARDS: Mapping[OpOverload, Callable[..., Tensor]] = {
    op: _pool_open_sizes(op)
    for op in (aten.adaptive_avg_pool1d.default, aten.adaptive_avg_pool2d.default, aten.adaptive_avg_pool3d.default)
} | {op: _pool_by_divisor(op) for op in (aten.avg_pool2d.default, aten.avg_pool3d.default)}
