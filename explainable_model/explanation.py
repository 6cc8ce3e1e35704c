"""What every explainer returns, and the names that artifacts use for it. Imports nothing heavy."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar, cast, get_args

ArrayT = TypeVar("ArrayT")

IMAGE = "image"
CLASS_IDX = "class_idx"
LOGITS = "logits"
CAM = "cam"

EXPLAINED_CLASS_IDX = "explained_class_idx"  # ONNX lets no output share the name of an input

BOXES, SCORES, LABELS, VALID = "boxes", "scores", "labels", "valid"
DETECTION_NAMES = (BOXES, SCORES, LABELS, VALID, CAM)
"""Names of the outputs of a detector's artifact."""

METHOD = "gradcam"
"""How a map is made where nobody says it."""

BOX_METHOD = "hirescam"
"""The same for boxes: a box is a place, and the mean of a gradient over places, as in Grad-CAM, forgets it."""

OUTPUT_NAMES = (LOGITS, EXPLAINED_CLASS_IDX, CAM)
OVERLAY = "overlay"


def output_names(drawn: bool, *, has_boxes: bool = False) -> list[str]:
    """Names of an artifact's outputs; ``overlay`` where it draws one, those of a detector where it has boxes."""
    if has_boxes:
        return list(DETECTION_NAMES)
    return [*OUTPUT_NAMES, *([OVERLAY] if drawn else [])]


def own_names(found: Sequence[str | None]) -> dict[str, str]:
    """The names of a file's inputs that its explanation can keep, by the names that they have in every artifact.

    Args:
        found: of the image and of the further inputs in their order; ``None`` for one that is not kept.
    """
    roles = input_names(len(found) - 1)
    taken = {*roles, *OUTPUT_NAMES, *DETECTION_NAMES, OVERLAY}
    pairs = zip([IMAGE, *roles[2:]], found, strict=True)
    return {role: name for role, name in pairs if name is not None and name not in taken}


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

PRESENT = 0.5
"""Smallest probability at which a class counts as present, where nobody says another one."""

