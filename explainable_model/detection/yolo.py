"""Detectors with the heads of ultralytics: YOLOv5u, v8, v9, v10, 11, 12 and 26, boxes, masks and key points.

ultralytics is under the AGPL: it is never imported here. A network that the user brings is called through its modules.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from explainable_model.detection.candidates import Candidates, clip_boxes, take
from explainable_model.detection.family import Tap, Thresholds
from explainable_model.detection.windows import local_layers, locate, run_at
from explainable_model.errors import ModelError

HEADS = ("Detect", "v10Detect", "Segment", "Segment26", "Pose", "Pose26")
THRESHOLDS = Thresholds(score=0.25, iou=0.7)  # of ultralytics' predict()
MOST = 300  # boxes of a head without suppression
CLASS_OFFSET = 7680.0  # by which ultralytics moves the boxes of each class apart


class _Raw(NamedTuple):
    """What a head computes of A points.

    Attributes:
        logits: ``(N, classes, A)``.
        distances: ``(N, 4, A)``, left, top, right and bottom of each point's box, in cells.
        centers: ``(2, A)``, across and down, in cells.
        strides, levels: ``(A,)``.
    """

    logits: Tensor
    distances: Tensor
    centers: Tensor
    strides: Tensor
    levels: Tensor


def head_of(network: Any) -> Any:
    """The head of a network of ultralytics.

    Raises:
        ModelError: it has another head than those that are known.
    """
    head = network.model[-1]
    if type(head).__name__ not in HEADS:
        raise ModelError(
            f"{type(network).__name__} has the head {type(head).__name__}; known heads are {', '.join(HEADS)}. Give "
            "candidates=lambda network, image: (scores, boxes, labels)."
        )
    return head


def count_levels(network: Any) -> int:
    """How many maps go into the head."""
    return int(head_of(network).nl)


def thresholds(network: Any) -> Thresholds:
    """Those of ultralytics' ``predict``; a head without suppression has no ``iou``."""
    return Thresholds(THRESHOLDS.score, None if _is_one_to_one(head_of(network)) else THRESHOLDS.iou, MOST)


def _is_one_to_one(head: Any) -> bool:
    return bool(getattr(head, "end2end", False))


def yolo(network: Any, image: Tensor, tap: Tap) -> Candidates:
    """Candidates of a network of ultralytics.

    With suppression each point has its best class alone; without, the best ``MOST`` points have all classes.

    Source: Jocher et al. 2023, YOLOv8; Wang et al. 2024, arXiv 2405.14458 (YOLOv10).
    """
    head = head_of(network)
    maps = tap(_run_body(network, image))
    raw = _run_head(head, maps)
    height, width = int(image.shape[2]), int(image.shape[3])
    scores = raw.logits.detach().sigmoid()
    boxes = _decode(raw, raw.distances.detach())
    count = int(raw.strides.shape[0])
    if _is_one_to_one(head):
        points = scores.amax(1).topk(min(int(getattr(head, "max_det", MOST)), count), dim=1).indices
        classes = scores.shape[1]
        points = points.unsqueeze(2).expand(-1, -1, classes).flatten(1)
        labels = torch.arange(classes, device=image.device).repeat(points.shape[1] // classes).expand_as(points)
        values = scores.flatten(1).gather(1, labels * count + points)
    else:
        values, labels = scores.max(1)
        points = torch.arange(count, device=image.device).expand_as(labels)
    flat, chosen_boxes = raw.logits.flatten(1), take(boxes, points)
    apart = chosen_boxes + (labels.to(boxes.dtype) * CLASS_OFFSET).unsqueeze(2)

    def coordinates(chosen: Tensor) -> Tensor:
        return clip_boxes(take(_decode(raw, raw.distances), take(points, chosen)), height, width)

    parts = [local_layers(part) for part in _class_heads(head)]
    areas = [int(level.shape[2]) * int(level.shape[3]) for level in maps]
    starts = torch.tensor([sum(areas[:number]) for number in range(len(areas))], device=image.device)

    def of_class(chosen: Tensor) -> Tensor:
        label, point = take(labels, chosen), take(points, chosen)
        if not tap.only_windows or None in parts:
            return flat.gather(1, label * count + point)
        on = raw.levels[point]
        places, total = locate(point - starts[on], on, maps), None
        for number, layers in enumerate(parts):
            outputs = run_at(layers or [], maps, places, only=number).gather(2, label.unsqueeze(2)).squeeze(2)
            own = outputs * places.is_on(number, outputs)
            total = own if total is None else total + own
        assert total is not None
        return total

    return Candidates(
        scores=values,
        boxes=clip_boxes(chosen_boxes, height, width),
        labels=labels,
        explained={"class": of_class},
        coordinates=coordinates,
        levels=raw.levels[points],
        tie_boxes=apart,
    )


def _run_body(network: Any, image: Tensor) -> list[Tensor]:
    """The maps that go into the head: every layer knows, as ``f``, which outputs it takes."""
    *body, head = network.model
    outputs: list[Any] = []
    value: Any = image
    for layer in body:
        value = layer(_inputs_of(layer, value, outputs))
        outputs.append(value)
    maps: list[Tensor] = _inputs_of(head, value, outputs)
    return maps


def _inputs_of(layer: Any, last: Any, outputs: Sequence[Any]) -> Any:
    if isinstance(layer.f, int):
        return last if layer.f == -1 else outputs[layer.f]
    return [last if number == -1 else outputs[number] for number in layer.f]


def _class_heads(head: Any) -> nn.ModuleList:
    found: nn.ModuleList = head.one2one_cv3 if _is_one_to_one(head) else head.cv3
    return found


def _run_head(head: Any, maps: Sequence[Tensor]) -> _Raw:
    box_heads: nn.ModuleList = head.one2one_cv2 if _is_one_to_one(head) else head.cv2
    logits = torch.cat([module(level).flatten(2) for module, level in zip(_class_heads(head), maps, strict=True)], 2)
    boxes = torch.cat([module(level).flatten(2) for module, level in zip(box_heads, maps, strict=True)], 2)
    centers, strides, levels = [], [], []
    for number, level in enumerate(maps):
        rows, columns = int(level.shape[2]), int(level.shape[3])
        down, across = torch.meshgrid(
            torch.arange(rows, device=level.device, dtype=level.dtype) + 0.5,
            torch.arange(columns, device=level.device, dtype=level.dtype) + 0.5,
            indexing="ij",
        )
        centers.append(torch.stack([across.flatten(), down.flatten()]))
        strides.append(head.stride[number].to(level).expand(rows * columns))
        levels.append(torch.full((rows * columns,), number, device=level.device))
    return _Raw(logits, head.dfl(boxes), torch.cat(centers, 1), torch.cat(strides), torch.cat(levels))


def _decode(raw: _Raw, distances: Tensor) -> Tensor:
    """``(N, A, 4)``: boxes in pixels, computed in the order in which ultralytics does."""
    low, high = raw.centers - distances[:, :2], raw.centers + distances[:, 2:]
    center, size = (low + high) / 2 * raw.strides, (high - low) * raw.strides
    return torch.cat([center - size / 2, center + size / 2], 1).transpose(1, 2)
