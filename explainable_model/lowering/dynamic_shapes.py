"""The dimensions of a graph that stay open."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim

from explainable_model.artifact.shapes import spatial

MAX_BATCH = 65_536


@dataclass(frozen=True)
class DynamicDims:
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
        # Unlike the batch, a size has conditions, such as being a multiple of 32: size_ranges.py reads them.
        sizes = dict.fromkeys(spatial(range(image.ndim), self.pixels), Dim.DYNAMIC) if self.size else {}
        return {**self.of_class_idx(), **sizes}

    def of_class_idx(self) -> dict[int, Any]:
        """``dynamic_shapes`` of the class index for ``torch.export``."""
        return {0: Dim("batch", min=1, max=MAX_BATCH)} if self.batch else {}


def open_shapes(dims: DynamicDims, image: Tensor, inputs: int) -> tuple[Any, ...]:
    """``dynamic_shapes`` of ``(image, class_idx, *inputs)`` for ``torch.export``."""
    others = (tuple(dims.of_class_idx() for _ in range(inputs)),) if inputs else ()
    return dims.of_image(image), dims.of_class_idx(), *others


def share_batch(image: Tensor, *inputs: Tensor) -> None:
    """Tell the tracer that every input has the image's batch size.

    The tracer gives the batch size of each input a symbol of its own, and equates the symbols only at the end. Until
    then they do not cancel in a quotient, and an undecided condition becomes a guard that holds for the example alone.
    """
    for tensor in inputs:
        torch._check(tensor.shape[0] == image.shape[0])
