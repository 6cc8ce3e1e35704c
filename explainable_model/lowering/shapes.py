"""Shapes in a graph whose batch size, and perhaps height and width, are open."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim
from torch.fx.experimental.symbolic_shapes import statically_known_true

from explainable_model.metadata import spatial

MAX_BATCH = 65_536


@dataclass(frozen=True)
class OpenDims:
    """Which dimensions of the image are open in a graph.

    Attributes:
        batch: any batch size, or only the example's.
        size: any height and width (or length, or depth too), or only the example's.
        pixels: layout of the image where it is photos.
    """

    batch: bool = True
    size: bool = False
    pixels: str | None = None

    def of_image(self, image: Tensor) -> dict[int, Any]:
        """``dynamic_shapes`` of the image for ``torch.export``."""
        # Unlike the batch a size has conditions, such as being a multiple of 32: sizes.py reads them.
        sizes = dict.fromkeys(spatial(range(image.ndim), self.pixels), Dim.DYNAMIC) if self.size else {}
        return {**self.of_class_idx(), **sizes}

    def of_class_idx(self) -> dict[int, Any]:
        """``dynamic_shapes`` of the class index for ``torch.export``."""
        return {0: Dim("batch", min=1, max=MAX_BATCH)} if self.batch else {}


def open_shapes(dims: OpenDims, image: Tensor, inputs: int) -> tuple[Any, ...]:
    """``dynamic_shapes`` of ``(image, class_idx, *inputs)`` for ``torch.export``."""
    others = (tuple(dims.of_class_idx() for _ in range(inputs)),) if inputs else ()
    return dims.of_image(image), dims.of_class_idx(), *others


def share_batch(image: Tensor, *inputs: Tensor) -> None:
    """Tell the tracer that every input has the image's batch size.

    It gives each input's a symbol of its own and equates them only at the end. Until then the batch size does not
    cancel in a quotient of the two, and what it cannot decide it writes down as a guard, true of the example alone.
    """
    for tensor in inputs:
        torch._check(tensor.shape[0] == image.shape[0])


def known(condition: Any) -> bool:
    """Whether a condition holds for every open size; asking in any other way would fix the size."""
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

    It comes in the operand's dtype, undoing a promotion too.
    """
    if not isinstance(like, Tensor):
        return None
    if grad.ndim > like.ndim:
        grad = grad.sum(list(range(grad.ndim - like.ndim)))
    dims = [i for i in range(like.ndim) if known(like.shape[i] == 1) and not known(grad.shape[i] == 1)]
    return cast(grad.sum(dims, keepdim=True) if dims else grad, like)


def cast(grad: Tensor, like: Tensor) -> Tensor:
    """A gradient in the dtype of its operand, without a node in the graph where it has it already."""
    return grad if grad.dtype == like.dtype else grad.to(like.dtype)


def unflatten(tensor: Tensor, dim: int, sizes: Sequence[Any]) -> Tensor:
    """``tensor.unflatten``, which has no types."""
    return tensor.unflatten(dim, sizes)  # type: ignore[no-untyped-call, no-any-return]


def per_dim(value: int | Sequence[int], dims: int) -> list[int]:
    """One value per spatial dimension, from ATen's "one for all" shorthand."""
    values = list(value) if isinstance(value, Sequence) else [value]
    return values * dims if len(values) == 1 else values
