"""Convolutions and their paddings."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from explainable_model.errors import ModelError
from explainable_model.networks.onnx.operators.call import Call, Operator
from explainable_model.networks.onnx.values import Value, tensor

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def window(call: Call, name: str, count: int) -> list[int]:
    """Strides or dilations, which are one by default."""
    found = list(call.get(name) or [1] * count)
    if len(found) != count:
        raise ModelError(f"{name} is {found}; expected {count} values, one for each spatial dimension")
    return found


def padding(call: Call, size: Sequence[Any], kernel: Sequence[int]) -> list[Any]:
    """The padding before each spatial dimension, then after each.

    Args:
        call: says strides, dilations, ``pads`` or ``auto_pad``.
        size: spatial size of the input.
        kernel: size of the window.
    """
    count, how = len(kernel), call.get("auto_pad", "NOTSET")
    if how == "VALID":
        return [0] * (2 * count)
    if how.startswith("SAME"):
        strides, dilations = window(call, "strides", count), window(call, "dilations", count)
        total = [
            max((-(-length // stride) - 1) * stride + dilation * (cells - 1) + 1 - length, 0)
            for length, cells, stride, dilation in zip(size, kernel, strides, dilations, strict=True)
        ]
        small = [amount // 2 for amount in total]
        large = [amount - half for amount, half in zip(total, small, strict=True)]
        return small + large if how == "SAME_UPPER" else large + small
    return window(call, "pads", 2 * count) if call.get("pads") else [0] * (2 * count)


def pad_spatial(x: Tensor, amounts: Sequence[Any], value: float = 0.0) -> Tensor:
    """Pad the spatial dimensions by amounts before each and after each."""
    count = len(amounts) // 2
    if all(isinstance(amount, int) and amount == 0 for amount in amounts):
        return x
    return F.pad(x, [each for i in reversed(range(count)) for each in (amounts[i], amounts[count + i])], value=value)


def is_even(amounts: Sequence[Any]) -> bool:
    """Whether the padding is the same on both sides, known, and never negative."""
    count = len(amounts) // 2
    known = all(isinstance(amount, int) and amount >= 0 for amount in amounts)
    return known and list(amounts[:count]) == list(amounts[count:])


def convolve(call: Call, x: Value, weight: Value, bias: Value = None) -> Value:
    """Convolution with a weight that the graph computes."""
    x, weight = tensor(x), tensor(weight)
    count = x.ndim - 2
    amounts = padding(call, x.shape[2:], list(weight.shape[2:]))
    even = is_even(amounts)
    run = (F.conv1d, F.conv2d, F.conv3d)[count - 1]
    x = x if even else pad_spatial(x, amounts)
    strides, dilations = window(call, "strides", count), window(call, "dilations", count)
    inner = amounts[:count] if even else [0] * count
    result: Tensor = run(
        x, weight, None if bias is None else tensor(bias), strides, inner, dilations, call.get("group", 1)
    )
    return result


def build_convolution(call: Call, inputs: Sequence[Value]) -> nn.Module | None:
    """A layer of ``torch.nn``, with the padding before it where that is uneven or depends on the image's size."""
    weight, bias = inputs[1], inputs[2] if len(inputs) > 2 else None
    if not isinstance(weight, Tensor) or not 3 <= weight.ndim <= 5 or (len(inputs) > 2 and bias is None):
        return None
    kernel = list(weight.shape[2:])
    count = len(kernel)
    same = call.get("auto_pad", "NOTSET").startswith("SAME")
    amounts = [0] * (2 * count) if same else padding(call, [], kernel)
    even = is_even(amounts) and not same
    groups = call.get("group", 1)
    kind = CONVOLUTIONS[count - 1]
    layer = (kind if even else _padded(kind))(
        weight.shape[1] * groups, weight.shape[0], tuple(kernel),  # type: ignore[arg-type]
        stride=tuple(window(call, "strides", count)), padding=tuple(amounts[:count]) if even else 0,  # type: ignore[arg-type]
        dilation=tuple(window(call, "dilations", count)), groups=groups, bias=bias is not None, device="meta",  # type: ignore[arg-type]
    )  # fmt: skip
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    if not even:
        layer.call = call
    return layer


class _UnevenPadding:
    """Pads before a convolution."""

    call: Call

    def forward(self, x: Tensor) -> Tensor:
        amounts = padding(self.call, x.shape[2:], self.kernel_size)  # type: ignore[attr-defined]
        padded: Tensor = super().forward(pad_spatial(x, amounts))  # type: ignore[misc]
        return padded


class PaddedConv1d(_UnevenPadding, nn.Conv1d):
    """``nn.Conv1d`` after uneven padding."""


class PaddedConv2d(_UnevenPadding, nn.Conv2d):
    """``nn.Conv2d`` after uneven padding."""


class PaddedConv3d(_UnevenPadding, nn.Conv3d):
    """``nn.Conv3d`` after uneven padding."""


def _padded(kind: type[nn.Module]) -> Any:
    return {nn.Conv1d: PaddedConv1d, nn.Conv2d: PaddedConv2d, nn.Conv3d: PaddedConv3d}[kind]  # type: ignore[index]


def transpose_convolve(call: Call, x: Value, weight: Value, bias: Value = None) -> Value:
    x, weight = tensor(x), tensor(weight)
    count = x.ndim - 2
    kernel, strides, dilations = (
        list(weight.shape[2:]),
        window(call, "strides", count),
        window(call, "dilations", count),
    )
    extra = list(call.get("output_padding") or [0] * count)
    amounts = _transposed_padding(call, x.shape[2:], kernel, strides, dilations, extra)
    before, after = amounts[:count], amounts[count:]
    even = before == after and all(isinstance(amount, int) and amount >= 0 for amount in before)
    run = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[count - 1]
    bias, group = None if bias is None else tensor(bias), call.get("group", 1)
    if even and all(e < max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
        result: Tensor = run(x, weight, bias, strides, before, extra, group, dilations)
        return result
    whole = run(x, weight, None, strides, [0] * count, [0] * count, group, dilations)
    whole = pad_spatial(whole, [-a for a in before] + [e - a for a, e in zip(after, extra, strict=True)])
    return whole if bias is None else whole + bias.reshape(-1, *[1] * count)


def _transposed_padding(
    call: Call, size: Sequence[Any], kernel: list[int], strides: list[int], dilations: list[int], extra: list[int]
) -> list[Any]:
    """How much of the full output is cut off before each dimension, then after each."""
    count, how = len(kernel), call.get("auto_pad", "NOTSET")
    wanted = call.get("output_shape")
    if wanted is None and not how.startswith("SAME"):
        return [0] * (2 * count) if how == "VALID" else list(call.get("pads") or [0] * (2 * count))
    target = [s * t for s, t in zip(size, strides, strict=True)] if wanted is None else list(wanted)[-count:]
    total = [
        stride * (length - 1) + more + (cells - 1) * dilation + 1 - goal
        for stride, length, more, cells, dilation, goal in zip(
            strides, size, extra, kernel, dilations, target, strict=True
        )
    ]
    small = [amount // 2 for amount in total]
    large = [amount - half for amount, half in zip(total, small, strict=True)]
    return small + large if how == "SAME_UPPER" else large + small


TABLE: dict[str, Operator] = {
    "Conv": Operator(convolve, build=build_convolution),
    "ConvTranspose": Operator(transpose_convolve),
}
