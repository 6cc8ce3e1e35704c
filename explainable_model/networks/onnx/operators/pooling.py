"""Pooling over windows and over whole maps."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from explainable_model.errors import ModelError
from explainable_model.networks.onnx.operators.call import Call, Operator
from explainable_model.networks.onnx.operators.convolution import is_even, pad_spatial, padding, window
from explainable_model.networks.onnx.values import Value

LOWEST = float("-inf")


def max_pool(call: Call, x: Value) -> Value:
    """Maximum of windows.

    Raises:
        ModelError: its indices are used, or column-major order is asked for.
    """
    if call.outputs > 1:
        raise ModelError("MaxPool returns indices, which the reader does not compute")
    kernel = list(call.get("kernel_shape"))
    count = len(kernel)
    strides, dilations = window(call, "strides", count), window(call, "dilations", count)
    amounts = padding(call, x.shape[2:], kernel)
    fits = is_even(amounts) and all(2 * a <= k for a, k in zip(amounts, kernel, strict=False))
    inner = amounts[:count] if fits else [0] * count
    if not fits:
        x = pad_spatial(x, amounts, LOWEST)
    if call.get("ceil_mode") and not fits:
        x = _fill_last_window(x, kernel, strides, dilations, amounts[count:], LOWEST)
    run = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[count - 1]
    pooled: Tensor = run(x, kernel, strides, inner, dilations, bool(call.get("ceil_mode") and fits))
    return pooled


def _fill_last_window(
    x: Tensor,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    after: Sequence[Any],
    value: float,
) -> Tensor:
    """Pad behind so that the last window, which begins before the padding ``after`` the values, is whole."""
    behind = []
    sizes = zip(x.shape[2:], kernel, strides, dilations, after, strict=True)
    for length, cells, stride, dilation, padded in sizes:
        reach = dilation * (cells - 1) + 1
        windows = -(-(length - reach) // stride) + 1
        if (windows - 1) * stride >= length - padded:
            windows -= 1
        behind.append((windows - 1) * stride + reach - length)
    return pad_spatial(x, [0] * len(behind) + behind, value)


def average_pool(call: Call, x: Value) -> Value:
    kernel = list(call.get("kernel_shape"))
    count = len(kernel)
    strides, dilations = window(call, "strides", count), window(call, "dilations", count)
    amounts = padding(call, x.shape[2:], kernel)
    counts_padding, ceil = bool(call.get("count_include_pad", 0)), bool(call.get("ceil_mode", 0))
    run = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[count - 1]
    is_plain = is_even(amounts) and all(d == 1 for d in dilations)
    if is_plain and all(2 * a <= k for a, k in zip(amounts, kernel, strict=False)) and not ceil:
        pooled: Tensor = run(x, kernel, strides, amounts[:count], False, counts_padding)
        return pooled
    ones = torch.ones_like(x[:1, :1])
    padded, seen = pad_spatial(x, amounts), pad_spatial(ones, amounts, 1.0 if counts_padding else 0.0)
    if ceil:
        padded = _fill_last_window(padded, kernel, strides, dilations, amounts[count:], 0.0)
        seen = _fill_last_window(seen, kernel, strides, dilations, amounts[count:], 0.0)
    return _sum_windows(padded, kernel, strides, dilations) / _sum_windows(seen, kernel, strides, dilations)


def _sum_windows(x: Tensor, kernel: list[int], strides: list[int], dilations: list[int]) -> Tensor:
    count = len(kernel)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[count - 1]
    channels = x.shape[1]
    if all(d == 1 for d in dilations):
        pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[count - 1]
        summed: Tensor = pool(x, kernel, strides)
        return summed
    weight = x.new_ones(channels, 1, *kernel)
    summed = convolve(x, weight, None, strides, [0] * count, dilations, channels)
    return summed


def lp_pool(call: Call, x: Value) -> Value:
    power, kernel = call.get("p", 2), list(call.get("kernel_shape"))
    strides, dilations = window(call, "strides", len(kernel)), window(call, "dilations", len(kernel))
    amounts = padding(call, x.shape[2:], kernel)
    raised = pad_spatial(x.abs().pow(power), amounts)
    if call.get("ceil_mode"):
        raised = _fill_last_window(raised, kernel, strides, dilations, amounts[len(kernel) :], 0.0)
    summed = _sum_windows(raised, kernel, strides, dilations)
    if all(d == 1 for d in dilations):
        summed = summed * float(torch.tensor(kernel).prod())
    return summed.pow(1 / power)


def global_average(call: Call, x: Value) -> Value:
    pooled: Tensor = F.adaptive_avg_pool2d(x, 1) if x.ndim == 4 else x.mean(list(range(2, x.ndim)), keepdim=True)
    return pooled


def global_max(call: Call, x: Value) -> Value:
    return x.amax(list(range(2, x.ndim)), keepdim=True)


def global_lp(call: Call, x: Value) -> Value:
    power = call.get("p", 2)
    return x.abs().pow(power).sum(list(range(2, x.ndim)), keepdim=True).pow(1 / power)


TABLE: dict[str, Operator] = {
    "AveragePool": Operator(average_pool),
    "GlobalAveragePool": Operator(global_average),
    "GlobalLpPool": Operator(global_lp),
    "GlobalMaxPool": Operator(global_max),
    "LpPool": Operator(lp_pool),
    "MaxPool": Operator(max_pool),
}
