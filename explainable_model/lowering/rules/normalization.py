"""Normalization over channels, groups or the last dimensions, and softmax."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from explainable_model.attribution.saturation import is_attention, log_softmax_gradient, shifted
from explainable_model.errors import LoweringError
from explainable_model.lowering.rules.call import Call, Gradients, Lowering
from explainable_model.lowering.shapes import cast, shape_of

aten = torch.ops.aten


def batch_norm(
    call: Call, grad: Tensor, input: Tensor, weight: Tensor | None, bias: Tensor | None,
    running_mean: Tensor | None, running_var: Tensor | None, training: bool,
    momentum: float, eps: float, cudnn_enabled: bool = True,
) -> Gradients:  # fmt: skip
    """batch_norm(Tensor input, Tensor? weight, Tensor? bias, Tensor? running_mean, Tensor? running_var,
    bool training, float momentum, float eps, bool cudnn_enabled) -> Tensor
    """
    if training or running_mean is None or running_var is None:
        raise LoweringError("a batch norm that uses the batch's own statistics is not a function of one image")
    inverse = torch.rsqrt(running_var + eps)
    scale = inverse if weight is None else inverse * weight
    normal = None
    if call.needs("weight"):
        normal = (input - _per_channel(running_mean, input)) * _per_channel(inverse, input)
    at_input = cast(grad * _per_channel(scale, input), input)
    return {"input": at_input, **_affine(call, grad, normal, _all_but_channels(input), weight, bias)}


def _per_channel(values: Tensor, input: Tensor) -> Tensor:
    return values.reshape(1, -1, *[1] * (input.ndim - 2))


def _all_but_channels(input: Tensor) -> list[int]:
    return [0, *range(2, input.ndim)]


def _affine(
    call: Call, grad: Tensor, normal: Tensor | None, dims: list[int], weight: Tensor | None, bias: Tensor | None
) -> dict[str, Tensor | None]:
    """Gradients of the scale and shift of normalized values, for a network that makes them from the image."""
    at_weight = at_bias = None
    if call.needs("weight") and weight is not None and normal is not None:
        at_weight = cast((grad * normal).sum(dims), weight)
    if call.needs("bias") and bias is not None:
        at_bias = cast(grad.sum(dims), bias)
    return {"weight": at_weight, "bias": at_bias}


def _standardize(input: Tensor, dims: list[int], eps: float) -> tuple[Tensor, Tensor]:
    """``(input - mean) / sqrt(var + eps)``, and the divisor's inverse."""
    centered = input - input.mean(dims, keepdim=True)
    inverse = torch.rsqrt((centered * centered).mean(dims, keepdim=True) + eps)
    return centered * inverse, inverse


def _differentiate_standardized(grad: Tensor, normal: Tensor, inverse: Tensor, dims: list[int]) -> Tensor:
    along = (grad * normal).mean(dims, keepdim=True)
    return inverse * (grad - grad.mean(dims, keepdim=True) - normal * along)


def layer_norm(
    call: Call, grad: Tensor, input: Tensor, normalized_shape: Sequence[int],
    weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5, cudnn_enable: bool = True,
) -> Gradients:  # fmt: skip
    """layer_norm(Tensor input, SymInt[] normalized_shape, Tensor? weight=None, Tensor? bias=None,
    float eps=1e-05, bool cudnn_enable=True) -> Tensor
    """
    outer = input.ndim - len(normalized_shape)
    dims = list(range(outer, input.ndim))
    normal, inverse = _standardize(input, dims, eps)
    at_input = _differentiate_standardized(grad if weight is None else grad * weight, normal, inverse, dims)
    return {"input": at_input, **_affine(call, grad, normal, list(range(outer)), weight, bias)}


