"""The table of lowerings: each operator's vector-Jacobian product in forward operations."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from torch import Tensor
from torch._ops import OpOverload

from explainable_model.lowering.call import Lowering
from explainable_model.lowering.rules import (
    attention,
    convolution,
    elementwise,
    indexing,
    linear,
    normalization,
    pooling,
    rearrange,
    reduction,
    resample,
)

SavingForward: TypeAlias = Callable[..., tuple[Tensor, dict[str, Tensor]]]

LOWERINGS: Mapping[OpOverload, Lowering] = {
    **elementwise.TABLE,
    **linear.TABLE,
    **attention.TABLE,
    **convolution.TABLE,
    **normalization.TABLE,
    **reduction.TABLE,
    **pooling.TABLE,
    **resample.TABLE,
    **rearrange.TABLE,
    **indexing.TABLE,
}
"""Operator -> ``(call, grad, **arguments) -> gradients``; a row's arguments have ATen's names."""

SAVING_FORWARDS: Mapping[Any, SavingForward] = attention.SAVING_FORWARDS
"""Forwards that also return what their gradient needs, so that it is not computed twice."""
