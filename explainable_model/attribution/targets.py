"""Targets make the score that is explained, one per image and class, from the network's output."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor

from explainable_model.attribution.boxes import BoxScore, RankedBoxes, check_given_boxes, number_columns, resolve_ranks
from explainable_model.attribution.foreground import select_foreground
from explainable_model.attribution.inputs import check_class_range
from explainable_model.attribution.prediction import Select, check_class_scores, find_prediction
from explainable_model.attribution.scores import class_scores, resolve_class_idx
from explainable_model.errors import InputError, ModelError


@dataclass(frozen=True)
class ClassScore:
    """The score of a class: its logit, or the sum of its logits over a segmentation map."""

    inputs: ClassVar[int] = 0
    linear: ClassVar[bool] = True

    def matrix(self, logits: Tensor, image_shape: Sequence[Any], inputs: Sequence[Tensor]) -> Tensor:
        """``(N, classes)``."""
        return class_scores(logits, image_shape[0])


@dataclass(frozen=True)
class Binary:
    """Both sides of a single logit z: class 1 has the score ``z - threshold``, class 0 its negative.

    Attributes:
        threshold: where the prediction changes sides: 0 for a logit, 0.5 for a network that ends in
            sigmoid.
    """

    threshold: float = 0.0
    inputs: ClassVar[int] = 0
    linear: ClassVar[bool] = True

    def matrix(self, logits: Tensor, image_shape: Sequence[Any], inputs: Sequence[Tensor]) -> Tensor:
        """``(N, 2)``.

        Raises:
            ModelError: the network has more than one logit.
        """
        single = class_scores(logits, image_shape[0])
        if single.shape[1] != 1:
            raise ModelError(f"Binary() needs a network with one logit; this one has {single.shape[1]} classes.")
        return torch.cat([self.threshold - single, single - self.threshold], 1)


@dataclass(frozen=True)
class Difference:
    """The score of a class minus the score of another class: ``y_c - y_other``.

    Attributes:
        other: the class to compare with.
    """

    other: int
    inputs: ClassVar[int] = 0
    linear: ClassVar[bool] = True

    def matrix(self, logits: Tensor, image_shape: Sequence[Any], inputs: Sequence[Tensor]) -> Tensor:
        """``(N, classes)``.

        Raises:
            InputError: the network has no class ``other``.
        """
        scores = class_scores(logits, image_shape[0])
        if not isinstance(self.other, int) or not 0 <= self.other < scores.shape[1]:
            expected = f"a class, 0 to {scores.shape[1] - 1} for this network"
            raise InputError(f"Difference(other={self.other!r}): expected {expected}.")
        return scores - scores[:, self.other : self.other + 1]


@dataclass(frozen=True)
class Segmentation:
    """The score of a class summed over some pixels of a segmentation map ``(N, classes, *spatial)``.

    With ``"own"`` the class that wins most pixels is the predicted one.

    Source: Vinogradova et al. 2020, arXiv 2002.11434, equation 2.

    Attributes:
        mask: which pixels: ``None`` for all, ``"own"`` for those that are predicted to be of the class,
            ``"input"`` for a mask ``(N, *spatial)`` given with each call, or a fixed one ``(*spatial)``.
        threshold: with ``"own"`` and one channel, a pixel above it is foreground: 0 for a logit, 0.5 after a sigmoid.
    """

    mask: Tensor | Literal["own", "input"] | None = None
    threshold: float = 0.0
    linear: ClassVar[bool] = True

    @property
    def inputs(self) -> int:
        """How many extra inputs each call gives."""
        return 1 if isinstance(self.mask, str) and self.mask == "input" else 0

    def matrix(self, logits: Tensor, image_shape: Sequence[Any], inputs: Sequence[Tensor]) -> Tensor:
        """``(N, classes)``.

        Raises:
            ModelError: the logits have no spatial dimensions, or one channel of probabilities and threshold 0.
        """
        if logits.ndim < 3 or logits.ndim != len(image_shape):
            raise ModelError(
                f"Segmentation() needs logits (N, classes, *spatial); the network returned {tuple(logits.shape)}."
            )
        if self.mask is None:
            return class_scores(logits, image_shape[0])
        if isinstance(self.mask, Tensor):
            pixels = self.mask.to(logits).unsqueeze(0)
        elif self.mask == "input":
            pixels = inputs[0].to(logits.dtype).unsqueeze(1)
        else:
            pixels = self._own_pixels(logits)
        return (logits * pixels).flatten(2).sum(2)

    def ranking(self, logits: Tensor, values: Tensor) -> Tensor:
        """``(N, classes)``, largest for the predicted class: pixels won for ``"own"``, the scores otherwise."""
        if not isinstance(self.mask, str) or self.mask != "own" or logits.shape[1] == 1:
            return values
        return self._own_pixels(logits).flatten(2).sum(2)

    def _own_pixels(self, logits: Tensor) -> Tensor:
        """``(N, classes, *spatial)``: one where the class is predicted, without a gradient; ties count for each."""
        scores = logits.detach()
        if logits.shape[1] > 1:
            return (scores == scores.amax(1, keepdim=True)).to(logits.dtype)
        return select_foreground(logits, self.threshold)


@dataclass(frozen=True)
class Similarity:
    """Cosine similarity of the network's embedding ``(N, D)`` to a reference ``(N, D)`` given with each call."""

    inputs: ClassVar[int] = 1
    linear: ClassVar[bool] = False

    def matrix(self, logits: Tensor, image_shape: Sequence[Any], inputs: Sequence[Tensor]) -> Tensor:
        """``(N, 1)``."""
        embedding, reference = logits.flatten(1), inputs[0].flatten(1)
        norms = (embedding * embedding).sum(1) * (reference * reference).sum(1)
        return ((embedding * reference).sum(1) / (norms + torch.finfo(norms.dtype).tiny).sqrt()).unsqueeze(1)


