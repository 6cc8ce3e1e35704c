"""Guided backpropagation (Springenberg et al. 2015, arXiv 1412.6806): a ReLU passes only positive gradients.

The guided gradient of a rectifier is its own gradient, applied to the positive part of the incoming gradient.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from explainable_model.lowering.rules.call import Call, Gradients, Lowering
from explainable_model.lowering.rules.one_hot import dense

aten = torch.ops.aten
RECTIFIERS = (aten.relu.default, aten.relu6.default, aten.hardtanh.default)  # hardtanh is how export writes ReLU6


class _PositiveGradient(torch.autograd.Function):
    """The identity, but for the negative part of its gradient."""

    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        return tensor.view_as(tensor)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].relu()


def guided_kernels() -> Mapping[OpOverload, Any]:
    """The functions that replace the rectifiers where autograd differentiates."""
    return {op: _guided_kernel(op) for op in RECTIFIERS}


def _guided_kernel(op: OpOverload) -> Any:
    def kernel(*args: Any, **kwargs: Any) -> Tensor:
        result: Tensor = _PositiveGradient.apply(op(*args, **kwargs))
        return result

    return kernel


def guided_lowerings(lowerings: Mapping[OpOverload, Lowering]) -> dict[OpOverload, Lowering]:
    """The table, in which the products of the rectifiers take the positive part of the gradient."""
    return {**lowerings, **{op: _guided_lowering(lowerings[op]) for op in RECTIFIERS if op in lowerings}}


def _guided_lowering(lowering: Lowering) -> Lowering:
    def guided(call: Call, grad: Any, **arguments: Any) -> Gradients:
        return lowering(call, dense(grad).relu(), **arguments)

    return guided
