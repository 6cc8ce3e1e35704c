"""The answer to a fixed image, as a record holds it."""

from dataclasses import dataclass
from typing import Any

from explainable_model.artifact.coarse_photo import CoarsePhoto


@dataclass(frozen=True)
class Reference:
    """The artifact's answer to a fixed image, so that any device can check its own answer.

    Element i of image n, counted over (C, *spatial), is ``sin(i + n)``; extra inputs that ``inputs`` does not hold are
    made in the same way. Where there is a ``photo``, that is the image, mirrored for every second n.

    Attributes:
        size: spatial size of the image.
        class_idx: the predicted class of each image, or its ``top_k`` classes; of a detector the class of each box,
            ``-1`` where there is none.
        logits: up to 16 values of each image's logits, at equal distances; of a detector five values for each box: its
            left, top, right and lower edge as shares of the image, and its score.
        cam: each map reduced to its mean over an 8 x 8 grid of cells, row by row.
        logits_tolerance, cam_tolerance: how much a device may differ.
        inputs: the values of each extra input, ``None`` for one that is made like the image; ``None`` for all in
            artifacts of earlier versions.
        photo: a coarse copy of a photo, for detectors, which find nothing in waves.
    """

    class_idx: list[int] | list[list[int]]
    logits: list[list[float]]
    cam: list[list[float]]
    logits_tolerance: float
    cam_tolerance: float
    size: list[int] | None = None
    inputs: list[Any] | None = None
    photo: CoarsePhoto | None = None