@dataclass(frozen=True)
class Custom:
    """A score that the user defines: ``score(output, class_idx, *inputs) -> (N,)``, differentiated as it stands.

    Where the output holds no class scores, as a detector's, ``class_idx`` is handed on (``-1`` as 0), and the
    explanation's logits are the scores ``(N, k)``.

    Attributes:
        score: a function of whatever the network returns and of ``class_idx (N,)``; it must trace.
        inputs: how many extra inputs it takes, given with each call.
        classes: how many classes there are to choose from where the output holds no class scores; an artifact takes
            only class 0 without it.
    """

    score: Callable[..., Tensor]
    inputs: int = 0
    classes: int | None = None
    linear: ClassVar[bool] = False


Target: TypeAlias = ClassScore | Binary | Difference | Segmentation | Similarity | Custom | BoxScore


def as_target(target: Target | Callable[..., Tensor] | None) -> Target:
    """The target that a user's argument stands for: ``None`` for the class, a function for its score.

    Raises:
        ModelError: neither.
    """
    if target is None:
        return ClassScore()
    if isinstance(target, Target):
        return target
    if callable(target):
        return Custom(target)
    raise ModelError(
        f"target is {type(target).__name__}; expected one of explainable_model.targets or a function "
        "score(output, class_idx) -> (N,)."
    )


def target_name(target: Target) -> str:
    """The target as the metadata names it: ``ClassScore()``, ``Difference(other=3)``, ``Custom(my_score)``."""
    if isinstance(target, Custom):
        return f"Custom({getattr(target.score, '__name__', type(target.score).__name__)})"
    if isinstance(target, Segmentation) and isinstance(target.mask, Tensor):
        return f"Segmentation(mask={tuple(target.mask.shape)})"
    return repr(target)


@dataclass(frozen=True)
class Scores:
    """The prediction in a network's output, and the scores to differentiate.

    Attributes:
        logits: the prediction.
        class_idx: ``(N, k)`` int64, the classes to explain.
        values: ``(N, S)``, the scores.
        columns: ``(N, k)`` int64, where each class has its score.
        classes: how many classes can be explained.
    """

    logits: Tensor
    class_idx: Tensor
    values: Tensor
    columns: Tensor
    classes: int

    @property
    def asked(self) -> Tensor:
        """``(N, k)``: the score of each class that is explained."""
        return self.values.gather(1, self.columns)

    @property
    def first(self) -> Tensor:
        """``(N,)``: the score of the class of each image that is explained first."""
        return self.values.gather(1, self.columns[:, :1]).squeeze(1)


