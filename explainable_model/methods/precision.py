"""Half precision: too narrow for sums over space and for products of gradients."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import torch
from torch import Tensor

from explainable_model.attribution.postprocess import HALF

P = ParamSpec("P")


def in_float32(method: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Run a method on float16 or bfloat16 tensors in float32 and return its map in their dtype.

    Values that the narrow dtype cannot hold become its largest ones, so that a map stays finite. For
    float32 and float64 nothing is added to the graph.
    """

    @wraps(method)
    def widened(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        narrow = _half_dtype([*args, *kwargs.values()])
        if narrow is None:
            return method(*args, **kwargs)
        wide: Callable[..., Tensor] = method
        result = wide(*map(_widen, args), **{name: _widen(value) for name, value in kwargs.items()})
        limit = torch.finfo(narrow).max
        return result.clamp(-limit, limit).to(narrow)

    return widened


def _half_dtype(values: Any) -> torch.dtype | None:
    for value in values:
        if isinstance(value, Tensor) and value.dtype in HALF:
            return value.dtype
        if isinstance(value, (list, tuple)) and (found := _half_dtype(value)):
            return found
    return None


def _widen(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_widen(item) for item in value]
    return value.float() if isinstance(value, Tensor) and value.dtype in HALF else value
