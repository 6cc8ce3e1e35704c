"""Convolutions of one, two and three dimensions."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from explainable_model.lowering.call import Call, Gradients, Lowering
from explainable_model.lowering.shapes import per_dim

aten = torch.ops.aten
CONVOLVE: Mapping[int, Any] = {1: aten.conv1d.default, 2: aten.conv2d.default, 3: aten.conv3d.default}


def convolution(
    call: Call, grad: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Gradients:  # fmt: skip
    """conv2d(Tensor input, Tensor weight, Tensor? bias=None, SymInt[2] stride=1, SymInt[2] padding=0,
    SymInt[2] dilation=1, SymInt groups=1) -> Tensor; conv1d and conv3d alike
    """
    dims = weight.ndim - 2
    stride, padding, dilation = per_dim(stride, dims), per_dim(padding, dims), per_dim(dilation, dims)
    return {"input": input_gradient(grad, input.shape[2:], weight, stride, padding, dilation, groups)}


def convolution_same(
    call: Call, grad: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None,
    stride: Any = 1, padding: str = "valid", dilation: Any = 1, groups: int = 1,
) -> Gradients:  # fmt: skip
    """conv2d.padding(Tensor input, Tensor weight, Tensor? bias=None, SymInt[2] stride=1, str padding="valid",
    SymInt[2] dilation=1, SymInt groups=1) -> Tensor; conv1d and conv3d alike
    """
    dims = weight.ndim - 2
    stride, dilation = per_dim(stride, dims), per_dim(dilation, dims)
    total = [dilation[i] * (weight.shape[2 + i] - 1) if padding == "same" else 0 for i in range(dims)]
    before = [t // 2 for t in total]
    # With an even kernel the padding is one longer at the end: differentiate the padded input, then crop.
    padded = [size + t for size, t in zip(input.shape[2:], total, strict=True)]
    whole = input_gradient(grad, padded, weight, stride, [0] * dims, dilation, groups)
    for i in range(dims):
        whole = whole.narrow(2 + i, before[i], input.shape[2 + i]) if total[i] else whole
    return {"input": whole}


def input_gradient(
    grad: Tensor,
    size: Sequence[Any],
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """Gradient of a convolution with respect to its input of spatial size ``size``.

    With stride 1 it is a convolution with the flipped, transposed kernel, which runtimes compute
    much faster than a transposed convolution; else the transposed convolution.
    """
    dims = weight.ndim - 2
    reach = [dilation[i] * (weight.shape[2 + i] - 1) for i in range(dims)]
    if all(s == 1 for s in stride) and all(p <= r for p, r in zip(padding, reach, strict=True)):
        around = [r - p for r, p in zip(reach, padding, strict=True)]
        convolve = CONVOLVE[dims]
        return convolve(grad, transposed_kernel(weight, groups), None, [1] * dims, around, dilation, groups)  # type: ignore[no-any-return]
    # What the strides never reached gets no gradient: extra rows at the end.
    extra = [
        size[i] - ((grad.shape[2 + i] - 1) * stride[i] + reach[i] + 1 - 2 * padding[i]) for i in range(dims)
    ]
    if all(isinstance(e, int) and e < max(stride[i], dilation[i]) for i, e in enumerate(extra)):
        return aten.convolution(grad, weight, None, stride, padding, dilation, True, extra, groups)  # type: ignore[no-any-return]
    whole = aten.convolution(grad, weight, None, stride, [0] * dims, dilation, True, [0] * dims, groups)
    pads = []
    for i in reversed(range(dims)):
        pads += [-padding[i], size[i] - (grad.shape[2 + i] - 1) * stride[i] - reach[i] - 1 + padding[i]]
    return aten.constant_pad_nd(whole, pads, 0.0)  # type: ignore[no-any-return]


def transposed_kernel(weight: Tensor, groups: int) -> Tensor:
    """``(O, I/G, *k)`` -> ``(I, O/G, *k)``, flipped in space."""
    out_channels, in_per_group, *kernel = weight.shape
    if any(k != 1 for k in kernel):
        weight = weight.flip(list(range(2, weight.ndim)))
    if groups == 1:
        return weight.transpose(0, 1)
    if in_per_group == 1 and out_channels == groups:  # depthwise: one kernel per channel either way
        return weight
    grouped = weight.reshape(groups, out_channels // groups, in_per_group, *kernel)
    return grouped.transpose(1, 2).reshape(groups * in_per_group, out_channels // groups, *kernel)


def transposed_convolution(
    call: Call, grad: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None,
    stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Gradients:  # fmt: skip
    """conv_transpose2d.input(Tensor input, Tensor weight, Tensor? bias=None, SymInt[2] stride=1,
    SymInt[2] padding=0, SymInt[2] output_padding=0, SymInt groups=1, SymInt[2] dilation=1) -> Tensor;
    conv_transpose1d and conv_transpose3d.input alike
    """
    dims = weight.ndim - 2
    settings = (per_dim(v, dims) for v in (stride, padding, dilation))
    gradient = CONVOLVE[dims](grad, weight, None, *settings, groups)
    for i in range(dims):  # output padding adds a row that may yield one position too many
        if gradient.shape[2 + i] != input.shape[2 + i]:
            gradient = gradient.narrow(2 + i, 0, input.shape[2 + i])
    return {"input": gradient}


TABLE: Mapping[OpOverload, Lowering] = {
    aten.conv1d.default: convolution,
    aten.conv2d.default: convolution,
    aten.conv3d.default: convolution,
    aten.conv1d.padding: convolution_same,
    aten.conv2d.padding: convolution_same,
    aten.conv3d.padding: convolution_same,
    aten.conv_transpose1d.default: transposed_convolution,
    aten.conv_transpose2d.input: transposed_convolution,
    aten.conv_transpose3d.input: transposed_convolution,
}
