"""A network that takes photos: preparation before it, maps and boxes in the photo's own pixels after it."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from explainable_model.explanation import DETECTION_NAMES
from explainable_model.lowering.imaging import PhotoIO

Explained: TypeAlias = Callable[..., Any]
"""``(image, class_idx, *inputs) -> (logits, class_idx, cam)``."""


class PhotoModel(nn.Module):
    """``(photo, class_idx, *inputs) -> (logits, class_idx, cam)``, or with ``overlay`` as the last; or a detector's.

    Attributes:
        explained: takes the image.
        photo_io: prepares photos and draws on them.
        given: how many of the last inputs are boxes in pixels of the photo.
    """

    def __init__(self, explained: Explained, photo_io: PhotoIO, given: int = 0) -> None:
        super().__init__()
        self.explained = explained
        self.photo_io = photo_io
        self.given = given

    def forward(self, photo: Tensor, class_idx: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        photo_io = self.photo_io
        inputs = map_last(photo_io.given_boxes, inputs, self.given, photo)
        outputs = self.explained(photo_io.image(photo), class_idx, *inputs)
        if len(outputs) == len(DETECTION_NAMES):
            return in_photo(outputs, photo_io, photo)
        logits, class_idx, cam = outputs
        maps = photo_io.maps(cam, photo)
        return (
            (logits, class_idx, maps)
            if photo_io.look is None
            else (logits, class_idx, maps, photo_io.overlay(maps, photo))
        )


def in_photo(outputs: Sequence[Tensor], photo_io: PhotoIO, photo: Tensor) -> tuple[Tensor, ...]:
    """A detector's outputs with boxes and maps in the photo's own pixels; zeros where there is no box."""
    boxes, scores, labels, valid, cam = outputs
    placed = torch.where(valid.unsqueeze(-1), photo_io.boxes(boxes, photo), 0)
    return placed, scores, labels, valid, photo_io.maps(cam, photo)


def map_last(
    change: Callable[[Tensor, Tensor], Tensor], inputs: Sequence[Tensor], count: int, photo: Tensor
) -> tuple[Tensor, ...]:
    """Change the last ``count`` inputs, which are boxes, between pixels of the photo and of the image.

    Args:
        change: ``PhotoIO.boxes`` or ``PhotoIO.given_boxes``.
        inputs: of the network, then the boxes.
        count: of boxes.
        photo: in the layout of ``PhotoIO``.
    """
    own = len(inputs) - count
    return *inputs[:own], *(change(boxes, photo) for boxes in inputs[own:])
