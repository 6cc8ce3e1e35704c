"""What a row of the table of methods is."""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import Tensor

from explainable_model.attribution.batching import repeat, split

if TYPE_CHECKING:
    from explainable_model.attribution.probe import Probe

Activations: TypeAlias = Tensor  # (M, K, *grid)
Gradients: TypeAlias = Tensor  # (M, K, *grid)
CamMethod: TypeAlias = Callable[..., Tensor]  # (activations, gradients, **options) -> signed map (M, *grid)


def from_gradients(function: CamMethod, *, copies: bool = True) -> Callable[..., Tensor]:
    """A method from a pure function of the activations and gradients of any batch ``(M, K, *grid)``.

    Args:
        function: of activations and gradients.
        copies: whether it wants the activations of an image once for each class, as its gradients are.
    """

    def explain(probe: "Probe", **options: Any) -> Tensor:
        gradients = probe.gradients().flatten(0, 1)
        activations = repeat(probe.activations, probe.classes) if copies else probe.activations
        return split(function(activations, gradients, **options), probe.classes)

    return _with_options_of(function, explain)


def from_activations(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A method from a pure function of the activations: every class gets the same map."""

    def explain(probe: "Probe", **options: Any) -> Tensor:
        return split(repeat(function(probe.activations, **options), probe.classes), probe.classes)

    return _with_options_of(function, explain)


def _with_options_of(function: Callable[..., Tensor], explain: Callable[..., Tensor]) -> Callable[..., Tensor]:
    explain.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    explain.__doc__ = function.__doc__
    return explain
