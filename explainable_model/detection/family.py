"""The rows of the table of detectors."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from explainable_model.detection.candidates import Candidates


class Tap:
    """Takes the inputs of a detector's head, the finest level first, and returns them so that they can be explained.

    Args:
        levels: a module for each, to which a hook can listen.
        only_windows: whether a head may run once more on the cells that a box depends on.
    """

    def __init__(self, levels: Iterable[nn.Module], only_windows: bool = False) -> None:
        self._levels, self.only_windows = list(levels), only_windows

    def __call__(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """All levels ``(N, C, h, w)`` at once."""
        return [module(level) for module, level in zip(self._levels, maps, strict=True)]

    def one(self, number: int, level: Tensor) -> Tensor:
        """One level, counted from 0."""
        tapped: Tensor = self._levels[number](level)
        return tapped


@dataclass(frozen=True)
class Thresholds:
    """What a network's own post-processing uses.

    Attributes:
        score: boxes of a lower score are none.
        iou: of two boxes of one class that overlap more, the better one stays; ``None`` for no suppression.
        limit: the most boxes of an image; ``None`` for no limit.
    """

    score: float
    iou: float | None
    limit: int | None = None


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
