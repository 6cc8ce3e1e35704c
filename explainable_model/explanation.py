"""What every explainer returns, and the names that artifacts use for it. Imports nothing heavy."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, Literal, NamedTuple, TypeAlias, TypeVar, cast, get_args

ArrayT = TypeVar("ArrayT")

IMAGE = "image"
CLASS_IDX = "class_idx"
LOGITS = "logits"
CAM = "cam"

EXPLAINED_CLASS_IDX = "explained_class_idx"  # ONNX lets no output share the name of an input

OUTPUT_NAMES = (LOGITS, EXPLAINED_CLASS_IDX, CAM)
OVERLAY = "overlay"


def output_names(drawn: bool) -> list[str]:
    """Names of an artifact's outputs; ``overlay`` where it draws one."""
    return [*OUTPUT_NAMES, *([OVERLAY] if drawn else [])]


def input_names(extra: int) -> list[str]:
    """Names of an artifact's inputs: ``image``, ``class_idx``, and ``input_0`` and so on for the extra ones."""
    return [IMAGE, CLASS_IDX, *(f"input_{n}" for n in range(extra))]


PREDICTED = -1
"""The class index that stands for the class that the network predicts."""

OutputKind: TypeAlias = Literal["logits", "softmax", "sigmoid", "sigmoid_logits", "binary", "binary_logits", "scores"]
"""How the network's output is to be read.

=================  =======================================  ======================================
kind               classes                                  probabilities
=================  =======================================  ======================================
``logits``         exactly one is present                   softmax of the output
``softmax``        exactly one is present                   the output itself
``sigmoid``        each is present or absent by itself      the output itself
``sigmoid_logits`` each is present or absent by itself      sigmoid of the output
``binary``         one, present or absent                   the output itself
``binary_logits``  one, present or absent                   sigmoid of the output
``scores``         anything                                 none: the values are no probabilities
=================  =======================================  ======================================
"""

OUTPUT_KINDS: tuple[OutputKind, ...] = get_args(OutputKind)
PROBABILITY_KINDS: tuple[OutputKind, ...] = ("softmax", "sigmoid", "binary")  # the values are probabilities already

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with what is being done (``"reading"``, ``"copies"``), how many are done, and how many there are."""


def as_progress(function: Progress | Callable[[int, int], None] | None) -> Progress | None:
    """A ``Progress``; a function that requires two arguments is called with the two numbers alone.

    Raises:
        TypeError: something that cannot be called.
    """
    if function is not None and not callable(function):
        raise TypeError(
            f"progress is {function!r}; expected a function that is called with (step, done, total), for example print."
        )
    if function is None or not _requires_two_arguments(function):
        return cast(Progress | None, function)
    tell = cast(Callable[[int, int], None], function)
    return partial(_tell_numbers, tell)


def _tell_numbers(tell: Callable[[int, int], None], _: str, done: int, total: int) -> None:
    tell(done, total)


def _requires_two_arguments(function: Callable[..., None]) -> bool:
    parameters = inspect.signature(function).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p for p in parameters if p.kind in positional and p.default is inspect.Parameter.empty]
    return len(required) == 2 and not any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)


class Explanation(NamedTuple, Generic[ArrayT]):
    """A prediction and the class activation map that explains it.

    ``ArrayT`` is ``torch.Tensor`` from the eager and lowered modules and ``numpy.ndarray`` from a
    loaded artifact.

    Attributes:
        logits: the network's own output, unchanged, e.g. ``(N, classes)``.
        class_idx: ``(N,)`` int64, the class that was explained; ``(N, k)`` with ``top_k=k``.
        cam: ``(N, H, W)`` in ``[0, 1]`` at image size; ``(N, k, H, W)`` with ``top_k=k``; ``(N, h, w)``
            without upsampling, and unbounded above without normalization.
    """

    logits: ArrayT
    class_idx: ArrayT
    cam: ArrayT


class DrawnExplanation(NamedTuple, Generic[ArrayT]):
    """An explanation by an artifact that draws it.

    Attributes:
        logits, class_idx, cam: as of ``Explanation``, the map at the photo's size.
        overlay: uint8, the photo under its map in the photo's own layout: ``(N, 3, H, W)`` or ``(N, H, W, 3)``, with
            ``top_k=k`` ``(N, k, ...)``.
    """

    logits: ArrayT
    class_idx: ArrayT
    cam: ArrayT
    overlay: ArrayT


def as_explanation(outputs: Sequence[ArrayT]) -> Explanation[ArrayT] | DrawnExplanation[ArrayT]:
    """An artifact's outputs by name."""
    return Explanation(*outputs) if len(outputs) == len(OUTPUT_NAMES) else DrawnExplanation(*outputs)
