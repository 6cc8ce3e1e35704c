"""torchvision's detectors of two stages: Faster R-CNN, and the boxes of Mask R-CNN and Keypoint R-CNN."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from explainable_model.detection.candidates import Candidates, best_places, clip_boxes, log_odds, take
from explainable_model.detection.choice import NOTHING, keep_best
from explainable_model.detection.family import Tap, Thresholds
from explainable_model.detection.roi_pooling import RoiPooling
from explainable_model.detection.torchvision_input import Prepared, prepare

SMALLEST_BOX = 1e-2  # of a result, in torchvision


class _Proposals(NamedTuple):
    """The boxes of the first stage.

    Attributes:
        boxes: ``(N, P, 4)`` in pixels of the prepared image.
        valid: ``(N, P)`` bool.
        objectness: ``(N, P)``, their logits, with the gradient.
    """

    boxes: Tensor
    valid: Tensor
    objectness: Tensor


def count_levels(network: Any) -> int:
    """How many levels boxes are cut out of: a small backbone has fewer than the pooler names."""
    named = len(network.roi_heads.box_roi_pool.featmap_names)
    blocks = getattr(getattr(network.backbone, "fpn", None), "inner_blocks", None)
    return min(named, len(network.rpn.anchor_generator.sizes) if blocks is None else len(blocks))


def thresholds(network: Any) -> Thresholds:
    """Those of the second stage."""
    heads = network.roi_heads
    return Thresholds(float(heads.score_thresh), float(heads.nms_thresh), int(heads.detections_per_img))


def faster_rcnn(network: Any, image: Tensor, tap: Tap) -> Candidates:
    """Candidates of ``torchvision.models.detection.FasterRCNN``: pairs of a proposal and a class.

    The second stage runs on all proposals without a gradient. What is explained runs once more, on the chosen boxes
    alone: the log-odds of the class. The proposals themselves get no gradient, as in training.

    Source: Ren et al. 2015, arXiv 1506.01497.
    """
    prepared = prepare(network.transform, image)
    features = network.backbone(prepared.image)
    features = {"0": features} if isinstance(features, Tensor) else dict(features)
    names = [name for name in features if name in network.roi_heads.box_roi_pool.featmap_names]
    maps = tap([features[name] for name in names])
    features.update(zip(names, maps, strict=True))
    proposals = _propose(network.rpn, list(features.values()), prepared)
    heads = network.roi_heads
    pooling = RoiPooling.of(heads.box_roi_pool, maps, prepared.height, prepared.width)
    levels = pooling.levels_of(proposals.boxes)
    pooled = pooling.sample([level.detach() for level in maps], proposals.boxes, levels)
    logits, deltas = heads.box_predictor(heads.box_head(pooled))
    count, classes = proposals.boxes.shape[1], int(logits.shape[1])
    scores = torch.softmax(logits.detach(), 1).reshape(-1, count, classes)[..., 1:]
    boxes = _decode(heads, deltas.detach(), proposals.boxes, prepared)[:, :, 1:].flatten(1, 2)
    sides = boxes[..., 2:] - boxes[..., :2]
    good = (sides >= SMALLEST_BOX).all(2) & proposals.valid.repeat_interleave(classes - 1, 1)
    values = torch.where(good, scores.flatten(1), torch.full_like(scores.flatten(1), NOTHING))
    place = torch.arange(values.shape[1], device=values.device).expand(values.shape)
    proposal = torch.div(place, classes - 1, rounding_mode="floor")
    labels = place - proposal * (classes - 1) + 1

    def again(chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The second stage on the proposals of the chosen candidates alone."""
        at = take(proposal, chosen)
        rois = take(proposals.boxes, at)
        found = heads.box_predictor(heads.box_head(pooling.cut(maps, rois, take(levels, at))))
        return rois, *found

    def of_class(chosen: Tensor) -> Tensor:
        _, found, _ = again(chosen)
        return log_odds(found.reshape(*chosen.shape, classes), take(labels, chosen))

    def coordinates(chosen: Tensor) -> Tensor:
        rois, _, moves = again(chosen)
        all_classes = _decode(heads, moves, rois, prepared)
        own = take(labels, chosen)[..., None, None].expand(-1, -1, 1, 4)
        return prepared.to_original(all_classes.gather(2, own).squeeze(2))

    return Candidates(
        scores=values,
        boxes=prepared.to_original(boxes),
        labels=labels,
        explained={"class": of_class, "objectness": lambda chosen: take(proposals.objectness, take(proposal, chosen))},
        coordinates=coordinates,
        levels=take(levels, proposal),
        tie_boxes=boxes,
    )


def _decode(heads: Any, deltas: Tensor, boxes: Tensor, prepared: Prepared) -> Tensor:
    """``(N, R, classes, 4)``: the boxes of all classes, cut at the border of the prepared image."""
    found = heads.box_coder.decode_single(deltas, boxes.flatten(0, 1))
    return clip_boxes(found.reshape(*boxes.shape[:2], -1, 4), prepared.height, prepared.width)


def _propose(rpn: Any, maps: Sequence[Tensor], prepared: Prepared) -> _Proposals:
    """The first stage: the best anchors of each level, without duplicates on one level."""
    from torchvision.models.detection.image_list import ImageList

    objectness, deltas = rpn.head(maps)
    one = ImageList(prepared.image[:1], [(prepared.height, prepared.width)])
    anchors = rpn.anchor_generator(one, [level[:1] for level in maps])[0]
    found, kept, logits, start = [], [], [], 0
    for scores, moves in zip(objectness, deltas, strict=True):
        per_cell = int(scores.shape[1])
        flat = scores.permute(0, 2, 3, 1).flatten(1)
        length = int(scores.shape[1] * scores.shape[2] * scores.shape[3])
        moves = torch.unflatten(moves.detach(), 1, (per_cell, 4)).permute(0, 3, 4, 1, 2).reshape(-1, length, 4)
        places = best_places(flat.detach(), rpn.pre_nms_top_n())
        base = anchors[start : start + length][places]
        boxes = rpn.box_coder.decode_single(take(moves, places).flatten(0, 1), base.flatten(0, 1))
        boxes = clip_boxes(boxes.reshape(*places.shape, 4), prepared.height, prepared.width)
        probability = flat.detach().gather(1, places).sigmoid()
        sides = boxes[..., 2:] - boxes[..., :2]
        good = (sides >= rpn.min_size).all(2) & (probability >= rpn.score_thresh)
        good = keep_best(boxes, good, float(rpn.nms_thresh))
        found.append(boxes)
        kept.append(torch.where(good, probability, torch.full_like(probability, NOTHING)))
        logits.append(flat.gather(1, places))
        start += length
    scores = torch.cat(kept, 1)
    best = best_places(scores, rpn.post_nms_top_n())
    return _Proposals(take(torch.cat(found, 1), best), take(scores, best) > NOTHING, take(torch.cat(logits, 1), best))
