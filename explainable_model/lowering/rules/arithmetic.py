"""Arithmetic, and the choice between two values."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from explainable_model.lowering.rules.call import Call, Gradients, Lowering
from explainable_model.lowering.shapes import unbroadcast

aten = torch.ops.aten


def mask(grad: Tensor, condition: Tensor) -> Tensor:
    """``grad`` where the condition holds, else zero: a product, which runtimes do faster than a selection."""
    return grad * condition.to(grad.dtype)


def _scale(grad: Tensor, factor: Any) -> Tensor:
    if factor == 1:
        return grad
    return -grad if factor == -1 else grad * factor


def _sum_for(call: Call, name: str, grad: Tensor, like: Any) -> Tensor | None:
    return unbroadcast(grad, like) if call.needs(name) else None


# Two operands


def add(call: Call, grad: Tensor, self: Tensor, other: Any, alpha: Any = 1) -> Gradients:
    """add.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor"""
    return {
        "self": _sum_for(call, "self", grad, self),
        "other": _sum_for(call, "other", _scale(grad, alpha), other),
    }


def sub(call: Call, grad: Tensor, self: Tensor, other: Any, alpha: Any = 1) -> Gradients:
    """sub.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor"""
    return {
        "self": _sum_for(call, "self", grad, self),
        "other": _sum_for(call, "other", _scale(grad, -alpha), other),
    }


def rsub(call: Call, grad: Tensor, self: Tensor, other: Any, alpha: Any = 1) -> Gradients:
    """rsub.Scalar(Tensor self, Scalar other, Scalar alpha=1) -> Tensor"""
    return {
        "self": _sum_for(call, "self", _scale(grad, -alpha), self),
        "other": _sum_for(call, "other", grad, other),
    }


def mul(call: Call, grad: Tensor, self: Tensor, other: Any) -> Gradients:
    """mul.Tensor(Tensor self, Tensor other) -> Tensor"""
    return {
        "self": unbroadcast(grad * _conjugate(other), self) if call.needs("self") else None,
        "other": unbroadcast(grad * _conjugate(self), other) if call.needs("other") else None,
    }


def _conjugate(factor: Any) -> Any:
    if isinstance(factor, complex):
        return factor.conjugate()
    if not isinstance(factor, Tensor) or not factor.is_complex():
        return factor
    real, imaginary = torch.view_as_real(factor).unbind(-1)
    return torch.complex(real, -imaginary)


def div(call: Call, grad: Tensor, self: Tensor, other: Any) -> Gradients:
    """div.Tensor(Tensor self, Tensor other) -> Tensor"""
    by_other = grad / other
    return {
        "self": _sum_for(call, "self", by_other, self),
        "other": unbroadcast(-by_other * call.output, other) if call.needs("other") else None,
    }


def remainder(call: Call, grad: Tensor, self: Tensor, other: Any) -> Gradients:
    """remainder.Scalar(Tensor self, Scalar other) -> Tensor; fmod alike"""
    return {"self": grad}


def addcmul(call: Call, grad: Tensor, self: Tensor, tensor1: Tensor, tensor2: Tensor, value: Any = 1) -> Gradients:
    """addcmul(Tensor self, Tensor tensor1, Tensor tensor2, *, Scalar value=1) -> Tensor"""
    product = _scale(grad, value)
    return {
        "self": _sum_for(call, "self", grad, self),
        "tensor1": unbroadcast(product * tensor2, tensor1) if call.needs("tensor1") else None,
        "tensor2": unbroadcast(product * tensor1, tensor2) if call.needs("tensor2") else None,
    }


def addcdiv(call: Call, grad: Tensor, self: Tensor, tensor1: Tensor, tensor2: Tensor, value: Any = 1) -> Gradients:
    """addcdiv(Tensor self, Tensor tensor1, Tensor tensor2, *, Scalar value=1) -> Tensor"""
    quotient = _scale(grad, value) / tensor2
    return {
        "self": _sum_for(call, "self", grad, self),
        "tensor1": _sum_for(call, "tensor1", quotient, tensor1),
        "tensor2": unbroadcast(-quotient * tensor1 / tensor2, tensor2) if call.needs("tensor2") else None,
    }


def lerp_scalar(call: Call, grad: Tensor, self: Tensor, end: Tensor, weight: Any) -> Gradients:
    """lerp.Scalar(Tensor self, Tensor end, Scalar weight) -> Tensor"""
    return {
        "self": _sum_for(call, "self", grad * (1 - weight), self),
        "end": _sum_for(call, "end", grad * weight, end),
    }


def atan2(call: Call, grad: Tensor, self: Tensor, other: Tensor) -> Gradients:
    """atan2(Tensor self, Tensor other) -> Tensor"""
    share = grad / (self * self + other * other)
    return {
        "self": unbroadcast(share * other, self) if call.needs("self") else None,
        "other": unbroadcast(-share * self, other) if call.needs("other") else None,
    }


def hypot(call: Call, grad: Tensor, self: Tensor, other: Tensor) -> Gradients:
    """hypot(Tensor self, Tensor other) -> Tensor"""
    share = grad / call.output
    return {
        "self": unbroadcast(share * self, self) if call.needs("self") else None,
        "other": unbroadcast(share * other, other) if call.needs("other") else None,
    }


# Powers


def power(call: Call, grad: Tensor, self: Tensor, exponent: Any) -> Gradients:
    """pow.Tensor_Scalar(Tensor self, Scalar exponent) -> Tensor"""
    if exponent == 0:
        return {"self": None}
    slope = self if exponent == 2 else torch.pow(self, exponent - 1)
    return {"self": grad * (slope * exponent)}


def power_of_number(call: Call, grad: Tensor, self: Any, exponent: Tensor) -> Gradients:
    """pow.Scalar(Scalar self, Tensor exponent) -> Tensor"""
    return {"exponent": grad * call.output * math.log(self) if self > 0 else None}


def power_tensor(call: Call, grad: Tensor, self: Tensor, exponent: Tensor) -> Gradients:
    """pow.Tensor_Tensor(Tensor self, Tensor exponent) -> Tensor"""
    at_self = at_exponent = None
    if call.needs("self"):
        slope = torch.where(exponent == 0, 0.0, exponent * torch.pow(self, exponent - 1))
        at_self = unbroadcast(grad * slope, self)
    if call.needs("exponent"):
        slope = torch.where((self == 0) & (exponent >= 0), 0.0, call.output * torch.log(self))
        at_exponent = unbroadcast(grad * slope, exponent)
    return {"self": at_self, "exponent": at_exponent}


def square(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """square(Tensor self) -> Tensor"""
    return {"self": grad * (self * 2)}


# Choosing one of two values


def where(call: Call, grad: Tensor, condition: Tensor, self: Any, other: Any) -> Gradients:
    """where.self(Tensor condition, Tensor self, Tensor other) -> Tensor; either may be a number"""
    return {
        "self": unbroadcast(torch.where(condition, grad, 0.0), self) if call.needs("self") else None,
        "other": unbroadcast(torch.where(condition, 0.0, grad), other) if call.needs("other") else None,
    }


def masked_fill(call: Call, grad: Tensor, self: Tensor, mask: Tensor, value: Any) -> Gradients:
    """masked_fill.Scalar(Tensor self, Tensor mask, Scalar value) -> Tensor"""
    return {
        "self": unbroadcast(torch.where(mask, 0.0, grad), self) if call.needs("self") else None,
        "value": unbroadcast(torch.where(mask, grad, 0.0), value) if call.needs("value") else None,
    }


def maximum(call: Call, grad: Tensor, self: Tensor, other: Tensor) -> Gradients:
    """maximum(Tensor self, Tensor other) -> Tensor"""
    share, rest = _share(grad, self, other, self > other)
    return {"self": _sum_for(call, "self", share, self), "other": _sum_for(call, "other", rest, other)}


def minimum(call: Call, grad: Tensor, self: Tensor, other: Tensor) -> Gradients:
    """minimum(Tensor self, Tensor other) -> Tensor"""
    share, rest = _share(grad, self, other, self < other)
    return {"self": _sum_for(call, "self", share, self), "other": _sum_for(call, "other", rest, other)}


def _share(grad: Tensor, self: Tensor, other: Tensor, wins: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient where ``self`` wins, and the rest; ties are halved."""
    share = torch.where(self == other, grad * 0.5, torch.where(wins, grad, 0.0))
    return share, grad - share


