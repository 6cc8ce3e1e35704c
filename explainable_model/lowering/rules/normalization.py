"""Normalisation over channels, groups or the last dimensions, and softmax."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from explainable_model.errors import LoweringError
from explainable_model.lowering.call import Call, Gradients, Lowering
from explainable_model.lowering.shapes import shape_of

aten = torch.ops.aten


def batch_norm(
    call: Call, grad: Tensor, input: Tensor, weight: Tensor | None, bias: Tensor | None,
    running_mean: Tensor | None, running_var: Tensor | None, training: bool,
    momentum: float, eps: float, cudnn_enabled: bool,
) -> Gradients:  # fmt: skip
    """batch_norm(Tensor input, Tensor? weight, Tensor? bias, Tensor? running_mean, Tensor? running_var,
    bool training, float momentum, float eps, bool cudnn_enabled) -> Tensor
    """
    if training or running_var is None:
        raise LoweringError("a batch norm that uses the batch's own statistics is not a function of one image")
    scale = torch.rsqrt(running_var + eps)
    scale = scale if weight is None else scale * weight
    return {"input": grad * scale.reshape(1, -1, *[1] * (input.ndim - 2))}


def layer_norm(
    call: Call, grad: Tensor, input: Tensor, normalized_shape: Sequence[int],
    weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5, cudnn_enable: bool = True,
) -> Gradients:  # fmt: skip
    """layer_norm(Tensor input, SymInt[] normalized_shape, Tensor? weight=None, Tensor? bias=None,
    float eps=1e-05, bool cudnn_enable=True) -> Tensor
    """
    dims = list(range(input.ndim - len(normalized_shape), input.ndim))
    return {"input": _standardized(grad if weight is None else grad * weight, input, dims, eps)}


def _standardized(grad: Tensor, input: Tensor, dims: Sequence[int], eps: float) -> Tensor:
    """Gradient of ``(input - mean) / sqrt(var + eps)``."""
    centered = input - input.mean(dims, keepdim=True)
    inverse = torch.rsqrt((centered * centered).mean(dims, keepdim=True) + eps)
    normal = centered * inverse
    along = (grad * normal).mean(dims, keepdim=True)
    return inverse * (grad - grad.mean(dims, keepdim=True) - normal * along)


def group_norm(
    call: Call, grad: Tensor, input: Tensor, num_groups: int, weight: Tensor | None = None,
    bias: Tensor | None = None, eps: float = 1e-5, cudnn_enabled: bool = True,
) -> Gradients:  # fmt: skip
    """group_norm(Tensor input, int num_groups, Tensor? weight=None, Tensor? bias=None, float eps=1e-05,
    bool cudnn_enabled=True) -> Tensor
    """
    channels, spatial = input.shape[1], input.shape[2:]
    grouped = [-1, num_groups, channels // num_groups * math.prod(spatial)]
    if weight is not None:
        grad = grad * weight.reshape(1, -1, *[1] * len(spatial))
    gradient = _standardized(grad.reshape(grouped), input.reshape(grouped), [2], eps)
    return {"input": gradient.reshape(shape_of(input))}


def instance_norm(
    call: Call, grad: Tensor, input: Tensor, weight: Tensor | None, bias: Tensor | None,
    running_mean: Tensor | None, running_var: Tensor | None, use_input_stats: bool,
    momentum: float, eps: float, cudnn_enabled: bool,
) -> Gradients:  # fmt: skip
    """instance_norm(Tensor input, Tensor? weight, Tensor? bias, Tensor? running_mean, Tensor? running_var,
    bool use_input_stats, float momentum, float eps, bool cudnn_enabled) -> Tensor
    """
    if not use_input_stats:
        return batch_norm(
            call, grad, input, weight, bias, running_mean, running_var, False, momentum, eps, cudnn_enabled
        )
    if weight is not None:
        grad = grad * weight.reshape(1, -1, *[1] * (input.ndim - 2))
    return {"input": _standardized(grad, input, list(range(2, input.ndim)), eps)}


def rms_norm(
    call: Call, grad: Tensor, input: Tensor, normalized_shape: Sequence[int],
    weight: Tensor | None = None, eps: float | None = None,
) -> Gradients:  # fmt: skip
    """rms_norm(Tensor input, SymInt[] normalized_shape, Tensor? weight=None, float? eps=None) -> Tensor"""
    dims = list(range(input.ndim - len(normalized_shape), input.ndim))
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    inverse = torch.rsqrt((input * input).mean(dims, keepdim=True) + eps)
    grad = grad if weight is None else grad * weight
    along = (grad * input).mean(dims, keepdim=True)
    return {"input": inverse * (grad - input * inverse * inverse * along)}


def softmax(call: Call, grad: Tensor, self: Tensor, dim: int, **_: Any) -> Gradients:
    """softmax.int(Tensor self, int dim, ScalarType? dtype=None) -> Tensor; _softmax alike"""
    along = (grad * call.output).sum(dim, keepdim=True)
    return {"self": (call.output * (grad - along)).to(self.dtype)}


def log_softmax(call: Call, grad: Tensor, self: Tensor, dim: int, **_: Any) -> Gradients:
    """log_softmax.int(Tensor self, int dim, ScalarType? dtype=None) -> Tensor; _log_softmax alike"""
    return {"self": (grad - torch.exp(call.output) * grad.sum(dim, keepdim=True)).to(self.dtype)}


TABLE: Mapping[OpOverload, Lowering] = {
    aten.batch_norm.default: batch_norm,
    aten.layer_norm.default: layer_norm,
    aten.group_norm.default: group_norm,
    aten.instance_norm.default: instance_norm,
    aten.rms_norm.default: rms_norm,
    aten.softmax.int: softmax,
    aten._softmax.default: softmax,
    aten.log_softmax.int: log_softmax,
    aten._log_softmax.default: log_softmax,
}