OUTPUT_KINDS: tuple[OutputKind, ...] = get_args(OutputKind)
PROBABILITY_KINDS: tuple[OutputKind, ...] = ("softmax", "sigmoid", "binary")  # the values are probabilities already
INDEPENDENT_KINDS: tuple[OutputKind, ...] = ("sigmoid", "sigmoid_logits", "binary", "binary_logits")  # present or not

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with what is being done (``"reading"``, ``"copies"``), how many are done, and how many there are."""


class _Explanation(NamedTuple, Generic[ArrayT]):
    logits: ArrayT
    class_idx: ArrayT
    cam: ArrayT


class _DrawnExplanation(NamedTuple, Generic[ArrayT]):
    logits: ArrayT
    class_idx: ArrayT
    cam: ArrayT
    overlay: ArrayT


class Detections(NamedTuple, Generic[ArrayT]):
    """The boxes that a detector found, in the order of their scores.

    Attributes:
        boxes: ``(N, k, 4)``, ``x1, y1, x2, y2`` in pixels of the image; zeros where there is no box.
        scores: ``(N, k)`` in [0, 1], as the detector says them; zero where there is no box.
        labels: ``(N, k)`` int64, the class of each box as the detector counts; ``-1`` where there is no box.
        valid: ``(N, k)`` bool, whether there is a box of this rank.
    """

    boxes: ArrayT
    scores: ArrayT
    labels: ArrayT
    valid: ArrayT


class DetectionExplanation(NamedTuple, Generic[ArrayT]):
    """The boxes that a detector found, and a map for each.

    Attributes:
        detections: boxes, scores, labels and whether there is a box.
        cam: ``(N, k, H, W)`` in ``[0, 1]`` at image size, the map of each box; zeros where there is no box.
    """

    detections: Detections[ArrayT]
    cam: ArrayT


KindSource: TypeAlias = OutputKind | Callable[[], OutputKind | None] | None
"""A kind of output, or a function that finds it when somebody asks for it."""


class Explanation(_Explanation[ArrayT]):
    """A prediction and the class activation map that explains it.

    ``ArrayT`` is ``torch.Tensor`` from the eager and lowered modules and ``numpy.ndarray`` from a
    loaded artifact.

    Attributes:
        logits: the network's own output, unchanged, e.g. ``(N, classes)``; ``output_kind`` says whether the values are
            logits, probabilities or other scores.
        class_idx: ``(N,)`` int64, the class that was explained; ``(N, k)`` with ``top_k=k``.
        cam: ``(N, H, W)`` in ``[0, 1]`` at image size; ``(N, k, H, W)`` with ``top_k=k``; ``(N, h, w)``
            without upsampling, and unbounded above without normalization.
    """

    _kind: KindSource = None

    @property
    def output_kind(self) -> OutputKind | None:
        """How ``logits`` is to be read; ``None`` where nothing says so."""
        return _resolve_kind(self)

    @property
    def probabilities(self) -> ArrayT:
        """The probability of each class, shaped like ``logits``.

        Raises:
            ValueError: the output holds no probabilities, or nothing says what it holds; the error says what to write.
        """
        return to_probabilities(self.logits, self.output_kind)

    def __getstate__(self) -> dict[str, Any]:
        return _stored_kind(self)

    def with_kind(self, kind: KindSource) -> "Explanation[ArrayT]":
        """The same answer, whose output is read as ``kind``, one of ``OUTPUT_KINDS``."""
        answer = Explanation(*self)
        answer._kind = kind
        return answer


class DrawnExplanation(_DrawnExplanation[ArrayT]):
    """An explanation by an artifact that draws it.

    Attributes:
        logits, class_idx, cam: as of ``Explanation``, the map at the photo's size.
        overlay: uint8 RGB, the photo under its map in the photo's own layout: ``(N, 3, H, W)`` or ``(N, H, W, 3)``,
            with ``top_k=k`` ``(N, k, ...)``; of gray photos ``(N, H, W)`` it is ``(N, H, W, 3)``.
    """

    _kind: KindSource = None

    @property
    def output_kind(self) -> OutputKind | None:
        """See ``Explanation.output_kind``."""
        return _resolve_kind(self)

    @property
    def probabilities(self) -> ArrayT:
        """See ``Explanation.probabilities``."""
        return to_probabilities(self.logits, self.output_kind)

    def __getstate__(self) -> dict[str, Any]:
        return _stored_kind(self)

    def with_kind(self, kind: KindSource) -> "DrawnExplanation[ArrayT]":
        """See ``Explanation.with_kind``."""
        answer = DrawnExplanation(*self)
        answer._kind = kind
        return answer


def _stored_kind(answer: Any) -> dict[str, Any]:
    """What a copy of an answer keeps: the kind, but not the network that would be asked for it."""
    return {} if callable(answer._kind) else {"_kind": answer._kind}


def _resolve_kind(answer: Any) -> OutputKind | None:
    if callable(answer._kind):
        answer._kind = answer._kind()  # the network is asked once
    kind: OutputKind | None = answer._kind
    return kind


def check_threshold(threshold: float) -> float:
    """The threshold as it is.

    Raises:
        ValueError: it is no probability.
    """
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0 < threshold < 1:
        raise ValueError(f"threshold is {threshold!r}; expected a probability between 0 and 1, such as 0.5.")
    return float(threshold)


def check_presence(threshold: float, kind: OutputKind | None) -> None:
    """Refuse a threshold that nothing is compared with.

    Raises:
        ValueError: a threshold of the user's, and an output whose classes are not present or absent by themselves.
    """
    if threshold != PRESENT and kind not in INDEPENDENT_KINDS:
        raise ValueError(
            f"threshold is {threshold:.3g}, and the output is read as {kind or 'an unknown kind'}: no class is "
            "present or absent by itself. Leave the threshold out, or write output_kind='binary_logits' (of several "
            "classes 'sigmoid_logits') where a sigmoid of the output is a probability."
        )


def to_probabilities(logits: ArrayT, kind: OutputKind | None) -> ArrayT:
    """Read a network's output as probabilities.

    Args:
        logits: ``(N, classes)``, ``(N,)`` or ``(N, classes, *spatial)``, a NumPy array or a tensor.
        kind: how it is read.

    Returns:
        The same shape: softmax over the classes, sigmoid of each value, or the values themselves.

    Raises:
        ValueError: the output holds no probabilities, or nothing says what it holds.
    """
    if kind is None or kind == "scores":
        got = "Nothing says how this output is read" if kind is None else "This output holds scores of no known kind"
        raise ValueError(
            f"{got}, so it has no probabilities. Write explanation.with_kind('softmax').probabilities, with the kind "
            f"that it is: {', '.join(OUTPUT_KINDS)}. For an artifact, write export(..., output_kind=...)."
        )
    if kind not in OUTPUT_KINDS:
        raise ValueError(f"output_kind is {kind!r}; expected one of {', '.join(OUTPUT_KINDS)}.")
    if kind in PROBABILITY_KINDS:
        return logits
    values: Any = logits
    if kind != "logits":
        return cast(ArrayT, _sigmoid(values))
    largest = values.max(1, keepdims=True) if not hasattr(values, "detach") else values.amax(1, keepdim=True)
    powers = _exp(values - largest)
    return cast(ArrayT, powers / powers.sum(1, keepdims=True))


def _exp(values: Any) -> Any:
    if hasattr(values, "detach"):
        return values.exp()
    import numpy

    return numpy.exp(values)


def _sigmoid(values: Any) -> Any:
    if hasattr(values, "detach"):
        return values.sigmoid()
    import numpy

    return 0.5 * (1 + numpy.tanh(values / 2))


def as_detections(outputs: Sequence[ArrayT]) -> DetectionExplanation[ArrayT]:
    """The outputs of a detector's artifact by name."""
    boxes, scores, labels, valid, cam = outputs
    return DetectionExplanation(Detections(boxes, scores, labels, valid), cam)


def as_explanation(outputs: Sequence[ArrayT]) -> Explanation[ArrayT] | DrawnExplanation[ArrayT]:
    """An artifact's outputs by name."""
    return Explanation(*outputs) if len(outputs) == len(OUTPUT_NAMES) else DrawnExplanation(*outputs)


def list_outputs(answer: Any) -> list[Any]:
    """List the outputs of an artifact in their order, from what a session or a runner returned."""
    if isinstance(answer, DetectionExplanation):
        return [*answer.detections, answer.cam]
    return list(answer)
