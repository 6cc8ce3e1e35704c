"""The table of lowerings: each operator's vector-Jacobian product in forward operations."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from torch import Tensor
from torch._ops import OpOverload

from explainable_model.lowering.rules import (
    activation,
    arithmetic,
    attention,
    concat,
    convolution,
    cumulative,
    fourier,
    grid_sample,
    indexing,
    kept,
    linear,
    normalization,
    padding,
    pooling,
    quantization,
    reduction,
    resample,
    unary,
    unfold,
    views,
)
from explainable_model.lowering.rules.call import Lowering

SavingForward: TypeAlias = Callable[..., tuple[Tensor, dict[str, Tensor]]]

FAMILIES: tuple[Any, ...] = (
    arithmetic, unary, activation, linear, attention, convolution, normalization, reduction, cumulative, pooling,
    resample, padding, grid_sample, views, concat, indexing, unfold, quantization, fourier, kept,
)  # fmt: skip
"""The files of rules; each has a ``TABLE``."""

LOWERINGS: Mapping[OpOverload, Lowering] = {op: rule for family in FAMILIES for op, rule in family.TABLE.items()}
"""Operator -> ``(call, grad, **arguments) -> gradients``; a row's arguments have ATen's names."""

SAVING_FORWARDS: Mapping[Any, SavingForward] = attention.SAVING_FORWARDS
"""Forwards that also return what their gradient needs, so that it is not computed twice."""

PORTABLE_FORWARDS: Mapping[Any, Callable[..., Any]] = {
    **activation.FORWARDS,
    **attention.FORWARDS,
    **cumulative.FORWARDS,
    **quantization.FORWARDS,
    **reduction.FORWARDS,
    **resample.FORWARDS,
}
"""The same values in operators that every runtime has."""
