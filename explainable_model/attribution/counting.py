"""Whole numbers along a dimension, in a form that a traced graph computes wherever it runs."""

import torch
from torch import Tensor


def counting(tensor: Tensor, dim: int = 0, dtype: torch.dtype | None = None) -> Tensor:
    """``0, 1, 2, ...`` with as many entries as one dimension of a tensor has.

    The numbers are a running sum of ones, whose length and device come from the tensor when the graph runs.
    ``torch.arange`` would write the device into the graph, and everything computed from its constant would be stored.

    Args:
        tensor: any, with at least one dimension and no empty one.
        dim: the dimension that is counted.
        dtype: of the result; by default float32, or float64 for a tensor in float64, for half precision stops
            counting at 2048.

    Returns:
        One dimension.
    """
    line = tensor.movedim(dim, -1)
    while line.ndim > 1:
        line = line.select(0, 0)
    if dtype is None:
        dtype = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    return torch.ones_like(line, dtype=dtype).cumsum(0) - 1
