"""Mosaics of a user's own photos, in which it is known where each class is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image as Pillow

from explainable_model.evaluation.curves import Floats, Image
from explainable_model.evaluation.localization import energy_in_mask
from explainable_model.evaluation.subject import Explanations

CELLS = 4


@dataclass(frozen=True)
class Photo:
    """A prepared photo and the class that is predicted for it.

    Attributes:
        name: of its file.
        image: ``(C, H, W)``.
        class_idx: its predicted class.
    """

    name: str
    image: Image
    class_idx: int


class MosaicMaker:
    """Collects photos until four of them have four different classes."""

    def __init__(self) -> None:
        self._waiting: dict[int, Photo] = {}

    def add(self, photo: Photo) -> list[Photo] | None:
        """Add a photo; the four photos of the next mosaic, once they are there. Another photo of a class that waits is
        left out."""
        self._waiting.setdefault(photo.class_idx, photo)
        if len(self._waiting) < CELLS:
            return None
        photos = list(self._waiting.values())
        self._waiting.clear()
        return photos


def join_photos(photos: Sequence[Photo]) -> Image:
    """Join four photos to a mosaic of two rows, of the first one's size.

    Returns:
        ``(C, H, W)``; each photo fills a quarter.
    """
    channels, height, width = photos[0].image.shape
    mosaic = np.zeros((channels, height, width), np.float32)
    for photo, (rows, columns) in zip(photos, _list_cells(height, width), strict=True):
        size = (columns.stop - columns.start, rows.stop - rows.start)
        for channel, values in enumerate(photo.image):
            small = Pillow.fromarray(values).resize(size, Pillow.Resampling.BOX)
            mosaic[channel, rows, columns] = np.asarray(small)
    return mosaic


def measure_mosaic(photos: Sequence[Photo], explain: Explanations) -> dict[str, float]:
    """Explain the class of each photo in the mosaic of all four.

    Returns:
        ``grid_pointing``: the share of each map that lies in its own quarter; chance is 1/4.
        ``discrimination``: of all pairs of photos, how often the first one's quarter holds more of its own class's map
        than of the other's; chance is 1/2. A map that is the same for every class has chance, however good it looks.

    Source: grid pointing game, Böhle et al. 2021, arXiv 2104.00032, section 4; here each photo has a quarter of the
    input.
    """
    mosaic = join_photos(photos)
    shares = np.array([_measure_cells(explain(mosaic, photo.class_idx)) for photo in photos])  # class, cell
    own = np.diag(shares)
    others = [(i, j) for i in range(CELLS) for j in range(CELLS) if i != j]
    wins = [(shares[i, i] > shares[j, i]) + 0.5 * (shares[i, i] == shares[j, i]) for i, j in others]
    return {"grid_pointing": float(own.mean()), "discrimination": float(np.mean(wins))}


def _measure_cells(cam: Floats) -> list[float]:
    """The share of a map in each quarter; a quarter each for a map without a positive value."""
    shares = []
    for rows, columns in _list_cells(*cam.shape):
        mask = np.zeros(cam.shape, bool)
        mask[rows, columns] = True
        share = energy_in_mask(cam, mask)
        shares.append(1 / CELLS if share is None else share)
    return shares


def _list_cells(height: int, width: int) -> list[tuple[slice, slice]]:
    rows = (slice(0, height // 2), slice(height // 2, height))
    columns = (slice(0, width // 2), slice(width // 2, width))
    return [(row, column) for row in rows for column in columns]
