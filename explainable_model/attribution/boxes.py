"""The boxes of a detector as something to explain: one score for each box."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypedDict

import torch
from torch import Tensor, nn

from explainable_model.errors import InputError
from explainable_model.explanation import PREDICTED, DetectionExplanation, Detections, Explanation

CUSTOM = "custom"  # the family of a user's own detector
ANY_LEVEL = -1  # of a box that lies on no level of its own


class DetectionArguments(TypedDict, total=False):
    """The keyword arguments of ``ExplainableModel`` for ``task="detection"``."""

    candidates: Callable[[nn.Module, Tensor], tuple[Tensor, Tensor, Tensor]] | None
    score_threshold: float | None
    iou_threshold: float | None
    max_boxes: int | None
    box_score: str
    region: str | None
    by_box: bool


DETECTION_ARGUMENTS = tuple(DetectionArguments.__annotations__)


class RankedBoxes(NamedTuple):
    """The boxes that a detector found, R of each image in the order of their scores.

    Attributes:
        table: ``(N, R, 8)``: ``x1, y1, x2, y2`` in pixels, score, label, whether there is a box, and the level of the
            pyramid that it lies on, ``ANY_LEVEL`` for all. It has no gradient.
        places: ``(N, R)`` int64, which candidate each is.
        explain: from places ``(N, k)`` to what is explained of these candidates ``(N, k)``, with its gradient.
        match: from boxes ``(N, k, 4)`` to the places ``(N, k)`` and the table ``(N, k, 8)`` of the candidates that
            overlap most with them.
    """

    table: Tensor
    places: Tensor
    explain: Callable[[Tensor], Tensor]
    match: Callable[[Tensor], tuple[Tensor, Tensor]]

    def at(self, ranks: Tensor) -> tuple[Tensor, Tensor]:
        """Places ``(N, k)`` and table ``(N, k, 8)`` of the boxes of these ranks ``(N, k)``."""
        return self.places.gather(1, ranks), rows_of(self.table, ranks)


@dataclass(frozen=True)
class BoxScore:
    """What is explained of a detector's boxes, and how the boxes are chosen.

    Attributes:
        family: key of ``DETECTORS``, or ``CUSTOM``.
        score: ``class``, ``objectness``, or a coordinate: ``x1``, ``y1``, ``x2``, ``y2``.
        score_threshold: boxes of a lower score are no boxes.
        iou_threshold: of two boxes of one class that overlap more, the better one stays; ``None`` for no suppression.
        max_boxes: R, how many boxes of an image can be asked for.
        region: ``gaussian`` or ``box`` weights each map by the place of its box; ``None`` leaves it.
        limit: the most boxes that the network's own results have; ``None`` for no limit.
        by_box: whether each call gives boxes, and the candidates that overlap most with them are explained.
    """

    family: str
    score: str = "class"
    score_threshold: float = 0.0
    iou_threshold: float | None = None
    max_boxes: int = 1
    region: str | None = None
    limit: int | None = None
    by_box: bool = False
    linear: ClassVar[bool] = False

    @property
    def inputs(self) -> int:
        """How many extra inputs each call gives: the boxes, where they choose what is explained."""
        return int(self.by_box)

    def to_record(self) -> Mapping[str, Any]:
        """The choice of boxes as an artifact's metadata stores it."""
        return {
            "task": "detection",
            "family": self.family,
            "score": self.score,
            "score_threshold": self.score_threshold,
            "iou_threshold": self.iou_threshold,
            "max_boxes": self.max_boxes,
            "region": self.region,
            "by_box": self.by_box,
        }


def read_box_arguments(record: Mapping[str, Any] | None) -> dict[str, Any]:
    """The arguments of ``ExplainableModel`` that the choice of boxes was made with; none where nothing is recorded.

    Args:
        record: from ``BoxScore.to_record``.

    Raises:
        ValueError: the candidates come from a function of the user.
    """
    if record is None:
        return {}
    if record["family"] == CUSTOM:
        raise ValueError("The record names a function, candidates=, which finds the boxes.")
    names = ("task", "score_threshold", "iou_threshold", "max_boxes", "region", "by_box")
    return {"box_score": record["score"], **{name: record[name] for name in names}}


def resolve_ranks(class_idx: Tensor, count: int) -> Tensor:
    """``class_idx`` ``(N, k)`` with every ``-1`` in column j replaced by rank j.

    Raises:
        InputError: a rank in host memory is out of range.
    """
    if class_idx.device.type == "cpu" and not torch.compiler.is_exporting():
        low, high = int(class_idx.min()), int(class_idx.max())
        if low < PREDICTED or high >= count:
            raise InputError(
                f"class_idx {low if low < PREDICTED else high} is out of range; for a detector it is the rank of a "
                f"box, 0 to {count - 1}, or {PREDICTED} for the boxes of the best scores. max_boxes= finds more boxes."
            )
    return torch.where(class_idx == PREDICTED, number_columns(class_idx), class_idx)


def check_given_boxes(boxes: Tensor, ranks: Tensor) -> Tensor:
    """The boxes ``(N, k, 4)`` that a user gives for k columns, as ``(N, 4)`` for one.

    Raises:
        InputError: another shape or dtype.
    """
    given = boxes.unsqueeze(1) if boxes.ndim == 2 else boxes
    if not boxes.is_floating_point() or given.ndim != 3 or given.shape[1:] != (ranks.shape[1], 4):
        raise InputError(
            f"The box is {boxes.dtype} of shape {tuple(boxes.shape)}; expected x1, y1, x2, y2 in pixels, floating "
            f"point of shape (N, {ranks.shape[1]}, 4)" + (" or (N, 4)." if ranks.shape[1] == 1 else ".")
        )
    return given


def number_columns(ranks: Tensor) -> Tensor:
    """``(N, k)`` int64: the number of each column."""
    return torch.zeros_like(ranks) + torch.arange(ranks.shape[1], device=ranks.device)


def rows_of(table: Tensor, ranks: Tensor) -> Tensor:
    """``(N, k, columns)``: the rows of ``(N, R, columns)`` of these ranks ``(N, k)``."""
    return table.gather(1, ranks.unsqueeze(2).expand(-1, -1, table.shape[2]))


def read_table(table: Tensor) -> Detections[Tensor]:
    """The detections in ``(N, k, 8)``."""
    valid = table[..., 6] > 0.5
    labels = table[..., 5].to(torch.int64)
    return Detections(table[..., :4].clone(), table[..., 4].clone(), labels, valid)


def detection_outputs(table: Tensor, class_idx: Tensor, cam: Tensor) -> tuple[Tensor, ...]:
    """The outputs of a detector's graph, ``DETECTION_NAMES``, from logits, ranks and maps."""
    answer = read_detections(Explanation(table, class_idx, cam))
    return *answer.detections, answer.cam


def read_detections(answer: Explanation[Tensor]) -> DetectionExplanation[Tensor]:
    """The answer about a detector, whose logits are the table of boxes ``(N, k, 8)``."""
    cam = answer.cam if answer.class_idx.ndim > 1 else answer.cam.unsqueeze(1)
    return DetectionExplanation(read_table(answer.logits), cam)
