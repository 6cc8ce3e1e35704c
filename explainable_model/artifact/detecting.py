"""The typed call of a detector, which the network, its graph and its artifact share."""

from collections.abc import Callable
from typing import Any, Generic, cast

from explainable_model.errors import InputError
from explainable_model.explanation import ArrayT, DetectionExplanation


class Detecting(Generic[ArrayT]):
    """The base of what is called with an image: the call of a detector, with the type of its answer."""

    def detect(self, image: Any, ranks: Any = None, *inputs: Any) -> DetectionExplanation[ArrayT]:
        """Find boxes and explain each: the call itself, for editors and type checkers.

        Args:
            image: as of the call.
            ranks: of the boxes to explain, as the call takes them for ``class_idx``; ``None`` for the best.
            inputs: as of the call.

        Raises:
            InputError: as the call, or this is no detector.
        """
        answer = cast(Callable[..., Any], self)(image, ranks, *inputs)
        if not isinstance(answer, DetectionExplanation):
            raise InputError("This explains classes, and finds no boxes; a detector is wrapped with task='detection'.")
        return cast(DetectionExplanation[ArrayT], answer)
