"""Convolutions of one, two and three dimensions."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from explainable_model.lowering.rules.call import Call, Gradients, Lowering
from explainable_model.lowering.shapes import known, per_dim

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
    at_input = at_weight = None
    if call.needs("input"):
        at_input = input_gradient(grad, input.shape[2:], weight, stride, padding, dilation, groups)
    if call.needs("weight"):
        at_weight = weight_gradient(grad, input, weight.shape[2:], stride, padding, dilation, groups)
    return {"input": at_input, "weight": at_weight, "bias": _bias_gradient(call, grad)}


def convolution_same(
    call: Call, grad: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None,
    stride: Any = 1, padding: str = "valid", dilation: Any = 1, groups: int = 1,
) -> Gradients:  # fmt: skip
    """conv2d.padding(Tensor input, Tensor weight, Tensor? bias=None, SymInt[2] stride=1, str padding="valid",
    SymInt[2] dilation=1, SymInt groups=1) -> Tensor; conv1d and conv3d alike
    """
    dims = weight.ndim - 2
    spread = per_dim(dilation, dims)
    total = [spread[i] * (weight.shape[2 + i] - 1) if padding == "same" else 0 for i in range(dims)]
    # With an even kernel the padding is one longer at the end: differentiate the padded input, then crop.
    pads = [p for t in reversed(total) for p in (t // 2, t - t // 2)]
    padded = aten.constant_pad_nd(input, pads, 0.0) if any(pads) else input
    gradients = dict(convolution(call, grad, padded, weight, bias, stride, 0, dilation, groups))
    if any(pads) and isinstance(whole := gradients["input"], Tensor):
        gradients["input"] = aten.constant_pad_nd(whole, [-p for p in pads], 0.0)
    return gradients


def transposed_convolution(
    call: Call, grad: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None,
    stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Gradients:  # fmt: skip
    """conv_transpose2d.input(Tensor input, Tensor weight, Tensor? bias=None, SymInt[2] stride=1,
    SymInt[2] padding=0, SymInt[2] output_padding=0, SymInt groups=1, SymInt[2] dilation=1) -> Tensor;
    conv_transpose1d and conv_transpose3d alike
    """
    dims = weight.ndim - 2
    stride, padding, dilation = per_dim(stride, dims), per_dim(padding, dims), per_dim(dilation, dims)
    at_input = at_weight = None
    if call.needs("input"):
        at_input = CONVOLVE[dims](grad, weight, None, stride, padding, dilation, groups)
        for i in range(2, input.ndim):  # output padding adds a row that may yield one position too many
            if not known(at_input.shape[i] == input.shape[i]):
                at_input = at_input.narrow(i, 0, input.shape[i])
    if call.needs("weight"):  # input and gradient change places
        at_weight = weight_gradient(input, grad, weight.shape[2:], stride, padding, dilation, groups)
    return {"input": at_input, "weight": at_weight, "bias": _bias_gradient(call, grad)}


def any_convolution(
    call: Call, grad: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None,
    stride: Any, padding: Any, dilation: Any, transposed: bool, output_padding: Any, groups: int,
) -> Gradients:  # fmt: skip
    """convolution(Tensor input, Tensor weight, Tensor? bias, SymInt[] stride, SymInt[] padding, SymInt[] dilation,
    bool transposed, SymInt[] output_padding, SymInt groups) -> Tensor
    """
    if transposed:
        return transposed_convolution(
            call, grad, input, weight, bias, stride, padding, output_padding, groups, dilation
        )
    return convolution(call, grad, input, weight, bias, stride, padding, dilation, groups)


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
    much faster than a transposed convolution; else the transposed convolution. At a single position,
    as behind pooling, the transposed one computes less, and it needs no kernel of its own in the file.
    """
    dims = weight.ndim - 2
    reach = [dilation[i] * (weight.shape[2 + i] - 1) for i in range(dims)]
    single = all(known(n == 1) for n in grad.shape[2:])
    if not single and all(s == 1 for s in stride) and all(p <= r for p, r in zip(padding, reach, strict=True)):
        around = [r - p for r, p in zip(reach, padding, strict=True)]
        return CONVOLVE[dims](  # type: ignore[no-any-return]
            grad, transposed_kernel(weight, groups), None, [1] * dims, around, dilation, groups
        )
    # What the strides never reached gets no gradient: extra rows at the end.
    extra = [size[i] - ((grad.shape[2 + i] - 1) * stride[i] + reach[i] + 1 - 2 * padding[i]) for i in range(dims)]
    if all(isinstance(e, int) for e in extra):
        return aten.convolution(grad, weight, None, stride, padding, dilation, True, extra, groups)  # type: ignore[no-any-return]
    whole = aten.convolution(grad, weight, None, stride, [0] * dims, dilation, True, [0] * dims, groups)
    pads = [p for i in reversed(range(dims)) for p in (-padding[i], extra[i] - padding[i])]
    return aten.constant_pad_nd(whole, pads, 0.0)  # type: ignore[no-any-return]


def transposed_kernel(weight: Tensor, groups: int) -> Tensor:
    """``(O, I/G, *k)`` -> ``(I, O/G, *k)``, flipped in space."""
    out_channels, in_per_group, *kernel = weight.shape
    if any(k != 1 for k in kernel):
        weight = weight.flip(list(range(2, weight.ndim)))
    if known(groups == 1):
        return weight.transpose(0, 1)
    if in_per_group == 1 and known(out_channels == groups):  # depthwise: one kernel per channel either way
        return weight
    grouped = weight.reshape(groups, out_channels // groups, in_per_group, *kernel)
    return grouped.transpose(1, 2).reshape(groups * in_per_group, out_channels // groups, *kernel)


def weight_gradient(
    grad: Tensor,
    input: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """Gradient of a convolution with respect to its kernel, for kernels that depend on the image.

    A convolution again: the images are its channels, the gradient is its kernel, and stride and
    dilation change places.
    """
    images, channels, *size = input.shape
    dims = len(size)
    grouped = input.reshape(images, groups, channels // groups, *size).transpose(0, 2)
    planes = grouped.reshape(channels // groups, groups * images, *size)
    gradient = CONVOLVE[dims](planes, grad.transpose(0, 1), None, dilation, padding, stride, groups).transpose(0, 1)
    for i, length in enumerate(kernel, start=2):  # rows that the strides never reached yield positions too many
        gradient = gradient.narrow(i, 0, length)
    return gradient  # type: ignore[no-any-return]


def _bias_gradient(call: Call, grad: Tensor) -> Tensor | None:
    return grad.sum([0, *range(2, grad.ndim)]) if call.needs("bias") else None


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
    aten.convolution.default: any_convolution,
}
