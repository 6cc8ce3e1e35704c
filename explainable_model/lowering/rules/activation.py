"""Activation functions."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from explainable_model.attribution.saturation import sigmoid_slope, tanh_slope
from explainable_model.errors import LoweringError
from explainable_model.lowering.rules.arithmetic import mask
from explainable_model.lowering.rules.call import Call, Gradients, Lowering
from explainable_model.lowering.shapes import unbroadcast

aten = torch.ops.aten


def relu(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """relu(Tensor self) -> Tensor"""
    return {"self": mask(grad, call.output > 0)}


def relu6(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """relu6(Tensor self) -> Tensor"""
    return {"self": mask(grad, (self > 0) & (self < 6))}


def hardtanh(call: Call, grad: Tensor, self: Tensor, min_val: Any = -1, max_val: Any = 1) -> Gradients:
    """hardtanh(Tensor self, Scalar min_val=-1, Scalar max_val=1) -> Tensor"""
    return {"self": mask(grad, (self > min_val) & (self < max_val))}


def threshold(call: Call, grad: Tensor, self: Tensor, threshold: Any, value: Any) -> Gradients:
    """threshold(Tensor self, Scalar threshold, Scalar value) -> Tensor"""
    return {"self": mask(grad, self > threshold)}


def leaky_relu(call: Call, grad: Tensor, self: Tensor, negative_slope: Any = 0.01) -> Gradients:
    """leaky_relu(Tensor self, Scalar negative_slope=0.01) -> Tensor"""
    return {"self": torch.where(self > 0, grad, grad * negative_slope)}


def rrelu(
    call: Call, grad: Tensor, self: Tensor, lower: Any = 0.125, upper: Any = 1 / 3, training: bool = False
) -> Gradients:
    """rrelu(Tensor self, Scalar lower=0.125, Scalar upper=0.3333333333333333, bool training=False,
    Generator? generator=None) -> Tensor
    """
    if training:
        raise LoweringError("rrelu in training mode is random; call .eval() on the network")
    return leaky_relu(call, grad, self, (lower + upper) / 2)


def prelu(call: Call, grad: Tensor, self: Tensor, weight: Tensor) -> Gradients:
    """prelu(Tensor self, Tensor weight) -> Tensor"""
    slope = weight.reshape(1, -1, *[1] * (self.ndim - 2)) if self.ndim > 1 else weight
    at_weight = None
    if call.needs("weight"):
        summed = unbroadcast(torch.where(self > 0, 0.0, grad * self), slope)
        at_weight = None if summed is None else summed.reshape(weight.shape)
    return {"self": torch.where(self > 0, grad, grad * slope), "weight": at_weight}


def elu(call: Call, grad: Tensor, self: Tensor, alpha: Any = 1, scale: Any = 1, input_scale: Any = 1) -> Gradients:
    """elu(Tensor self, Scalar alpha=1, Scalar scale=1, Scalar input_scale=1) -> Tensor"""
    slope = torch.exp(self * input_scale) * (input_scale * alpha * scale)
    return {"self": torch.where(self > 0, grad * scale, grad * slope)}


def celu(call: Call, grad: Tensor, self: Tensor, alpha: Any = 1.0) -> Gradients:
    """celu(Tensor self, Scalar alpha=1.0) -> Tensor"""
    return elu(call, grad, self, alpha, 1, 1 / alpha)


SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def selu(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """selu(Tensor self) -> Tensor"""
    return elu(call, grad, self, SELU_ALPHA, SELU_SCALE, 1)


def sigmoid(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """sigmoid(Tensor self) -> Tensor"""
    return {"self": grad * sigmoid_slope(self)}


def log_sigmoid(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """log_sigmoid(Tensor self) -> Tensor"""
    return {"self": grad * torch.sigmoid(-self)}


def tanh(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """tanh(Tensor self) -> Tensor"""
    return {"self": grad * tanh_slope(self)}


def silu(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """silu(Tensor self) -> Tensor"""
    gate = torch.sigmoid(self)
    return {"self": grad * (gate + call.output * (1 - gate))}


def gelu(call: Call, grad: Tensor, self: Tensor, approximate: str = "none") -> Gradients:
    """gelu(Tensor self, *, str approximate='none') -> Tensor"""
    if approximate == "tanh":
        inner = math.sqrt(2 / math.pi) * (self + 0.044715 * self * self * self)
        inner_slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * self * self)
        t = torch.tanh(inner)
        return {"self": grad * (0.5 * (1 + t) + 0.5 * self * (1 - t * t) * inner_slope)}
    cumulative = 0.5 * (1 + torch.erf(self * math.sqrt(0.5)))
    density = torch.exp(-0.5 * self * self) * (1 / math.sqrt(2 * math.pi))
    return {"self": grad * (cumulative + self * density)}


SIXTH = 0.1666666716337204  # ATen's gradient has 1/6 in single precision, whatever the dtype


def hardsigmoid(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """hardsigmoid(Tensor self) -> Tensor"""
    return {"self": mask(grad * SIXTH, (self > -3) & (self < 3))}


def hardswish(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """hardswish(Tensor self) -> Tensor"""
    # x/3 + 1/2 between -3 and 3 is twice the gate minus a half, so the gate alone gives all three pieces.
    gate = torch.nn.functional.hardsigmoid(self)
    return {"self": grad * (gate + mask(gate - 0.5, (gate > 0) & (gate < 1)))}


def softplus(call: Call, grad: Tensor, self: Tensor, beta: Any = 1, threshold: Any = 20) -> Gradients:
    """softplus(Tensor self, Scalar beta=1, Scalar threshold=20) -> Tensor"""
    scaled = self * beta
    return {"self": torch.where(scaled > threshold, grad, grad * torch.sigmoid(scaled))}


def softshrink(call: Call, grad: Tensor, self: Tensor, lambd: Any = 0.5) -> Gradients:
    """softshrink(Tensor self, Scalar lambd=0.5) -> Tensor"""
    return {"self": mask(grad, (self > lambd) | (self < -lambd))}


def mish(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """mish(Tensor self) -> Tensor"""
    t, gate = torch.tanh(torch.nn.functional.softplus(self)), torch.sigmoid(self)
    return {"self": grad * (t + self * gate * (1 - t * t))}


def glu(call: Call, grad: Tensor, self: Tensor, dim: int = -1) -> Gradients:
    """glu(Tensor self, int dim=-1) -> Tensor"""
    gate = torch.sigmoid(self.chunk(2, dim)[1])
    return {"self": torch.cat([grad * gate, grad * call.output * (1 - gate)], dim)}


def rrelu_in_evaluation(
    self: Tensor, lower: float = 0.125, upper: float = 1 / 3, training: bool = False, generator: Any = None
) -> Tensor:
    """``aten.rrelu``: in evaluation mode a leaky ReLU, which ONNX has. A random one stays and is refused."""
    if training:
        return torch.rrelu(self, lower, upper, training)
    return torch.nn.functional.leaky_relu(self, (lower + upper) / 2)


FORWARDS: Mapping[OpOverload, Callable[..., Tensor]] = {aten.rrelu.default: rrelu_in_evaluation}

TABLE: Mapping[OpOverload, Lowering] = {
    aten.relu.default: relu,
    aten.relu6.default: relu6,
    aten.hardtanh.default: hardtanh,
    aten.threshold.default: threshold,
    aten.leaky_relu.default: leaky_relu,
    aten.rrelu.default: rrelu,
    aten.prelu.default: prelu,
    aten.elu.default: elu,
    aten.celu.default: celu,
    aten.selu.default: selu,
    aten.sigmoid.default: sigmoid,
    aten.log_sigmoid.default: log_sigmoid,
    aten.tanh.default: tanh,
    aten.silu.default: silu,
    aten.gelu.default: gelu,
    aten.hardsigmoid.default: hardsigmoid,
    aten.hardswish.default: hardswish,
    aten.softplus.default: softplus,
    aten.softshrink.default: softshrink,
    aten.mish.default: mish,
    aten.glu.default: glu,
}
