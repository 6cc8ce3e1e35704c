"""Exact gradients of probabilities that round to one.

The gradient of a softmax sums to zero over the classes. In float32 its entry at a probability of one is a difference of
almost equal numbers; computed from the other entries it is exact.
"""

from typing import Any

import torch
from torch import Tensor


def shifted(grad: Tensor, probabilities: Tensor, dim: Any) -> Tensor:
    """The gradient of a softmax's output, less its entry at the largest probability.

    The gradient of the softmax's input stays the same, for the probabilities sum to one. The same holds for every
    quotient ``a / sum(a)``.

    Args:
        grad: of the probabilities.
        probabilities: what the softmax returned.
        dim: the dimension, or dimensions, over which they sum to one. Equal largest probabilities share the shift.
    """
    largest = probabilities == probabilities.amax(dim, keepdim=True)
    share = torch.where(largest, grad, 0.0).sum(dim, keepdim=True) / largest.to(grad.dtype).sum(dim, keepdim=True)
    return grad - share


def log_softmax_gradient(grad: Tensor, output: Tensor, dim: Any) -> Tensor:
    """The gradient of a log-softmax's input, whose entry at the largest probability is computed from the others.

    Args:
        grad: of the output.
        output: what the log-softmax returned.
        dim: the dimension of the classes.
    """
    largest = output == output.amax(dim, keepdim=True)
    count = largest.to(grad.dtype).sum(dim, keepdim=True)
    others = torch.where(largest, 0.0, grad - torch.exp(output) * grad.sum(dim, keepdim=True))
    share = torch.where(largest, grad, 0.0).sum(dim, keepdim=True) / count
    return torch.where(largest, grad - share - others.sum(dim, keepdim=True) / count, others)


def sigmoid_slope(tensor: Tensor) -> Tensor:
    """``s(x) (1 - s(x))`` as ``e / (1 + e)^2`` with ``e = exp(-|x|)``: it rounds to zero only where e does."""
    power = torch.exp(-tensor.abs())
    return power / ((1 + power) * (1 + power))


def tanh_slope(tensor: Tensor) -> Tensor:
    """``1 - tanh(x)^2`` as ``4 e / (1 + e)^2`` with ``e = exp(-2 |x|)``: it rounds to zero only where e does."""
    power = torch.exp(-2 * tensor.abs())
    return 4 * power / ((1 + power) * (1 + power))


def is_attention(probabilities: Tensor, dim: int) -> bool:
    """Whether probabilities may be an attention matrix, whose maps would only become slower."""
    if probabilities.ndim < 3 or dim % probabilities.ndim != probabilities.ndim - 1:
        return False
    rows, columns = probabilities.shape[-2:]
    return isinstance(rows, int) and isinstance(columns, int) and rows == columns
