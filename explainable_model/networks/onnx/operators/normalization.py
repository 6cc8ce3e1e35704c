"""Normalizations."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explainable_model.errors import ModelError
from explainable_model.networks.onnx.operators.call import Call, Operator
from explainable_model.networks.onnx.values import Value, axis_of, tensor

NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


def batch_norm(call: Call, x: Value, weight: Value, bias: Value, mean: Value, variance: Value) -> Value:
    _refuse_training(call)
    return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, call.get("epsilon", 1e-5))


def _refuse_training(call: Call) -> None:
    if call.get("training_mode") or call.outputs > 1 or call.get("spatial", 1) == 0:
        raise ModelError("BatchNormalization is in training mode; export the network in evaluation mode")


class _Norm(nn.modules.batchnorm._BatchNorm):
    """Batch norm of a value of any rank."""

    def _check_input_dim(self, input: Tensor) -> None:
        return


class BatchNorm2d(_Norm, nn.BatchNorm2d):
    """``nn.BatchNorm2d`` that takes a value of any rank, as the operator does."""


def build_batch_norm(call: Call, inputs: Sequence[Value]) -> nn.Module | None:
    _refuse_training(call)
    weight, bias, mean, variance = inputs[1:5]
    if not all(isinstance(value, Tensor) for value in (weight, bias, mean, variance)):
        return None
    layer = BatchNorm2d(weight.numel(), eps=call.get("epsilon", 1e-5), device="meta")
    layer.weight, layer.bias = nn.Parameter(weight, requires_grad=False), nn.Parameter(bias, requires_grad=False)
    layer.running_mean, layer.running_var = mean, variance
    layer.num_batches_tracked = torch.zeros((), dtype=torch.int64)
    return layer


def instance_norm(call: Call, x: Value, weight: Value, bias: Value) -> Value:
    return F.instance_norm(x, None, None, tensor(weight), tensor(bias), True, 0.0, call.get("epsilon", 1e-5))


def group_norm(call: Call, x: Value, weight: Value, bias: Value) -> Value:
    """In opset 18 weight and bias are of the groups, later of the channels."""
    groups = call.get("num_groups")
    if call.opset < 21:
        weight, bias = (value.repeat_interleave(x.shape[1] // groups) for value in (weight, bias))
    return F.group_norm(x, groups, weight, bias, call.get("epsilon", 1e-5))


def layer_norm(call: Call, x: Value, weight: Value, bias: Value = None) -> Any:
    first, epsilon = axis_of(call.get("axis", -1), x.ndim), call.get("epsilon", 1e-5)
    shape = list(x.shape[first:])
    weight = weight.expand(shape)
    normed = F.layer_norm(x, shape, weight, None if bias is None else bias.expand(shape), epsilon)
    if call.outputs == 1:
        return normed
    axes = list(range(first, x.ndim))
    mean = x.mean(axes, keepdim=True)
    return normed, mean, ((x - mean).square().mean(axes, keepdim=True) + epsilon).rsqrt()


def build_layer_norm(call: Call, inputs: Sequence[Value]) -> nn.Module | None:
    weight, bias = inputs[1], inputs[2] if len(inputs) > 2 else None
    if call.outputs > 1 or call.get("axis", -1) != -1 or (len(inputs) > 2 and bias is None):
        return None
    if not isinstance(weight, Tensor) or weight.ndim != 1 or (bias is not None and bias.shape != weight.shape):
        return None
    layer = nn.LayerNorm(weight.numel(), call.get("epsilon", 1e-5), bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer


def rms_norm(call: Call, x: Value, weight: Value) -> Value:
    shape = list(x.shape[axis_of(call.get("axis", -1), x.ndim) :])
    return F.rms_norm(x, shape, weight.expand(shape), call.get("epsilon", 1e-5))


def local_response_norm(call: Call, x: Value) -> Value:
    size, alpha = call.get("size"), call.get("alpha", 1e-4)
    squares = x.square().unsqueeze(1)
    behind = [0, 0] * (x.ndim - 2) + [(size - 1) // 2, size // 2]
    summed = F.pad(squares, behind)
    window = sum(summed.narrow(2, i, x.shape[1]) for i in range(size)).squeeze(1)  # type: ignore[union-attr]
    return x / (window * (alpha / size) + call.get("bias", 1.0)) ** call.get("beta", 0.75)


def lp_norm(call: Call, x: Value) -> Value:
    axis = axis_of(call.get("axis", -1), x.ndim)
    absolute = x.abs().sum(axis, keepdim=True) if call.get("p", 2) == 1 else x.square().sum(axis, keepdim=True).sqrt()
    return x / torch.where(absolute == 0, torch.ones_like(absolute), absolute)


def mean_variance_norm(call: Call, x: Value) -> Value:
    axes = list(call.get("axes") or (0, 2, 3))
    mean = x.mean(axes, keepdim=True)
    deviation = (x.square().mean(axes, keepdim=True) - mean.square()).sqrt()
    return (x - mean) / (deviation + 1e-9)


TABLE: dict[str, Operator] = {
    "BatchNormalization": Operator(batch_norm, build=build_batch_norm),
    "GroupNormalization": Operator(group_norm, shows="GroupNorm"),
    "InstanceNormalization": Operator(instance_norm, shows="InstanceNorm"),
    "LRN": Operator(local_response_norm),
    "LayerNormalization": Operator(layer_norm, build=build_layer_norm, shows="LayerNorm"),
    "LpNormalization": Operator(lp_norm),
    "MeanVarianceNormalization": Operator(mean_variance_norm),
    "RMSNormalization": Operator(rms_norm, shows="RMSNorm"),
}
