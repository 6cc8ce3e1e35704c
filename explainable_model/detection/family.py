"""The rows of the table of detectors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor, nn

from explainable_model.detection.candidates import Candidates

Tap: TypeAlias = Callable[[Sequence[Tensor]], list[Tensor]]
"""Takes the inputs of a detector's head, the finest level first, and returns them so that they can be explained."""


@dataclass(frozen=True)
class Thresholds:
    """What a network's own post-processing uses.

    Attributes:
        score: boxes of a lower score are none.
        iou: of two boxes of one class that overlap more, the better one stays; ``None`` for no suppression.
    """

    score: float
    iou: float | None


@dataclass(frozen=True)
class Family:
    """One family of detectors.

    Attributes:
        name: its key in ``DETECTORS``.
        title: what the field calls it.
        classes: full names of the classes of its networks, ``package.module.Class`` without the module.
        candidates: ``(network, image, tap) -> Candidates``.
        levels: how many maps go into the head.
        thresholds: of the network's own post-processing.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    candidates: Callable[[Any, Tensor, Tap], Candidates]
    levels: Callable[[Any], int]
    thresholds: Callable[[Any], Thresholds]


def is_of(network: nn.Module, family: Family) -> bool:
    """Whether a network, or a class that it inherits from, is one of the family's."""
    names = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(network).__mro__}
    return not names.isdisjoint(family.classes)
