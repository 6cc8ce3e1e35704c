"""The map of each box, from the maps of the levels of a detector's pyramid."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from explainable_model.attribution.boxes import BoxScore
from explainable_model.attribution.postprocess import resize_maps

LEVELS = "levels"
"""The modules of a wrapped detector that its pyramid passes through are named ``levels.0`` and so on."""
REGIONS = ("gaussian", "box")


def is_pyramid(layers: Sequence[str]) -> bool:
    """Whether these target layers are the levels of a detector's pyramid."""
    return bool(layers) and all(name.startswith(f"{LEVELS}.") for name in layers)


def own_level_maps(maps: Sequence[Tensor], table: Tensor, *, signed: bool) -> Tensor:
    """The map of the level that each box lies on, at the resolution of the finest level.

    A box that lies on no level of its own gets the sum of all.

    Args:
        maps: signed maps ``(N, k, *grid)``, one for each level.
        table: ``(N, k, 8)``, see ``RankedBoxes``.
        signed: whether negative values stay.

    Returns:
        ``(N, k, *grid)``.
    """
    finest = max((cam.shape[2:] for cam in maps), key=list)
    level = table[..., 7]
    total = None
    for number, cam in enumerate(maps):
        kept = cam if signed else cam.relu()
        large = kept if kept.shape[2:] == finest else resize_maps(kept, finest)
        own = ((level == number) | (level < 0)).to(large.dtype).reshape(*level.shape, 1, 1)
        total = large * own if total is None else total + large * own
    assert total is not None
    return total


def weight_region(cam: Tensor, table: Tensor, image_size: Sequence[Any], target: BoxScore) -> Tensor:
    """Weight maps by the places of their boxes, and set those to zero that have no box.

    ``gaussian`` multiplies with ``exp(-d^2 / 2)``, where ``d`` is the distance from the center of the box in units of
    half its size; ``box`` with the share of each cell that lies in the box.

    Args:
        cam: ``(N, k, h, w)``, signed.
        table: ``(N, k, 8)``, see ``RankedBoxes``.
        image_size: height and width of the image.
        target: says which weight.

    Source: Nguyen et al. 2023, arXiv 2306.03400 (G-CAME), section 3.3, whose Gaussian has a width of its own.
    """
    cam = cam * table[..., 6].to(cam.dtype).reshape(*table.shape[:2], 1, 1)
    if target.region is None:
        return cam
    boxes = table[..., :4].to(cam.dtype)
    rows = _axis_weight(boxes[..., 1], boxes[..., 3], cam.shape[2], image_size[0], target.region)
    columns = _axis_weight(boxes[..., 0], boxes[..., 2], cam.shape[3], image_size[1], target.region)
    return cam * rows.unsqueeze(3) * columns.unsqueeze(2)


def _axis_weight(low: Tensor, high: Tensor, cells: Any, length: Any, region: str) -> Tensor:
    """``(N, k, cells)``: the weight of each cell along one axis, for boxes from ``low`` to ``high`` ``(N, k)``."""
    width = length / cells
    start = torch.arange(cells, dtype=low.dtype, device=low.device) * width
    low, high = low.unsqueeze(2), high.unsqueeze(2)
    if region == "box":
        inside = torch.minimum(start + width, high) - torch.maximum(start, low)
        share: Tensor = (inside / width).clamp(min=0.0)
        return share
    half = ((high - low) / 2).clamp(min=width / 2)
    distance = (start + width / 2 - (low + high) / 2) / half
    return torch.exp(-0.5 * distance * distance)