def score_output(
    target: Target, output: Any, select: Select, class_idx: Tensor, inputs: Sequence[Tensor], image_shape: Sequence[Any]
) -> Scores:
    """The prediction, the classes and their scores in a network's output; traces.

    Args:
        target: what is explained.
        output: what the network returned.
        select: which part of it is the prediction.
        class_idx: ``(N,)`` or ``(N, k)`` int64, with ``-1`` in column j for the class predicted j-th.
        inputs: the target's extra inputs.
        image_shape: ``(N, C, *spatial)``.

    Raises:
        ModelError: the output is not what the target needs.
    """
    class_idx = class_idx.unsqueeze(1) if class_idx.ndim == 1 else class_idx
    if isinstance(target, BoxScore):
        return _score_boxes(output, class_idx, inputs)
    if isinstance(target, Custom):
        return _score_custom(target, output, select, class_idx, inputs, image_shape)
    prediction = find_prediction(output, select)
    if isinstance(target, (ClassScore, Binary, Difference)):
        check_class_scores(prediction, image_shape)
    logits = prediction.tensor
    values = target.matrix(logits, image_shape, inputs)
    ranking = target.ranking(logits, values) if isinstance(target, Segmentation) else values
    class_idx = resolve_class_idx(class_idx, ranking)
    return Scores(logits, class_idx, values, class_idx, values.shape[1])


def _score_boxes(found: RankedBoxes, class_idx: Tensor, boxes: Sequence[Tensor]) -> Scores:
    """The scores of the boxes that are asked for; the logits are their table, ``(N, k, 8)``."""
    ranks = resolve_ranks(class_idx, found.places.shape[1])
    places, table = found.match(check_given_boxes(boxes[0], ranks)) if boxes else found.at(ranks)
    return Scores(table, ranks, found.explain(places), number_columns(ranks), found.places.shape[1])


def _score_custom(
    target: Custom,
    output: Any,
    select: Select,
    class_idx: Tensor,
    inputs: Sequence[Tensor],
    image_shape: Sequence[Any],
) -> Scores:
    """The user's score; where the output holds no class scores, it is the prediction too and ``-1`` stands for 0."""
    logits = _class_prediction(output, select, image_shape)
    if logits is None:
        if target.classes is not None and class_idx.device.type == "cpu" and not torch.compiler.is_exporting():
            check_class_range(class_idx, target.classes)
        class_idx = class_idx.clamp_min(0)
    else:
        class_idx = resolve_class_idx(class_idx, class_scores(logits, image_shape[0]))
    columns = [target.score(output, class_idx[:, j], *inputs) for j in range(class_idx.shape[1])]
    for column in columns:
        if not isinstance(column, Tensor) or column.ndim != 1 or column.shape[0] != image_shape[0]:
            got = tuple(column.shape) if isinstance(column, Tensor) else type(column).__name__
            raise ModelError(f"The target's score is {got}; expected one value per image, shape ({image_shape[0]},).")
    values = torch.stack(columns, 1)
    index = torch.zeros_like(class_idx) + torch.arange(len(columns), device=class_idx.device)
    if logits is None:
        return Scores(values, class_idx, values, index, target.classes or 1)
    return Scores(logits, class_idx, values, index, logits.shape[1] if logits.ndim > 1 else 1)


def _class_prediction(output: Any, select: Select, image_shape: Sequence[Any]) -> Tensor | None:
    """The prediction, or ``None`` for an output without class scores, such as a detector's."""
    if select is not None:
        find_prediction(output, select)  # a wrong selection is an error for every target
    try:
        prediction = find_prediction(output, select)
        check_class_scores(prediction, image_shape)
    except ModelError:
        return None
    return prediction.tensor
