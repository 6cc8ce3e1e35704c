"""Operators of one value: activations and elementary functions."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explainable_model.errors import ModelError
from explainable_model.networks.onnx.operators.call import Call, Operator, Run
from explainable_model.networks.onnx.values import Value, axis_of, each, is_numbers, numbers, one, tensor


def of_tensor(function: Callable[[Tensor], Tensor]) -> Run:
    """A function of one tensor, without attributes."""

    def run(call: Call, x: Value) -> Value:
        return function(tensor(x))

    return run


def of_both(function: Callable[[Tensor], Tensor], of_number: Callable[[Any], Any]) -> Run:
    """A function of a tensor or of the numbers of a shape."""

    def run(call: Call, x: Value) -> Value:
        return each(of_number, x) if is_numbers(x) else function(x)

    return run


def _whole(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A rounding of numbers that leaves whole ones alone and keeps the type."""

    def of_number(x: Any) -> Any:
        return torch.sym_float(function(x)) if isinstance(x, float | torch.SymFloat) else x

    return of_number


def leaky_relu(call: Call, x: Value) -> Value:
    return F.leaky_relu(x, call.get("alpha", 0.01))


def elu(call: Call, x: Value) -> Value:
    return F.elu(x, call.get("alpha", 1.0))


def selu(call: Call, x: Value) -> Value:
    alpha, gamma = call.get("alpha", 1.67326319217681884765625), call.get("gamma", 1.05070102214813232421875)
    if math.isclose(alpha, 1.6732632, rel_tol=1e-6) and math.isclose(gamma, 1.0507010, rel_tol=1e-6):
        return F.selu(x)
    return F.elu(x, alpha) * gamma


def celu(call: Call, x: Value) -> Value:
    return F.celu(x, call.get("alpha", 1.0))


def thresholded_relu(call: Call, x: Value) -> Value:
    return torch.where(x > call.get("alpha", 1.0), x, torch.zeros_like(x))


def shrink(call: Call, x: Value) -> Value:
    bound, bias = call.get("lambd", 0.5), call.get("bias", 0.0)
    zero = torch.zeros_like(x)
    return torch.where(x < -bound, x + bias, torch.where(x > bound, x - bias, zero))