def group_norm(
    call: Call, grad: Tensor, input: Tensor, num_groups: int, weight: Tensor | None = None,
    bias: Tensor | None = None, eps: float = 1e-5, cudnn_enabled: bool = True,
) -> Gradients:  # fmt: skip
    """group_norm(Tensor input, int num_groups, Tensor? weight=None, Tensor? bias=None, float eps=1e-05,
    bool cudnn_enabled=True) -> Tensor
    """
    shape, grouped = shape_of(input), [-1, num_groups, math.prod(input.shape[1:]) // num_groups]
    normal, inverse = _standardize(input.reshape(grouped), [2], eps)
    scaled = grad if weight is None else grad * _per_channel(weight, input)
    at_input = _differentiate_standardized(scaled.reshape(grouped), normal, inverse, [2]).reshape(shape)
    return {
        "input": at_input,
        **_affine(call, grad, normal.reshape(shape), _all_but_channels(input), weight, bias),
    }


def instance_norm(
    call: Call, grad: Tensor, input: Tensor, weight: Tensor | None, bias: Tensor | None,
    running_mean: Tensor | None, running_var: Tensor | None, use_input_stats: bool,
    momentum: float, eps: float, cudnn_enabled: bool,
) -> Gradients:  # fmt: skip
    """instance_norm(Tensor input, Tensor? weight, Tensor? bias, Tensor? running_mean, Tensor? running_var,
    bool use_input_stats, float momentum, float eps, bool cudnn_enabled) -> Tensor
    """
    if not use_input_stats:
        return batch_norm(call, grad, input, weight, bias, running_mean, running_var, False, momentum, eps)
    dims = list(range(2, input.ndim))
    normal, inverse = _standardize(input, dims, eps)
    scaled = grad if weight is None else grad * _per_channel(weight, input)
    at_input = _differentiate_standardized(scaled, normal, inverse, dims)
    return {"input": at_input, **_affine(call, grad, normal, _all_but_channels(input), weight, bias)}


def rms_norm(
    call: Call, grad: Tensor, input: Tensor, normalized_shape: Sequence[int],
    weight: Tensor | None = None, eps: float | None = None,
) -> Gradients:  # fmt: skip
    """rms_norm(Tensor input, SymInt[] normalized_shape, Tensor? weight=None, float? eps=None) -> Tensor"""
    outer = input.ndim - len(normalized_shape)
    dims = list(range(outer, input.ndim))
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    inverse = torch.rsqrt((input * input).mean(dims, keepdim=True) + eps)
    normal = input * inverse
    scaled = grad if weight is None else grad * weight
    at_input = inverse * (scaled - normal * (scaled * normal).mean(dims, keepdim=True))
    at_weight = _affine(call, grad, normal, list(range(outer)), weight, None)["weight"]
    return {"input": at_input, "weight": at_weight}


# The operators of torch's decompositions, which return their statistics too


def native_batch_norm(
    call: Call, grad: Any, input: Tensor, weight: Tensor | None, bias: Tensor | None,
    running_mean: Tensor, running_var: Tensor, momentum: float, eps: float,
) -> Gradients:  # fmt: skip
    """_native_batch_norm_legit_no_training(Tensor input, Tensor? weight, Tensor? bias, Tensor running_mean,
    Tensor running_var, float momentum, float eps) -> (Tensor, Tensor, Tensor)
    """
    of_output = _only_the_first(grad)
    return batch_norm(call, of_output, input, weight, bias, running_mean, running_var, False, momentum, eps)


def native_layer_norm(
    call: Call, grad: Any, input: Tensor, normalized_shape: Sequence[int],
    weight: Tensor | None, bias: Tensor | None, eps: float,
) -> Gradients:  # fmt: skip
    """native_layer_norm(Tensor input, SymInt[] normalized_shape, Tensor? weight, Tensor? bias, float eps)
    -> (Tensor, Tensor, Tensor)
    """
    return layer_norm(call, _only_the_first(grad), input, normalized_shape, weight, bias, eps)


def native_group_norm(
    call: Call, grad: Any, input: Tensor, weight: Tensor | None, bias: Tensor | None,
    N: Any, C: Any, HxW: Any, group: int, eps: float,
) -> Gradients:  # fmt: skip
    """native_group_norm(Tensor input, Tensor? weight, Tensor? bias, SymInt N, SymInt C, SymInt HxW, int group,
    float eps) -> (Tensor, Tensor, Tensor)
    """
    return group_norm(call, _only_the_first(grad), input, group, weight, bias, eps)


def _only_the_first(grads: Sequence[Tensor | None]) -> Tensor:
    first, *statistics = grads
    if first is None or any(s is not None for s in statistics):
        raise LoweringError("the mean and deviation of a normalization, used on their own, have no lowering")
    return first


def softmax(call: Call, grad: Tensor, self: Tensor, dim: int, **_: Any) -> Gradients:
    """softmax.int(Tensor self, int dim, ScalarType? dtype=None) -> Tensor; _softmax alike"""
    grad = grad if is_attention(call.output, dim) else shifted(grad, call.output, dim)
    along = (grad * call.output).sum(dim, keepdim=True)
    return {"self": cast(call.output * (grad - along), self)}


def log_softmax(call: Call, grad: Tensor, self: Tensor, dim: int, **_: Any) -> Gradients:
    """log_softmax.int(Tensor self, int dim, ScalarType? dtype=None) -> Tensor; _log_softmax alike"""
    return {"self": cast(log_softmax_gradient(grad, call.output, dim), self)}


TABLE: Mapping[OpOverload, Lowering] = {
    aten.batch_norm.default: batch_norm,
    aten.layer_norm.default: layer_norm,
    aten.group_norm.default: group_norm,
    aten.instance_norm.default: instance_norm,
    aten.rms_norm.default: rms_norm,
    aten._native_batch_norm_legit_no_training.default: native_batch_norm,
    aten.native_layer_norm.default: native_layer_norm,
    aten.native_group_norm.default: native_group_norm,
    aten.softmax.int: softmax,
    aten._softmax.default: softmax,
    aten.log_softmax.int: log_softmax,
    aten._log_softmax.default: log_softmax,
}
