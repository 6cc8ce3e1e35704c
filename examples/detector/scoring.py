"""Scores of a detector: average precision of each class at an IoU of one half, precision and recall."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scenes import Boxes, Scene

IOU = 0.5
SURE = 0.5  # score from which on precision and recall count


@dataclass(frozen=True)
class Found:
    """What a detector found in one scene, surest first.

    Attributes:
        boxes: ``(k, 4)``.
        labels: ``(k,)``.
        scores: ``(k,)``.
    """

    boxes: Boxes
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Scores:
    """Scores over all scenes.

    Attributes:
        average_precision: of each class: the area under precision over recall.
        precision: share of the boxes from score 0.5 on that are right.
        recall: share of the objects that they find.
    """

    average_precision: tuple[float, ...]
    precision: float
    recall: float

    @property
    def mean(self) -> float:
        """Mean of the average precisions."""
        return float(np.mean(self.average_precision))


def score_detections(pairs: Sequence[tuple[Found, Scene]], classes: int) -> Scores:
    """Compare what was found with what is there.

    Source: Everingham et al. 2010, doi 10.1007/s11263-009-0275-4, with the area under the whole curve.
    """
    right: list[tuple[int, float, bool]] = []  # class, score, whether it is right
    objects = np.zeros(classes, int)
    for found, scene in pairs:
        objects += np.bincount(scene.labels, minlength=classes)
        matched = match(found, scene)
        right += zip(found.labels.tolist(), found.scores.tolist(), matched, strict=True)
    averages = tuple(
        _integrate([row[1:] for row in right if row[0] == label], objects[label]) for label in range(classes)
    )
    sure = [is_right for _, score, is_right in right if score >= SURE]
    return Scores(averages, sum(sure) / max(len(sure), 1), sum(sure) / int(objects.sum()))


def match(found: Found, scene: Scene) -> list[bool]:
    """Tell of each box whether it is the surest one on an object of its class."""
    free = np.ones(len(scene.boxes), bool)
    matched = []
    for box, label in zip(found.boxes, found.labels, strict=True):
        overlaps = np.where(free & (scene.labels == label), intersection_over_union(box, scene.boxes), 0)
        best = int(overlaps.argmax()) if overlaps.size else -1
        matched.append(bool(best >= 0 and overlaps[best] >= IOU))
        if matched[-1]:
            free[best] = False
    return matched


def intersection_over_union(box: NDArray[np.float32], boxes: Boxes) -> NDArray[np.float32]:
    """Compute the overlap of one box with each of others, ``(k,)``."""
    sides = (np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])).clip(0)
    shared = sides.prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return shared / ((box[2:] - box[:2]).prod() + areas - shared)


def _integrate(rows: Sequence[tuple[float, bool]], objects: int) -> float:
    """Integrate precision over recall; precision is that of the best point to the right."""
    ordered = np.array([is_right for _, is_right in sorted(rows, key=lambda row: -row[0])], float)
    if not ordered.size or not objects:
        return 0.0
    hits = ordered.cumsum()
    precision = hits / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((best * ordered).sum() / objects)
