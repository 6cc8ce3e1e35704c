"""Operators that work on each element: arithmetic and activation functions."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from explainable_model.errors import LoweringError
from explainable_model.lowering.call import Call, Gradients, Lowering
from explainable_model.lowering.shapes import unbroadcast

aten = torch.ops.aten


def mask(grad: Tensor, condition: Tensor) -> Tensor:
    """``grad`` where the condition holds, else zero: a product, which runtimes do faster than a selection."""
    return grad * condition.to(grad.dtype)


# Arithmetic


def add(call: Call, grad: Tensor, self: Tensor, other: Any, alpha: Any = 1) -> Gradients:
    """add.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor"""
    return {"self": _summed(call, "self", grad, self), "other": _summed(call, "other", _scaled(grad, alpha), other)}


def sub(call: Call, grad: Tensor, self: Tensor, other: Any, alpha: Any = 1) -> Gradients:
    """sub.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor"""
    return {"self": _summed(call, "self", grad, self), "other": _summed(call, "other", _scaled(grad, -alpha), other)}


def rsub(call: Call, grad: Tensor, self: Tensor, other: Any, alpha: Any = 1) -> Gradients:
    """rsub.Scalar(Tensor self, Scalar other, Scalar alpha=1) -> Tensor"""
    return {"self": _summed(call, "self", _scaled(grad, -alpha), self), "other": _summed(call, "other", grad, other)}


def mul(call: Call, grad: Tensor, self: Tensor, other: Any) -> Gradients:
    """mul.Tensor(Tensor self, Tensor other) -> Tensor"""
    return {
        "self": unbroadcast(grad * other, self) if call.needs("self") else None,
        "other": unbroadcast(grad * self, other) if call.needs("other") else None,
    }


def div(call: Call, grad: Tensor, self: Tensor, other: Any) -> Gradients:
    """div.Tensor(Tensor self, Tensor other) -> Tensor"""
    by_other = grad / other
    return {
        "self": unbroadcast(by_other, self) if call.needs("self") else None,
        "other": unbroadcast(-by_other * call.output, other) if call.needs("other") else None,
    }


def addcmul(call: Call, grad: Tensor, self: Tensor, tensor1: Tensor, tensor2: Tensor, value: Any = 1) -> Gradients:
    """addcmul(Tensor self, Tensor tensor1, Tensor tensor2, *, Scalar value=1) -> Tensor"""
    product = _scaled(grad, value)
    return {
        "self": _summed(call, "self", grad, self),
        "tensor1": unbroadcast(product * tensor2, tensor1) if call.needs("tensor1") else None,
        "tensor2": unbroadcast(product * tensor1, tensor2) if call.needs("tensor2") else None,
    }


def addcdiv(call: Call, grad: Tensor, self: Tensor, tensor1: Tensor, tensor2: Tensor, value: Any = 1) -> Gradients:
    """addcdiv(Tensor self, Tensor tensor1, Tensor tensor2, *, Scalar value=1) -> Tensor"""
    quotient = _scaled(grad, value) / tensor2
    return {
        "self": _summed(call, "self", grad, self),
        "tensor1": unbroadcast(quotient, tensor1) if call.needs("tensor1") else None,
        "tensor2": unbroadcast(-quotient * tensor1 / tensor2, tensor2) if call.needs("tensor2") else None,
    }


def lerp_scalar(call: Call, grad: Tensor, self: Tensor, end: Tensor, weight: Any) -> Gradients:
    """lerp.Scalar(Tensor self, Tensor end, Scalar weight) -> Tensor"""
    return {
        "self": _summed(call, "self", grad * (1 - weight), self),
        "end": _summed(call, "end", grad * weight, end),
    }


def neg(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """neg(Tensor self) -> Tensor"""
    return {"self": -grad}


def absolute(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """abs(Tensor self) -> Tensor"""
    return {"self": grad * torch.sign(self)}


def reciprocal(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """reciprocal(Tensor self) -> Tensor"""
    return {"self": -grad * call.output * call.output}


def exp(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """exp(Tensor self) -> Tensor"""
    return {"self": grad * call.output}


def log(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """log(Tensor self) -> Tensor"""
    return {"self": grad / self}


def log1p(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """log1p(Tensor self) -> Tensor"""
    return {"self": grad / (self + 1)}


def sqrt(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """sqrt(Tensor self) -> Tensor"""
    return {"self": grad * 0.5 / call.output}


def rsqrt(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """rsqrt(Tensor self) -> Tensor"""
    return {"self": grad * -0.5 * call.output / self}


def sine(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """sin(Tensor self) -> Tensor"""
    return {"self": grad * torch.cos(self)}


def cosine(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """cos(Tensor self) -> Tensor"""
    return {"self": -grad * torch.sin(self)}


def erf(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """erf(Tensor self) -> Tensor"""
    return {"self": grad * (2 / math.sqrt(math.pi)) * torch.exp(-self * self)}


def power(call: Call, grad: Tensor, self: Tensor, exponent: Any) -> Gradients:
    """pow.Tensor_Scalar(Tensor self, Scalar exponent) -> Tensor"""
    if exponent == 0:
        return {"self": torch.zeros_like(grad)}
    slope = self if exponent == 2 else torch.pow(self, exponent - 1)
    return {"self": grad * (slope * exponent)}


# Choosing one of two values


def where(call: Call, grad: Tensor, condition: Tensor, self: Tensor, other: Tensor) -> Gradients:
    """where.self(Tensor condition, Tensor self, Tensor other) -> Tensor"""
    return {
        "self": unbroadcast(torch.where(condition, grad, 0.0), self) if call.needs("self") else None,
        "other": unbroadcast(torch.where(condition, 0.0, grad), other) if call.needs("other") else None,
    }


def masked_fill(call: Call, grad: Tensor, self: Tensor, mask: Tensor, value: Any) -> Gradients:
    """masked_fill.Scalar(Tensor self, Tensor mask, Scalar value) -> Tensor"""
    return {"self": unbroadcast(torch.where(mask, 0.0, grad), self)}


def maximum(call: Call, grad: Tensor, self: Tensor, other: Tensor) -> Gradients:
    """maximum(Tensor self, Tensor other) -> Tensor"""
    return _split_extremum(call, grad, self, other, self > other)


def minimum(call: Call, grad: Tensor, self: Tensor, other: Tensor) -> Gradients:
    """minimum(Tensor self, Tensor other) -> Tensor"""
    return _split_extremum(call, grad, self, other, self < other)


def _split_extremum(call: Call, grad: Tensor, self: Tensor, other: Tensor, wins: Tensor) -> Gradients:
    share = torch.where(self == other, grad * 0.5, torch.where(wins, grad, 0.0))  # ties are halved
    return {
        "self": _summed(call, "self", share, self),
        "other": _summed(call, "other", grad - share, other),
    }


def clamp(call: Call, grad: Tensor, self: Tensor, min: Any = None, max: Any = None) -> Gradients:
    """clamp(Tensor self, Scalar? min=None, Scalar? max=None) -> Tensor"""
    if min is not None:
        grad = mask(grad, self >= min)
    return {"self": grad if max is None else mask(grad, self <= max)}


def clamp_min(call: Call, grad: Tensor, self: Tensor, min: Any) -> Gradients:
    """clamp_min(Tensor self, Scalar min) -> Tensor"""
    return {"self": mask(grad, self >= min)}


def clamp_max(call: Call, grad: Tensor, self: Tensor, max: Any) -> Gradients:
    """clamp_max(Tensor self, Scalar max) -> Tensor"""
    return {"self": mask(grad, self <= max)}


# Activation functions


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


def prelu(call: Call, grad: Tensor, self: Tensor, weight: Tensor) -> Gradients:
    """prelu(Tensor self, Tensor weight) -> Tensor"""
    slope = weight.reshape(1, -1, *[1] * (self.ndim - 2)) if self.ndim > 1 else weight
    return {"self": torch.where(self > 0, grad, grad * slope)}


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
    return {"self": grad * (call.output * (1 - call.output))}


def log_sigmoid(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """log_sigmoid(Tensor self) -> Tensor"""
    return {"self": grad * torch.sigmoid(-self)}


def tanh(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """tanh(Tensor self) -> Tensor"""
    return {"self": grad * (1 - call.output * call.output)}


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


def hardsigmoid(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """hardsigmoid(Tensor self) -> Tensor"""
    return {"self": mask(grad * (1 / 6), (self > -3) & (self < 3))}


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
    value, control = self.chunk(2, dim)
    gate = torch.sigmoid(control)
    return {"self": torch.cat([grad * gate, grad * call.output * (1 - gate)], dim)}


# Copies and conversions


def convert(call: Call, grad: Tensor, self: Tensor, **_: Any) -> Gradients:
    """_to_copy(Tensor self, *, ScalarType? dtype=None, ...) -> Tensor; to.dtype, type_as alike"""
    return {"self": grad.to(self.dtype)}


def identity(call: Call, grad: Tensor, self: Tensor, **_: Any) -> Gradients:
    """clone(Tensor self, *, MemoryFormat? memory_format=None) -> Tensor; alias, contiguous alike"""
    return {"self": grad}


def dropout(call: Call, grad: Tensor, input: Tensor, p: float, train: bool) -> Gradients:
    """dropout(Tensor input, float p, bool train) -> Tensor"""
    if train:
        raise LoweringError("a dropout in training mode is random; call .eval() on the network")
    return {"input": grad}


def _scaled(grad: Tensor, factor: Any) -> Tensor:
    if factor == 1:
        return grad
    return -grad if factor == -1 else grad * factor


def _summed(call: Call, name: str, grad: Tensor, like: Any) -> Tensor | None:
    return unbroadcast(grad, like) if call.needs(name) else None


TABLE: Mapping[OpOverload, Lowering] = {
    aten.add.Tensor: add,
    aten.add.Scalar: add,
    aten.sub.Tensor: sub,
    aten.sub.Scalar: sub,
    aten.rsub.Scalar: rsub,
    aten.rsub.Tensor: rsub,
    aten.mul.Tensor: mul,
    aten.mul.Scalar: mul,
    aten.div.Tensor: div,
    aten.div.Scalar: div,
    aten.addcmul.default: addcmul,
    aten.addcdiv.default: addcdiv,
    aten.lerp.Scalar: lerp_scalar,
    aten.neg.default: neg,
    aten.abs.default: absolute,
    aten.reciprocal.default: reciprocal,
    aten.exp.default: exp,
    aten.log.default: log,
    aten.log1p.default: log1p,
    aten.sqrt.default: sqrt,
    aten.rsqrt.default: rsqrt,
    aten.sin.default: sine,
    aten.cos.default: cosine,
    aten.erf.default: erf,
    aten.pow.Tensor_Scalar: power,
    aten.where.self: where,
    aten.masked_fill.Scalar: masked_fill,
    aten.masked_fill.Tensor: masked_fill,
    aten.maximum.default: maximum,
    aten.minimum.default: minimum,
    aten.clamp.default: clamp,
    aten.clamp_min.default: clamp_min,
    aten.clamp_max.default: clamp_max,
    aten.relu.default: relu,
    aten.relu6.default: relu6,
    aten.hardtanh.default: hardtanh,
    aten.threshold.default: threshold,
    aten.leaky_relu.default: leaky_relu,
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
    aten._to_copy.default: convert,
    aten.to.dtype: convert,
    aten.to.dtype_layout: convert,
    aten.type_as.default: convert,
    aten.clone.default: identity,
    aten.alias.default: identity,
    aten.contiguous.default: identity,
    aten.lift_fresh_copy.default: identity,
    aten.dropout.default: dropout,
}
