"""What the formulas see of a network, for one image."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Score = Callable[[Tensor], Tensor]


class Undefined(Exception):
    """The formula has no stable value here: a tie, a pole or a double singular value."""


@dataclass
class Sight:
    """One image, its class and the layer, as a formula sees them.

    Attributes:
        image: ``(1, C, *size)``.
        activations: ``(K, *grid)``; ``None`` for methods that explain at the image.
        gradients: of the score, likewise.
        rerun: ``(changed images) -> scores (M,)``.
        tail: ``(changed activations (M, K, *grid)) -> scores (M,)``, with a graph where they have one.
        tail_gradient: ``(changed image) -> gradients (K, *grid)`` of the layer.
        image_gradient: ``(changed image) -> gradients (C, *size)``.
        guided_gradient: likewise, where a rectifier passes only positive gradients.
        compare: ``(weights of the scores (S,)) -> gradients (K, *grid)``.
        values: ``(S,)``, all scores.
        column: position of the explained score in them.
        options: of the method.
        upsample: how Guided Grad-CAM resizes its map: ``bilinear`` or ``nearest``.
    """

    image: Tensor
    activations: Any
    gradients: Any
    rerun: Score
    tail: Score
    tail_gradient: Score
    image_gradient: Score
    guided_gradient: Score
    compare: Score
    values: Tensor
    column: int
    options: dict[str, Any]
    upsample: str = "bilinear"
