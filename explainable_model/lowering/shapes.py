"""Shapes in a graph whose batch size, and perhaps height and width, are open."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true


def known(condition: Any) -> bool:
    """Whether a condition holds for every open size. Python's ``if`` on the condition would fix the size instead."""
    return bool(statically_known_true(condition))


def shape_of(tensor: Tensor) -> list[Any]:
    """The shape, with -1 for a single open dimension: one constant in the exported graph."""
    shape = list(tensor.shape)
    open_dims = [i for i, size in enumerate(shape) if not isinstance(size, int)]
    if len(open_dims) == 1 and 0 not in shape:
        shape[open_dims[0]] = -1
    return shape


def unbroadcast(grad: Tensor, like: Any) -> Tensor | None:
    """Sum a gradient over the dimensions in which its operand was broadcast; ``None`` for a number.

    The result has the operand's dtype, which undoes a promotion.
    """
    if not isinstance(like, Tensor):
        return None
    if grad.ndim > like.ndim:
        grad = grad.sum(list(range(grad.ndim - like.ndim)))
    dims = [i for i in range(like.ndim) if known(like.shape[i] == 1) and not known(grad.shape[i] == 1)]
    return cast(grad.sum(dims, keepdim=True) if dims else grad, like)


def cast(grad: Tensor, like: Tensor) -> Tensor:
    """A gradient in the dtype of its operand, without a node in the graph where it has it already."""
    if grad.is_complex() and not like.is_complex():
        grad = torch.view_as_real(grad).select(-1, 0)
    return grad if grad.dtype == like.dtype else grad.to(like.dtype)


def unflatten(tensor: Tensor, dim: int, sizes: Sequence[Any]) -> Tensor:
    """``tensor.unflatten``, which has no types."""
    return tensor.unflatten(dim, sizes)  # type: ignore[no-untyped-call, no-any-return]


def per_dim(value: int | Sequence[int], dims: int) -> list[int]:
    """One value for each spatial dimension, where ATen also takes a single value for all of them."""
    values = list(value) if isinstance(value, Sequence) else [value]
    return values * dims if len(values) == 1 else values
