"""The boxes of one photo in its own pixels, with their maps, and what can be said of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.artifact.shapes import spatial
from explainable_model.explainer.detector import Answer, DetectorExplainer
from explainable_model.explainer.explained import Explained
from explainable_model.imaging.as_decoded import AsDecoded
from explainable_model.imaging.boxes import DrawnBox
from explainable_model.imaging.overlay import hottest_point
from explainable_model.imaging.preprocess import Box


@dataclass(frozen=True, repr=False, eq=False)
class FoundBoxes(Explained):
    """The boxes of one photo, and a map that explains each.

    Attributes:
        boxes: ``(k, 4)``: left, top, right, bottom in pixels of the photo, best first; only boxes that were found.
        scores: ``(k,)``, 0 to 1.
        labels: ``(k,)`` int64, the class of each box as the detector counts.
        cam: ``(k, h, w)`` in [0, 1], the map of each box.
        box: the part of the photo that the maps cover.
        explainer: what explained it.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    cam: NDArray[Any]
    box: Box
    explainer: DetectorExplainer

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of the class of each box; ``class 3`` where no names are known."""
        return tuple(self.explainer.name_class(int(label)) for label in self.labels)

    @property
    def texts(self) -> tuple[str, ...]:
        """Each box in words: ``cup 94%``."""
        return tuple(f"{name} {score:.0%}" for name, score in zip(self.class_names, self.scores, strict=True))

    @property
    def label(self) -> str:
        """All boxes in words: ``cup 94%, face 31%``."""
        return ", ".join(self.texts) or "no box"

    @property
    def hottest(self) -> tuple[tuple[float, float], ...]:
        """Where in the photo the map of each box is largest: ``(column, row)`` in pixels."""
        return tuple(hottest_point(cam, self.box) for cam in self.cam)

    def list_boxes(self) -> list[dict[str, Any]]:
        """Describe each box for JSON: its place, class and score, and where its map is largest."""
        names = self.class_names if self.explainer.class_names is not None else (None,) * len(self)
        hottest = self.hottest
        return [
            {
                "box": self.boxes[number].tolist(),
                "class_idx": int(self.labels[number]),
                "class_name": names[number],
                "score": float(self.scores[number]),
                "hottest": list(hottest[number]),
            }
            for number in range(len(self))
        ]

    def list_drawn(self, scale: tuple[float, float] = (1.0, 1.0)) -> list[DrawnBox]:
        """List the boxes and their texts for a drawing of the photo that is wider and higher by these factors."""
        pairs = zip((self.boxes * np.array([*scale] * 2)).tolist(), self.texts, strict=True)
        return [DrawnBox((left, top, right, bottom), text) for (left, top, right, bottom), text in pairs]


def find_boxes(
    explainer: DetectorExplainer,
    answer: Answer,
    image_shape: tuple[int, ...],
    photo_size: tuple[int, int],
    count: int | None = None,
) -> FoundBoxes:
    """Bring a detector's answer to one image back to the photo.

    Args:
        explainer: the detector.
        answer: of one image.
        image_shape: of the image, with the batch.
        photo_size: width and height of the photo.
        count: how many of the boxes were asked for, the first ones; ``None`` for all.
    """
    (boxes, scores, labels, valid), cam = answer
    kept = np.asarray(valid[0], bool).copy()
    kept[len(kept) if count is None else count :] = False
    prepare = explainer.preprocess
    image_size = spatial(image_shape, prepare.pixels if isinstance(prepare, AsDecoded) else None)
    found = boxes[0][kept].astype(np.float64)
    return FoundBoxes(
        boxes=place_boxes(found, prepare.image_box(*photo_size), image_size, photo_size),
        scores=scores[0][kept].astype(np.float64),
        labels=labels[0][kept].astype(np.int64),
        cam=prepare.crop(cam[0][kept], *photo_size),
        box=prepare.box(*photo_size),
        explainer=explainer,
    )


def place_boxes(
    boxes: NDArray[np.float64], seen: Box, image_size: Sequence[int], photo_size: tuple[int, int]
) -> NDArray[np.float64]:
    """Bring boxes from pixels of the image to pixels of the photo.

    Args:
        boxes: ``(k, 4)``.
        seen: the edges of the image in the photo, as from ``Preprocess.image_box``.
        image_size: ``(H, W)``.
        photo_size: ``(width, height)``; boxes are cut off there.
    """
    left, top, right, bottom = seen
    scale = np.array([(right - left) / image_size[1], (bottom - top) / image_size[0]] * 2)
    placed: NDArray[np.float64] = (boxes * scale + np.array([left, top] * 2)).clip(0, np.array([*photo_size] * 2))
    return placed
