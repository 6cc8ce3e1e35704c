"""A photo that is ready for the network."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from explainable_model.imaging.preprocess import Box


@dataclass(frozen=True)
class Prepared:
    """A photo that is ready for the network.

    Attributes:
        image: ``(1, C, H, W)``, or as the artifact takes photos.
        size: width and height of the upright photo.
        crop: the part of it that the map covers.
    """

    image: NDArray[Any]
    size: tuple[int, int]
    crop: Box
