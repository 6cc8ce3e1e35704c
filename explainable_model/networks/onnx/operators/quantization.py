"""Quantized files: weights become those that the integers stand for, activations are rounded as the file says."""

from typing import Any

import torch
from torch import Tensor

from explainable_model.errors import ModelError
from explainable_model.networks.onnx.operators.call import Call, Operator
from explainable_model.networks.onnx.operators.indexing import DTYPES
from explainable_model.networks.onnx.values import Value, axis_of, tensor

UNROUNDED = "unrounded"
"""The attribute that the reader gives a node whose values it keeps between the integers' own."""

STRAIGHT = "straight"
"""The attribute of a node that rounds an output: a score outside of its range keeps its gradient, as the logit under a
sigmoid does."""

RANGES = {torch.uint8: (0, 255), torch.int8: (-128, 127), torch.int16: (-32768, 32767)}


def _along(value: Tensor, x: Tensor, axis: int) -> Tensor:
    """Scales of one axis, arranged to be broadcast."""
    if value.numel() == 1:
        return value.reshape(())
    dim = axis_of(axis, x.ndim)
    if value.ndim != 1 or value.numel() != x.shape[dim]:
        raise ModelError("scales of blocks are not read; expected one scale, or one for each channel")
    return value.reshape([-1 if i == dim else 1 for i in range(x.ndim)])


def dequantize(call: Call, x: Value, scale: Value, zero: Value = None) -> Value:
    """The numbers that integers stand for; a value that ``quantize`` rounded stands for itself."""
    x = tensor(x)
    if x.is_floating_point():
        return x
    scale, axis = tensor(scale, x), call.get("axis", 1)
    shifted = x.to(scale.dtype)
    if zero is not None:
        shifted = shifted - _along(tensor(zero, x).to(scale.dtype), x, axis)
    return shifted * _along(scale, x, axis)


def quantize(call: Call, x: Value, scale: Value, zero: Value = None) -> Value:
    """Round to the values that the integers can stand for; their gradient is one inside the range."""
    x = tensor(x)
    rounded = _round(call, x, scale, zero)
    return x + (rounded - x).detach() if call.get(STRAIGHT) else rounded


def _round(call: Call, x: Tensor, scale: Value, zero: Value) -> Tensor:
    scale = tensor(scale)
    kind: Any = torch.uint8 if zero is None else tensor(zero).dtype
    if zero is None and "output_dtype" in call.attributes:
        kind = DTYPES.get(call.get("output_dtype"))
    if kind not in RANGES:
        raise ModelError(f"QuantizeLinear to {kind} is not read; expected {', '.join(map(str, RANGES))}")
    low, high = RANGES[kind]
    if scale.numel() == 1:
        start = 0 if zero is None else int(tensor(zero).reshape(()))
        if call.get(UNROUNDED):
            step = float(scale.reshape(()))
            return x.clamp((low - start) * step, (high - start) * step)
        return torch.fake_quantize_per_tensor_affine(x, float(scale.reshape(())), start, low, high)
    starts = torch.zeros_like(scale, dtype=torch.int32) if zero is None else tensor(zero, x).to(torch.int32)
    axis = axis_of(call.get("axis", 1), x.ndim)
    return torch.fake_quantize_per_channel_affine(x, scale, starts, axis, low, high)


def dynamic_quantize(call: Call, x: Value) -> Value:
    """Round to 256 steps between the extremes of ``x`` and zero; as integers, with their scale and zero point.

    The gradient of the integers is that of ``x``; the steps count as constants.
    """
    x = tensor(x)
    low, high = x.detach().amin().clamp(max=0.0), x.detach().amax().clamp(min=0.0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = torch.round(-low / scale).clamp(0, 255)
    integers = torch.round(x.detach() / scale).add(zero).clamp(0, 255)
    exact = x / scale + zero
    return exact + (integers - exact).detach(), scale, zero


def integer_product(call: Call, a: Value, b: Value, a_zero: Value = None, b_zero: Value = None) -> Value:
    """A matrix product of integers without their zero points, in floating point: exact up to 2 ** 24."""
    a, b = tensor(a), tensor(b)
    are_integers = not (a.is_floating_point() or b.is_floating_point())
    a, b = a.float(), b.float()
    if a_zero is not None:
        a_zero = tensor(a_zero, a).float()
        a = a - (a_zero.unsqueeze(-1) if a_zero.ndim else a_zero)
    product = torch.matmul(a, b if b_zero is None else b - tensor(b_zero, b).float())
    return product.to(torch.int32) if are_integers else product


TABLE: dict[str, Operator] = {
    "DequantizeLinear": Operator(dequantize, numbers=(), passive=True),
    "DynamicQuantizeLinear": Operator(dynamic_quantize, passive=True),
    "MatMulInteger": Operator(integer_product, passive=True),
    "QuantizeLinear": Operator(quantize, numbers=(1, 2), passive=True),
}
