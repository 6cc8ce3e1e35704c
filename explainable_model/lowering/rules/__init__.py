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
    grid_sample,
    indexing,
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

LOWERINGS: Mapping[OpOverload, Lowering] = {
    **arithmetic.TABLE,
    **unary.TABLE,
    **activation.TABLE,
    **linear.TABLE,
    **attention.TABLE,
    **convolution.TABLE,
    **normalization.TABLE,
    **reduction.TABLE,
    **pooling.TABLE,
    **resample.TABLE,
    **padding.TABLE,
    **grid_sample.TABLE,
    **views.TABLE,
    **concat.TABLE,
    **indexing.TABLE,
    **unfold.TABLE,
    **quantization.TABLE,
}
"""Operator -> ``(call, grad, **arguments) -> gradients``; a row's arguments have ATen's names."""

SAVING_FORWARDS: Mapping[Any, SavingForward] = attention.SAVING_FORWARDS
"""Forwards that also return what their gradient needs, so that it is not computed twice."""

PORTABLE_FORWARDS: Mapping[Any, Callable[..., Any]] = {
    **attention.FORWARDS,
    **quantization.FORWARDS,
    **resample.FORWARDS,
}
"""The same values in operators that every runtime has."""
