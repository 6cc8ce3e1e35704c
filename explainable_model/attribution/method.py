"""What a row of the table of methods is."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


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