def clamp(call: Call, grad: Tensor, self: Tensor, min: Any = None, max: Any = None) -> Gradients:
    """clamp(Tensor self, Scalar? min=None, Scalar? max=None) -> Tensor; clamp_min and clamp_max alike"""
    if min is not None:
        grad = mask(grad, self > min)
    return {"self": grad if max is None else mask(grad, self < max)}


def clamp_tensor(
    call: Call, grad: Tensor, self: Tensor, min: Tensor | None = None, max: Tensor | None = None
) -> Gradients:
    """clamp.Tensor(Tensor self, Tensor? min=None, Tensor? max=None) -> Tensor; clamp_min.Tensor and clamp_max.Tensor
    alike
    """
    # The maximum with the lower limit, then the minimum with the upper one; ties are halved at each, as in
    # PyTorch 2.15 (2.11 passes the whole gradient at a limit).
    raised = self if min is None else torch.maximum(self, min)
    at_min = at_max = None
    if max is not None:
        grad, rest = _share(grad, raised, max, raised < max)
        at_max = _sum_for(call, "max", rest, max)
    if min is not None:
        grad, rest = _share(grad, self, min, self > min)
        at_min = _sum_for(call, "min", rest, min)
    return {"self": _sum_for(call, "self", grad, self), "min": at_min, "max": at_max}


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
    aten.remainder.Scalar: remainder,
    aten.fmod.Scalar: remainder,
    aten.addcmul.default: addcmul,
    aten.addcdiv.default: addcdiv,
    aten.lerp.Scalar: lerp_scalar,
    aten.atan2.default: atan2,
    aten.hypot.default: hypot,
    aten.pow.Tensor_Scalar: power,
    aten.pow.Scalar: power_of_number,
    aten.pow.Tensor_Tensor: power_tensor,
    aten.square.default: square,
    aten.where.self: where,
    aten.where.ScalarSelf: where,
    aten.where.ScalarOther: where,
    aten.masked_fill.Scalar: masked_fill,
    aten.masked_fill.Tensor: masked_fill,
    aten.maximum.default: maximum,
    aten.minimum.default: minimum,
    aten.clamp.default: clamp,
    aten.clamp.Tensor: clamp_tensor,
    aten.clamp_min.default: clamp,
    aten.clamp_min.Tensor: clamp_tensor,
    aten.clamp_max.default: clamp,
    aten.clamp_max.Tensor: clamp_tensor,
}
