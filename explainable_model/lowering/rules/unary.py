"""Mathematical functions of one tensor, copies, and operators without a gradient."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from explainable_model.errors import LoweringError
from explainable_model.lowering.rules.arithmetic import div
from explainable_model.lowering.rules.call import Call, Gradients, Lowering
from explainable_model.lowering.shapes import cast

aten = torch.ops.aten


def neg(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """neg(Tensor self) -> Tensor"""
    return {"self": -grad}


def absolute(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """abs(Tensor self) -> Tensor"""
    if self.is_complex():
        direction = torch.where(call.output == 0, 0.0, grad / call.output)
        return {"self": torch.view_as_complex(torch.view_as_real(self) * direction.unsqueeze(-1))}
    return {"self": grad * torch.sign(self)}


def reciprocal(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """reciprocal(Tensor self) -> Tensor"""
    return {"self": -grad * call.output * call.output}


def exp(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """exp(Tensor self) -> Tensor"""
    return {"self": grad * call.output}


def exp2(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """exp2(Tensor self) -> Tensor"""
    return {"self": grad * (call.output * math.log(2))}


def expm1(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """expm1(Tensor self) -> Tensor"""
    return {"self": grad * (call.output + 1)}


def log(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """log(Tensor self) -> Tensor"""
    return {"self": grad / self}


def log2(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """log2(Tensor self) -> Tensor"""
    return {"self": grad / (self * math.log(2))}


def log10(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """log10(Tensor self) -> Tensor"""
    return {"self": grad / (self * math.log(10))}


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


def tangent(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """tan(Tensor self) -> Tensor"""
    return {"self": grad * (call.output * call.output + 1)}


def arc_tangent(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """atan(Tensor self) -> Tensor"""
    return {"self": grad / (self * self + 1)}


def arc_sine(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """asin(Tensor self) -> Tensor"""
    return {"self": grad * torch.rsqrt(1 - self * self)}


def arc_cosine(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """acos(Tensor self) -> Tensor"""
    return {"self": -grad * torch.rsqrt(1 - self * self)}


def hyperbolic_sine(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """sinh(Tensor self) -> Tensor"""
    return {"self": grad * torch.cosh(self)}


def hyperbolic_cosine(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """cosh(Tensor self) -> Tensor"""
    return {"self": grad * torch.sinh(self)}


def inverse_hyperbolic_sine(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """asinh(Tensor self) -> Tensor"""
    return {"self": grad * torch.rsqrt(self * self + 1)}


def inverse_hyperbolic_cosine(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """acosh(Tensor self) -> Tensor"""
    return {"self": grad * torch.rsqrt(self * self - 1)}


def inverse_hyperbolic_tangent(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """atanh(Tensor self) -> Tensor"""
    return {"self": grad / (1 - self * self)}


def logit(call: Call, grad: Tensor, self: Tensor, eps: float | None = None) -> Gradients:
    """logit(Tensor self, float? eps=None) -> Tensor"""
    if eps is None:
        return {"self": grad / (self * (1 - self))}
    inside = self.clamp(eps, 1 - eps)  # a mask times an infinite slope would not be zero
    outside = (self < eps) | (self > 1 - eps)
    return {"self": torch.where(outside, 0.0, grad / (inside * (1 - inside)))}


def erf(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """erf(Tensor self) -> Tensor"""
    return {"self": grad * (2 / math.sqrt(math.pi)) * torch.exp(-self * self)}


# Copies and conversions


def convert(call: Call, grad: Tensor, self: Tensor, **_: Any) -> Gradients:
    """_to_copy(Tensor self, *, ScalarType? dtype=None, ...) -> Tensor; to.dtype, type_as alike"""
    return {"self": cast(grad, self), "other": None}  # of another tensor only the dtype is read


def identity(call: Call, grad: Tensor, self: Tensor, **_: Any) -> Gradients:
    """clone(Tensor self, *, MemoryFormat? memory_format=None) -> Tensor; alias, contiguous, lift_fresh_copy alike"""
    return {"self": grad}


def dropout(call: Call, grad: Tensor, input: Tensor, p: float, train: bool) -> Gradients:
    """dropout(Tensor input, float p, bool train) -> Tensor"""
    if train:
        raise LoweringError("a dropout in training mode is random; call .eval() on the network")
    return {"input": grad}


def divide_and_round(call: Call, grad: Tensor, self: Tensor, other: Any, rounding_mode: str | None = None) -> Gradients:
    """div.Tensor_mode(Tensor self, Tensor other, *, str? rounding_mode) -> Tensor"""
    return step(call, grad) if rounding_mode else div(call, grad, self, other)


def step(call: Call, grad: Tensor, **_: Any) -> Gradients:
    """floor(Tensor self) -> Tensor; ceil, round, trunc, sign, fill, zeros_like,
    ones_like, full_like, new_zeros, new_ones and new_full alike: their gradient is zero
    """
    return dict.fromkeys(call.needed)


TABLE: Mapping[OpOverload, Lowering] = {
    aten.neg.default: neg,
    aten.abs.default: absolute,
    aten.reciprocal.default: reciprocal,
    aten.exp.default: exp,
    aten.exp2.default: exp2,
    aten.expm1.default: expm1,
    aten.log.default: log,
    aten.log2.default: log2,
    aten.log10.default: log10,
    aten.log1p.default: log1p,
    aten.sqrt.default: sqrt,
    aten.rsqrt.default: rsqrt,
    aten.sin.default: sine,
    aten.cos.default: cosine,
    aten.tan.default: tangent,
    aten.atan.default: arc_tangent,
    aten.asin.default: arc_sine,
    aten.acos.default: arc_cosine,
    aten.sinh.default: hyperbolic_sine,
    aten.cosh.default: hyperbolic_cosine,
    aten.asinh.default: inverse_hyperbolic_sine,
    aten.acosh.default: inverse_hyperbolic_cosine,
    aten.atanh.default: inverse_hyperbolic_tangent,
    aten.logit.default: logit,
    aten.erf.default: erf,
    aten._to_copy.default: convert,
    aten.to.dtype: convert,
    aten.to.dtype_layout: convert,
    aten.type_as.default: convert,
    aten.clone.default: identity,
    aten.alias.default: identity,
    aten.contiguous.default: identity,
    aten.lift_fresh_copy.default: identity,
    aten.dropout.default: dropout,
    aten.floor.default: step,
    aten.ceil.default: step,
    aten.round.default: step,
    aten.trunc.default: step,
    aten.sign.default: step,
    aten.div.Tensor_mode: divide_and_round,
    aten.div.Scalar_mode: divide_and_round,
    aten.fill.Scalar: step,
    aten.zeros_like.default: step,
    aten.ones_like.default: step,
    aten.full_like.default: step,
    aten.new_zeros.default: step,
    aten.new_ones.default: step,
    aten.new_full.default: step,
}
