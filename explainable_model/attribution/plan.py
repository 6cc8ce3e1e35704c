"""What is to be explained and how: the options of ``ExplainableModel`` in one record."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from explainable_model.attribution.layout import ReshapeTransform
from explainable_model.attribution.method import Method
from explainable_model.attribution.postprocess import Finish
from explainable_model.attribution.scores import Select
from explainable_model.attribution.targets import ClassScore, Target


@dataclass(frozen=True)
class Plan:
    """Everything that shapes an explanation besides the network and the image.

    Attributes:
        model: class name of the network.
        layers: names of the target layers, in the order of their maps; empty for a method that needs none.
        method: key of ``METHODS``.
        options: of the method.
        target: what is explained.
        output: which part of the network's output is the prediction.
        top_k: how many classes are explained at once; ``None`` for one, without a dimension of its own.
        fusion: key of ``FUSIONS``, for several layers.
        finish: what is done to the signed maps.
        augment: average over flipped and scaled copies of the image.
        chunk_size: how many copies of one image a method runs at once.
        side_taps: names of layers whose outputs the method needs besides those it explains.
        side_values: a tensor for each of them, such as its bias.
        reshape_transform: from a layer's output to ``(N, K, *spatial)``.
    """

    model: str
    layers: tuple[str, ...] = ()
    method: str = "gradcam"
    options: Mapping[str, Any] = field(default_factory=dict)
    target: Target = field(default_factory=ClassScore)
    output: Select = None
    top_k: int | None = None
    fusion: str = "mean"
    finish: Finish = field(default_factory=Finish)
    augment: bool = False
    chunk_size: int = 64
    side_taps: tuple[str, ...] = ()
    side_values: tuple[Tensor, ...] = ()
    reshape_transform: ReshapeTransform | None = None

    @property
    def row(self) -> Method:
        """The method's row of the table."""
        from explainable_model.methods import find_method

        return find_method(self.method)

    @property
    def count(self) -> int:
        """How many classes of an image are explained."""
        return 1 if self.top_k is None else self.top_k

    @property
    def named_taps(self) -> tuple[str, ...]:
        """The layers that are listened to; those that are explained come last."""
        return (*self.side_taps, *self.layers)

    @property
    def tap_names(self) -> tuple[str, ...]:
        """Everything that is listened to: the image where it is, then the layers."""
        return (*((IMAGE_LAYER,) if self.row.needs_image else ()), *self.named_taps)


IMAGE_LAYER = ""
"""The name of the image, where it is listened to like a layer."""


ATTENTION_LAYERS = "@attention"
"""Stands for the attention probabilities of every block."""
