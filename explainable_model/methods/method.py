"""What a row of the table of methods is."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import Tensor, nn

from explainable_model.copies import repeat, split

if TYPE_CHECKING:
    from explainable_model.attribution import Probe

Activations: TypeAlias = Tensor  # (M, K, *grid)
Gradients: TypeAlias = Tensor  # (M, K, *grid)
CamMethod: TypeAlias = Callable[..., Tensor]  # (activations, gradients, **options) -> signed map (M, *grid)


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        title: what the field calls it.
        paper: authors, year and arXiv number.
        explain: ``(probe, **options) -> (N, k, *grid)``, a signed map for each of an image's k classes.
        passes: what it runs besides one forward of the network, for people.
        needs_layer: whether it explains at a layer, or at the image itself.
        needs_image: whether it needs the gradient of the image.
        needs_graph: whether the network must be known as a graph, even eagerly: to run its tail alone or
            to reach the attention inside its layers.
        needs_curvature: whether it needs second derivatives.
        side_taps: the layers it listens to besides those it explains: a name and a tensor for each.
    """

    title: str
    paper: str
    explain: Callable[..., Tensor]
    passes: str
    needs_layer: bool = True
    needs_image: bool = False
    needs_graph: bool = False
    needs_curvature: bool = False
    side_taps: Callable[[nn.Module], Sequence[tuple[str, Tensor]]] = lambda model: ()

    @property
    def options(self) -> dict[str, Any]:
        """Its options and their defaults."""
        parameters = inspect.signature(self.explain).parameters.values()
        return {p.name: p.default for p in parameters if p.default is not p.empty}


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
