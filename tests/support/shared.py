"""Explained and lowered networks that tests share: each is made once in a process. No test may change one."""

from functools import cache
from typing import Any

import torch
from torch import nn

from explainable_model import ExplainableModel, LoweredModel, lower
from tests.support.nets import IMAGE_SIZE, images, seeded

Shape = tuple[int, ...]


@cache
def explained(
    kind: type[nn.Module], layer: str, method: str = "gradcam", dtype: torch.dtype = torch.float32, **options: Any
) -> ExplainableModel:
    """The seeded network of that class, explained at the layer."""
    return ExplainableModel(seeded(kind()).to(dtype), layer, method, **options)


@cache
def lowered(
    kind: type[nn.Module],
    layer: str,
    method: str = "gradcam",
    *,
    size: Shape = (3, IMAGE_SIZE, IMAGE_SIZE),
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> LoweredModel:
    """``explained(...)`` lowered for images of that size in batches of any size; every format is written from it."""
    return lower(explained(kind, layer, method, dtype, **options), images(1, size).to(dtype))
