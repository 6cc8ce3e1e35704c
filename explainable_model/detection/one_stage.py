"""torchvision's detectors of one stage: RetinaNet, FCOS and SSD."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from explainable_model.detection.candidates import Candidates, Explained, best_places, clip_boxes, log_odds, take
from explainable_model.detection.family import Tap
from explainable_model.detection.torchvision_input import Prepared, prepare, pyramid_of
from explainable_model.detection.windows import local_layers, locate, run_at

CLASS_HEAD = "RetinaNetClassificationHead"  # whose modules are known


def retinanet(network: Any, image: Tensor, tap: Tap) -> Candidates:
    """Candidates of ``torchvision.models.detection.RetinaNet``: pairs of an anchor and a class.

    Source: Lin et al. 2017, arXiv 1708.02002.
    """
    prepared, levels, anchors, lengths = _run(network, image, tap)
    head = network.head(levels)
    logits, deltas = head["cls_logits"], head["bbox_regression"]
    scores = logits.detach().sigmoid()
    places, level = _best_of_levels(scores, lengths, network.topk_candidates)

    def decode(offsets: Tensor, at: Tensor) -> Tensor:
        flat = network.box_coder.decode_single(take(offsets, at).flatten(0, 1), anchors[at].flatten(0, 1))
        return cast(Tensor, flat.reshape(*at.shape, 4))

    found = _pairs(prepared, logits, scores, deltas, places, level, decode)
    part: Any = getattr(network.head, "classification_head", None) if tap.only_windows else None
    layers = local_layers(part.conv, part.cls_logits) if type(part).__name__ == CLASS_HEAD else None
    if layers is None:
        return found
    anchor = torch.div(places, logits.shape[2], rounding_mode="floor")
    starts, counts = _starts(levels, [network.anchor_generator.num_anchors_per_location()[0]] * len(levels))

    def of_class(chosen: Tensor) -> Tensor:
        on, at = take(level, chosen), take(anchor, chosen)
        own = at - _by_level(starts, on)
        cell = torch.div(own, counts[0], rounding_mode="floor")
        outputs = run_at(layers, levels, locate(cell, on, levels))
        channel = (own - cell * counts[0]) * logits.shape[2] + take(found.labels, chosen)
        return outputs.gather(2, channel.unsqueeze(2)).squeeze(2)

    return replace(found, explained={**found.explained, "class": of_class})


def fcos(network: Any, image: Tensor, tap: Tap) -> Candidates:
    """Candidates of ``torchvision.models.detection.FCOS``: pairs of a point and a class.

    The detector's own score is the geometric mean of the probabilities of the class and of its centerness; the logit
    of the class is explained, or, as ``objectness``, that of the centerness.

    Source: Tian et al. 2019, arXiv 1904.01355.
    """
    prepared, levels, anchors, lengths = _run(network, image, tap)
    head = network.head(levels)
    logits, deltas, center = head["cls_logits"], head["bbox_regression"], head["bbox_ctrness"]
    scores = torch.sqrt(logits.detach().sigmoid() * center.detach().sigmoid())
    places, level = _best_of_levels(scores, lengths, network.topk_candidates)

    def decode(offsets: Tensor, at: Tensor) -> Tensor:
        return cast(Tensor, network.box_coder.decode(take(offsets, at), anchors[at]))

    return _pairs(prepared, logits, scores, deltas, places, level, decode, {"objectness": center.squeeze(2)})


def _run(network: Any, image: Tensor, tap: Tap) -> tuple[Prepared, list[Tensor], Tensor, list[int]]:
    """The prepared image, the levels of the pyramid, the anchors ``(A, 4)``, and how many lie on each level."""
    from torchvision.models.detection.image_list import ImageList

    prepared = prepare(network.transform, image)
    levels = tap(pyramid_of(network.backbone, prepared.image))
    one = ImageList(prepared.image[:1], [(prepared.height, prepared.width)])
    anchors = network.anchor_generator(one, [level[:1] for level in levels])[0]
    cells = [int(level.shape[2]) * int(level.shape[3]) for level in levels]
    per_cell = int(anchors.shape[0]) // sum(cells)
    return prepared, levels, anchors, [count * per_cell for count in cells]


def _best_of_levels(scores: Tensor, lengths: Sequence[int], count: int) -> tuple[Tensor, Tensor]:
    """Places ``(N, M)`` in the pairs of all levels of the best pairs of each level, and the level of each."""
    classes = scores.shape[2]
    found, levels, start = [], [], 0
    for number, length in enumerate(lengths):
        part = scores[:, start : start + length].flatten(1)
        places = best_places(part, count)
        found.append(places + start * classes)
        levels.append(torch.full_like(places, number))
        start += length
    return torch.cat(found, 1), torch.cat(levels, 1)


def _pairs(
    prepared: Prepared,
    logits: Tensor,
    scores: Tensor,
    deltas: Tensor,
    places: Tensor,
    levels: Tensor,
    decode: Callable[[Tensor, Tensor], Tensor],
    of_anchors: dict[str, Tensor] | None = None,
) -> Candidates:
    """Candidates that are pairs of an anchor and a class, at ``places`` ``(N, M)`` of ``(N, anchors, classes)``."""
    classes = logits.shape[2]
    anchor = torch.div(places, classes, rounding_mode="floor")
    height, width = prepared.height, prepared.width

    def coordinates(chosen: Tensor) -> Tensor:
        return prepared.to_original(clip_boxes(decode(deltas, take(anchor, chosen)), height, width))

    flat = logits.flatten(1)
    explained: dict[str, Explained] = {"class": lambda chosen: flat.gather(1, take(places, chosen))}
    for name, values in (of_anchors or {}).items():
        explained[name] = partial(_of_anchor, values, anchor)
    return Candidates(
        scores=scores.flatten(1).gather(1, places),
        boxes=prepared.to_original(clip_boxes(decode(deltas.detach(), anchor), height, width)),
        labels=places - anchor * classes,
        explained=explained,
        coordinates=coordinates,
        levels=levels,
    )


def _of_anchor(values: Tensor, anchor: Tensor, chosen: Tensor) -> Tensor:
    return values.gather(1, take(anchor, chosen))


def ssd(network: Any, image: Tensor, tap: Tap) -> Candidates:
    """Candidates of ``torchvision.models.detection.SSD``, SSDlite too: the best anchors of each class.

    The classes of an anchor share a softmax, so the log-odds of the class are explained.

    Source: Liu et al. 2016, arXiv 1512.02325.
    """
    prepared, levels, anchors, _ = _run(network, image, tap)
    head = network.head(levels)
    logits, deltas = head["cls_logits"], head["bbox_regression"]
    scores = torch.softmax(logits.detach(), 2)[..., 1:].transpose(1, 2)
    best = scores.topk(min(network.topk_candidates, int(scores.shape[2])), dim=2)
    anchor = best.indices.flatten(1)
    labels = torch.arange(1, logits.shape[2], device=image.device).repeat_interleave(best.indices.shape[2])
    labels = labels.expand_as(anchor)
    height, width = prepared.height, prepared.width

    def decode(offsets: Tensor, at: Tensor) -> Tensor:
        flat = network.box_coder.decode_single(take(offsets, at).flatten(0, 1), anchors[at].flatten(0, 1))
        return prepared.to_original(clip_boxes(flat.reshape(*at.shape, 4), height, width))

    level = _level_of_anchor(network, levels, anchor)
    parts = [local_layers(part) for part in network.head.classification_head.module_list]
    starts, counts = _starts(levels, network.anchor_generator.num_anchors_per_location())

    def at_windows(chosen: Tensor) -> Tensor:
        """``(N, k, classes)``: the logits of the anchors, computed at their places alone."""
        on, at = take(level, chosen), take(anchor, chosen)
        own = at - _by_level(starts, on)
        per_cell = _by_level(counts, on)
        cell = torch.div(own, per_cell, rounding_mode="floor")
        places, total = locate(cell, on, levels), None
        for number, layers in enumerate(parts):
            outputs = torch.unflatten(run_at(layers or [], levels, places, only=number), 2, (counts[number], -1))
            which = (own - cell * per_cell).clamp(max=counts[number] - 1)[..., None, None]
            row = outputs.gather(2, which.expand(-1, -1, 1, logits.shape[2])).squeeze(2)
            row = row * places.is_on(number, row).unsqueeze(2)
            total = row if total is None else total + row
        assert isinstance(total, Tensor)
        return total

    def of_class(chosen: Tensor) -> Tensor:
        local = tap.only_windows and None not in parts
        rows = at_windows(chosen) if local else take(logits, take(anchor, chosen))
        return log_odds(rows, take(labels, chosen))

    return Candidates(
        scores=best.values.flatten(1),
        boxes=decode(deltas.detach(), anchor),
        labels=labels,
        explained={"class": of_class},
        coordinates=lambda chosen: decode(deltas, take(anchor, chosen)),
        levels=level,
    )


def _starts(levels: Sequence[Tensor], per_cell: Sequence[int]) -> tuple[list[int], list[int]]:
    """The first anchor of each level, and how many lie at each cell."""
    sizes = [int(level.shape[2]) * int(level.shape[3]) * int(n) for level, n in zip(levels, per_cell, strict=False)]
    return [sum(sizes[:number]) for number in range(len(sizes))], [int(n) for n in per_cell]


def _by_level(values: Sequence[int], level: Tensor) -> Tensor:
    return torch.tensor(list(values), device=level.device)[level]


def _level_of_anchor(network: Any, levels: Sequence[Tensor], anchor: Tensor) -> Tensor:
    counts = network.anchor_generator.num_anchors_per_location()
    level, start = torch.zeros_like(anchor), 0
    for tensor, per_cell in zip(levels[:-1], counts, strict=False):
        start += int(tensor.shape[2]) * int(tensor.shape[3]) * int(per_cell)
        level = level + (anchor >= start).to(level.dtype)
    return level
