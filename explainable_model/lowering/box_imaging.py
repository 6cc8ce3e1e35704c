"""What photos of detectors need in the graph: a border around the photo, and boxes in its own pixels."""

from typing import Any, TypeAlias

import torch
from torch import Tensor

from explainable_model.lowering.sampling import blend, find_taps, locate

Place: TypeAlias = tuple[Any, Any, Any, Any]  # left, top, columns, rows of a photo in an image with a border

AXES = (1, 0, 1, 0)  # of sizes (height, width), for the edges of a box


def draw_border(levels: Tensor, place: Place, pad: float) -> Tensor:
    """Set to gray what lies outside of the photo, in ``(N, C, h, w)``."""
    left, top, columns, rows = place
    down = torch.arange(levels.shape[2], device=levels.device).unsqueeze(1)
    across = torch.arange(levels.shape[3], device=levels.device)
    inside = (down >= top) & (down < top + rows) & (across >= left) & (across < left + columns)
    return torch.where(inside, levels, float(round(255 * pad)))


def cut_border(cam: Tensor, size: tuple[Any, Any], place: Place) -> Tensor:
    """Maps ``(N, k, H, W)`` of a photo of this size, of maps of the image with its border."""
    left, top, columns, rows = place
    for dim, length, resized, first in ((3, size[1], columns, left), (2, size[0], rows, top)):
        where = locate(length, 0, resized, length, cam.device)
        taps = find_taps(where, length, resized - 1, cam.dtype)
        cam = blend(cam, dim, [(pixel + first, weight) for pixel, weight in taps])
    return cam


def place_boxes(boxes: Tensor, size: tuple[Any, Any], resized: tuple[Any, Any], corner: tuple[Any, Any]) -> Tensor:
    """Bring boxes from pixels of the image to pixels of the photo, where they end at its border.

    Args:
        boxes: ``(..., 4)``.
        size: height and width of the photo.
        resized: height and width of the resized photo.
        corner: top and left of the image in it; ``None`` for zero.
    """
    wide = _widen(boxes)
    edges = []
    for edge, axis in enumerate(AXES):
        value = wide[..., edge] if corner[axis] is None else wide[..., edge] + corner[axis]
        edges.append((value * size[axis] / resized[axis]).clamp(0, size[axis]))
    return torch.stack(edges, -1).to(boxes.dtype)


def return_boxes(boxes: Tensor, size: tuple[Any, Any], resized: tuple[Any, Any], corner: tuple[Any, Any]) -> Tensor:
    """Bring boxes from pixels of the photo to pixels of the image; arguments as of ``place_boxes``."""
    wide = _widen(boxes)
    edges = []
    for edge, axis in enumerate(AXES):
        value = wide[..., edge] * resized[axis] / size[axis]
        edges.append(value if corner[axis] is None else value - corner[axis])
    return torch.stack(edges, -1).to(boxes.dtype)


def _widen(boxes: Tensor) -> Tensor:
    """Boxes in 32 bits at least: products of lengths exceed the largest number of 16 bits."""
    return boxes.to(torch.promote_types(boxes.dtype, torch.float32))
