"""Methods from pure functions of activations and gradients."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from explainable_model.attribution.batching import repeat, split
from explainable_model.attribution.context import MethodContext

Activations: TypeAlias = Tensor  # (M, K, *grid)
Gradients: TypeAlias = Tensor  # (M, K, *grid)
CamMethod: TypeAlias = Callable[..., Tensor]  # (activations, gradients, **options) -> signed map (M, *grid)


@dataclass(frozen=True)
class FromGradients:
    """A method from a pure function of the activations and gradients of any batch ``(M, K, *grid)``.

    Attributes:
        function: of activations and gradients.
        repeats_activations: whether it wants the activations of an image once for each class, as its gradients are.
        averages_gradients: whether it takes the spatial mean of the gradients.
    """

    function: CamMethod
    repeats_activations: bool = True
    averages_gradients: bool = False

    def __call__(self, context: MethodContext, **options: Any) -> Tensor:
        gradients = (context.averaged_gradients() if self.averages_gradients else context.gradients()).flatten(0, 1)
        activations = context.activations
        if self.repeats_activations:
            activations = repeat(activations, context.classes)
        return split(self.function(activations, gradients, **options), context.classes)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.function)


@dataclass(frozen=True)
class FromActivations:
    """A method from a pure function of the activations: every class gets the same map.

    Attributes:
        function: of activations.
    """

    function: Callable[..., Tensor]

    def __call__(self, context: MethodContext, **options: Any) -> Tensor:
        return split(repeat(self.function(context.activations, **options), context.classes), context.classes)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.function)
