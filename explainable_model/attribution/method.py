"""The rows of the table of methods and of the table of fusions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from explainable_model.attribution.options import check_option, options_of


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        name: its key in ``METHODS``.
        title: what the field calls it.
        paper: authors, year and arXiv number.
        explain: ``(context, **options) -> (N, k, *grid)``, a signed map for each of an image's k classes.
        passes: what it runs besides one forward of the network, in words.
        needs_layer: whether it explains at a layer, or at the image itself.
        needs_image: whether it needs the gradient of the image.
        needs_graph: whether the network must be known as a graph, even eagerly: to run its tail alone or
            to reach the attention inside its layers.
        needs_curvature: whether it needs second derivatives.
        needs_tokens: whether it explains transformers alone: a layer of tokens, or attention over the whole image.
        scores_blocks: whether it differentiates a score of every transformer block: the head on that block's tokens.
        averages_gradients: whether it takes the spatial mean of gradients.
        adds_products: whether it adds up the products of activations and gradients, with their signs, at each position.
        copies: whether it runs changed copies of the image or of the activations.
        class_specific: whether another class gets another map.
        on_sheet: whether the sheet of all methods shows it; not where it takes minutes on a common network.
        side_taps: values of the captured graph that it reads, such as ``ATTENTION_LAYERS`` of ``plan.py``.
    """

    name: str
    title: str
    paper: str
    explain: Callable[..., Tensor]
    passes: str
    needs_layer: bool = True
    needs_image: bool = False
    needs_graph: bool = False
    needs_curvature: bool = False
    needs_tokens: bool = False
    scores_blocks: bool = False
    averages_gradients: bool = False
    adds_products: bool = False
    copies: bool = False
    class_specific: bool = True
    on_sheet: bool = True
    side_taps: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """Its options and their defaults."""
        return options_of(self.explain)

    def check_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options as they are, where the method takes all of them.

        Raises:
            ValueError: no such option, or a value that it does not take.
        """
        known = self.options
        unknown = [option for option in options if option not in known]
        if unknown:
            listed = ", ".join(f"{option}={default!r}" for option, default in known.items()) or "none"
            raise ValueError(f"Method {self.name!r} has no option {unknown[0]!r}; its options are: {listed}.")
        for option, value in options.items():
            check_option(self.name, self.explain, option, value)
        return options


@dataclass(frozen=True)
class Fusion:
    """How the maps of several layers become one.

    Attributes:
        name: its key in ``FUSIONS``.
        fuse: from signed maps ``(N, *spatial)`` of one size, one for each layer, to a map ``(N, *spatial)``.
    """

    name: str
    fuse: Callable[[Sequence[Tensor]], Tensor]
