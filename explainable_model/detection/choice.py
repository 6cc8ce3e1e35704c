"""The choice of boxes: threshold, suppression of duplicates class by class, order. It has no gradient."""

import torch
from torch import Tensor

from explainable_model.attribution.boxes import ANY_LEVEL, BoxScore
from explainable_model.detection.candidates import Candidates, take
from explainable_model.errors import InputError

NOTHING = -1.0  # the score of a candidate that is out
TIE = 1e-4  # the share of the score where overlaps are equal
ROUNDS = 24  # of suppression in a graph; clusters of boxes are decided within a few


def choose_boxes(candidates: Candidates, how: BoxScore) -> tuple[Tensor, Tensor]:
    """The boxes that a detector's own post-processing keeps first.

    Args:
        candidates: M of each image.
        how: thresholds and the number of boxes, R.

    Returns:
        Places ``(N, R)`` of the chosen candidates, and the table ``(N, R, 8)`` of ``RankedBoxes``.

    Raises:
        InputError: there are fewer candidates than boxes are asked for.
    """
    if candidates.scores.shape[1] < how.max_boxes:
        raise InputError(
            f"top_k or max_boxes asks for {how.max_boxes} boxes; the detector has {candidates.scores.shape[1]} "
            "candidates for an image of this size. Ask for fewer."
        )
    scores = candidates.scores.detach()
    scores = torch.where(scores > how.score_threshold, scores, torch.full_like(scores, NOTHING))
    if how.iou_threshold is None:
        best = scores.topk(how.max_boxes, dim=1)
        places, kept = best.indices, best.values
    else:
        boxes = candidates.boxes if candidates.tie_boxes is None else candidates.tie_boxes
        places, kept = suppress(scores, boxes.detach(), candidates.labels, how.max_boxes, how.iou_threshold)
    if how.limit is not None and how.limit < how.max_boxes:
        beyond = torch.arange(how.max_boxes, device=kept.device) >= how.limit
        kept = torch.where(beyond, torch.full_like(kept, NOTHING), kept)
    return places, _fill_table(candidates, places, kept)


@torch.no_grad()
def match_boxes(candidates: Candidates, how: BoxScore, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """The candidates that overlap most with given boxes; of the same overlap, the one with the best score.

    Args:
        candidates: M of each image.
        how: its ``score_threshold`` says which candidates are boxes.
        boxes: ``(N, k, 4)``.

    Returns:
        Places ``(N, k)``, and the table ``(N, k, 8)``; a box that no candidate overlaps is not valid.
    """
    scores, known = candidates.scores.detach(), candidates.boxes.detach()
    own = (known[..., 2:] - known[..., :2]).prod(2)
    boxes = boxes.to(known.dtype)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(2)
    good = (scores > how.score_threshold).unsqueeze(1)
    overlap = overlap_with(boxes.unsqueeze(2), area.unsqueeze(2), known.unsqueeze(1), own.unsqueeze(1))
    overlap = torch.where(good & (overlap > 0), overlap, torch.zeros_like(overlap))
    places = (overlap + TIE * scores.unsqueeze(1)).argmax(2)
    found = overlap.gather(2, places.unsqueeze(2)).squeeze(2) > 0
    kept = torch.where(found, take(scores, places), torch.full_like(boxes[..., 0], NOTHING))
    return places, _fill_table(candidates, places, kept)


def suppress(scores: Tensor, boxes: Tensor, labels: Tensor, count: int, iou_threshold: float) -> tuple[Tensor, Tensor]:
    """Greedy non-maximum suppression, class by class, that stops after ``count`` boxes.

    Args:
        scores: ``(N, M)``; one below zero is out.
        boxes: ``(N, M, 4)``.
        labels: ``(N, M)`` int64.
        count: R.
        iou_threshold: a box goes that overlaps a better one of its class more than this.

    Returns:
        Places ``(N, R)`` in the order of their scores, and their scores, negative where there is no box.
    """
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    out = torch.full_like(scores, NOTHING)
    index = torch.arange(scores.shape[1], device=scores.device)
    places, kept = [], []
    for _ in range(count):
        best, place = scores.max(1, keepdim=True)
        places.append(place)
        kept.append(best)
        overlap = overlap_with(take(boxes, place), take(area, place), boxes, area)
        gone = ((overlap > iou_threshold) & (labels == take(labels, place))) | (index == place)
        scores = torch.where(gone, out, scores)
    return torch.cat(places, 1), torch.cat(kept, 1)


def keep_best(boxes: Tensor, good: Tensor, iou_threshold: float) -> Tensor:
    """Greedy non-maximum suppression of all boxes, which are sorted by their scores.

    A box stays where no better box that stays overlaps it too much. Starting with all boxes, this rule is applied until
    nothing changes: after t times, t boxes of each chain of overlaps are decided. Tracing applies it ``ROUNDS`` times,
    and where it still changes something, all boxes become invalid.

    Args:
        boxes: ``(N, M, 4)``, the best first.
        good: ``(N, M)`` bool, which are boxes at all.
        iou_threshold: a box goes that overlaps a better one more than this.

    Returns:
        ``(N, M)`` bool.
    """
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    overlap = overlap_with(boxes.unsqueeze(2), area.unsqueeze(2), boxes.unsqueeze(1), area.unsqueeze(1))
    order = torch.arange(boxes.shape[1], device=boxes.device)
    hides = ((overlap > iou_threshold) & (order.unsqueeze(1) < order)).to(boxes.dtype)
    allowed = good.to(boxes.dtype).unsqueeze(1)
    keep = before = allowed
    for _ in range(ROUNDS if torch.compiler.is_exporting() else boxes.shape[1]):
        before, keep = keep, allowed * (torch.matmul(keep, hides) < 0.5).to(boxes.dtype)
        if not torch.compiler.is_exporting() and torch.equal(before, keep):
            break
    if torch.compiler.is_exporting():
        keep = keep * (before == keep).all(2, keepdim=True).to(keep.dtype)
    return keep.squeeze(1) > 0.5


def overlap_with(box: Tensor, box_area: Tensor, boxes: Tensor, areas: Tensor) -> Tensor:
    """``(N, M)``: intersection over union of one box ``(N, 1, 4)`` with all ``(N, M, 4)``."""
    low = torch.maximum(box[..., :2], boxes[..., :2])
    high = torch.minimum(box[..., 2:], boxes[..., 2:])
    sides = (high - low).clamp(min=0)
    shared = sides[..., 0] * sides[..., 1]
    return shared / (box_area + areas - shared)


def _fill_table(candidates: Candidates, places: Tensor, kept: Tensor) -> Tensor:
    valid = kept > NOTHING
    boxes = take(candidates.boxes.detach(), places)
    dtype = boxes.dtype
    labels = take(candidates.labels, places)
    levels = torch.full_like(places, ANY_LEVEL) if candidates.levels is None else take(candidates.levels, places)
    present = valid.unsqueeze(2)
    columns = torch.stack([torch.where(valid, kept, torch.zeros_like(kept)).to(dtype),
                           torch.where(valid, labels, torch.full_like(labels, -1)).to(dtype),
                           valid.to(dtype), levels.to(dtype)], 2)  # fmt: skip
    return torch.cat([torch.where(present, boxes, torch.zeros_like(boxes)), columns], 2)