def hard_sigmoid(call: Call, x: Value) -> Value:
    alpha, beta = call.get("alpha", 0.2), call.get("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-5) and beta == 0.5:
        return F.hardsigmoid(x)
    return torch.clamp(x * alpha + beta, 0.0, 1.0)


def gelu(call: Call, x: Value) -> Value:
    return F.gelu(x, approximate=call.get("approximate", "none"))


def swish(call: Call, x: Value) -> Value:
    alpha = call.get("alpha", 1.0)
    return F.silu(x) if alpha == 1 else x * torch.sigmoid(x * alpha)


def prelu(call: Call, x: Value, slope: Value) -> Value:
    x, slope = tensor(x), tensor(slope)
    per_channel = x.ndim > 1 and slope.ndim == x.ndim - 1 and slope.shape[0] == slope.numel() == x.shape[1]
    if slope.numel() == 1 or per_channel:
        return F.prelu(x, slope.flatten())
    return torch.where(x >= 0, x, x * slope)


def softmax(call: Call, x: Value) -> Value:
    """Before opset 13 the dimensions from the axis on are one."""
    function = F.log_softmax if call.operator == "LogSoftmax" else F.softmax
    if call.opset >= 13:
        return function(x, axis_of(call.get("axis", -1), x.ndim))
    axis = axis_of(call.get("axis", 1), x.ndim)
    return function(x, axis) if axis == x.ndim - 1 else function(x.flatten(axis), -1).reshape(x.shape)


def hardmax(call: Call, x: Value) -> Value:
    axis = axis_of(call.get("axis", -1 if call.opset >= 13 else 1), x.ndim)
    flat = x if call.opset >= 13 else x.flatten(axis)
    dim = axis if call.opset >= 13 else -1
    best = F.one_hot(flat.argmax(dim), flat.shape[dim]).to(x.dtype)
    return best.movedim(-1, dim).reshape(x.shape)


def clip(call: Call, x: Value, low: Value = None, high: Value = None) -> Value:
    bounds = [call.get(name, given) for name, given in (("min", low), ("max", high))]
    if is_numbers(x):
        for bound, choose in zip(bounds, (max, min), strict=True):
            x = x if bound is None else each(choose, x, numbers(bound))
        return x
    if any(isinstance(bound, Tensor) for bound in bounds):
        smallest, largest = (
            None if b is None else tensor(numbers(b)) if isinstance(b, float) else tensor(b, x) for b in bounds
        )
        return torch.clamp(x, smallest, largest)
    smallest, largest = (None if b is None else one(b, "a bound") for b in bounds)
    if smallest is None and largest is None:
        return x
    if (smallest, largest) == (0, 6) and x.is_floating_point():
        return F.relu6(x)
    return torch.clamp(x, smallest, largest)


def identity(call: Call, x: Value) -> Value:
    return x


def dropout(call: Call, x: Value, ratio: Value = None, training: Value = None) -> Any:
    """Drops nothing in evaluation.

    Raises:
        ModelError: it is in training mode.
    """
    if training is not None and one(training, "the mode of dropout"):
        raise ModelError("Dropout is in training mode; export the network in evaluation mode")
    return (x, torch.ones_like(x, dtype=torch.bool)) if call.outputs > 1 else x


def is_inf(call: Call, x: Value) -> Value:
    found = torch.zeros_like(x, dtype=torch.bool)
    if call.get("detect_positive", 1):
        found = found | (x == float("inf"))
    if call.get("detect_negative", 1):
        found = found | (x == float("-inf"))
    return found


def negate(x: Any) -> Any:
    return -x


def is_not(x: Any) -> Any:
    return not x


def build_relu(call: Call, inputs: Sequence[Value]) -> nn.Module:
    return nn.ReLU()


ELEMENTARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Acos": torch.acos, "Acosh": torch.acosh, "Asin": torch.asin, "Asinh": torch.asinh, "Atan": torch.atan,
    "Atanh": torch.atanh, "BitwiseNot": torch.bitwise_not, "Cos": torch.cos, "Cosh": torch.cosh, "Erf": torch.erf,
    "Exp": torch.exp, "HardSwish": F.hardswish, "IsNaN": torch.isnan, "Log": torch.log, "Mish": F.mish,
    "Reciprocal": torch.reciprocal, "Sigmoid": torch.sigmoid, "Sign": torch.sign, "Sin": torch.sin,
    "Sinh": torch.sinh, "Softplus": F.softplus, "Softsign": F.softsign, "Tan": torch.tan, "Tanh": torch.tanh,
}  # fmt: skip

TABLE: dict[str, Operator] = {
    **{name: Operator(of_tensor(function)) for name, function in ELEMENTARY.items()},
    "Abs": Operator(of_both(torch.abs, abs)),
    "Ceil": Operator(of_both(torch.ceil, _whole(math.ceil))),
    "Celu": Operator(celu),
    "Clip": Operator(clip, numbers=(1, 2)),
    "Dropout": Operator(dropout, numbers=(1, 2), passive=True),
    "Elu": Operator(elu),
    "Floor": Operator(of_both(torch.floor, _whole(math.floor))),
    "Gelu": Operator(gelu),
    "HardSigmoid": Operator(hard_sigmoid),
    "Hardmax": Operator(hardmax, passive=True),
    "Identity": Operator(identity, passive=True),
    "IsInf": Operator(is_inf),
    "LeakyRelu": Operator(leaky_relu),
    "LogSoftmax": Operator(softmax, passive=True),
    "Neg": Operator(of_both(torch.neg, negate)),
    "Not": Operator(of_both(torch.logical_not, is_not)),
    "PRelu": Operator(prelu),
    "Relu": Operator(of_tensor(F.relu), build=build_relu, shows="ReLU"),
    "Round": Operator(of_both(torch.round, _whole(round))),
    "Selu": Operator(selu),
    "Shrink": Operator(shrink),
    "Softmax": Operator(softmax, passive=True),
    "Sqrt": Operator(of_both(torch.sqrt, math.sqrt)),
    "Swish": Operator(swish),
    "ThresholdedRelu": Operator(thresholded_relu),
}
