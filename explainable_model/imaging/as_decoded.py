"""Hand a photo on as it was decoded, for artifacts that prepare photos themselves."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.imaging.preprocess import Box, upright_rgb
from explainable_model.imaging.window import SIXTEEN_BITS, Window, find_values

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class AsDecoded:
    """Passes a photo on as it is, for an artifact that prepares photos itself.

    Attributes:
        pixels: layout, ``NCHW`` or ``NHWC`` of RGB, ``NHW`` of gray photos.
        window: as of ``Preprocess``.
        dtype: ``uint8``; or ``uint16``, of gray photos to which the artifact applies ``window`` itself.
    """

    pixels: str
    window: Window | None = None
    dtype: str = "uint8"

    def box(self, width: int, height: int) -> Box:
        """The maps cover the whole photo."""
        return 0.0, 0.0, float(width), float(height)

    def image_box(self, width: int, height: int) -> Box:
        """The image is the photo."""
        return self.box(width, height)

    def crop(self, cam: NDArray[Any], width: int, height: int) -> NDArray[Any]:
        """There is no border."""
        return cam

    def __call__(self, photo: "Image") -> NDArray[np.uint8 | np.uint16]:
        """Turn a photo into ``(1, 3, H, W)``, ``(1, H, W, 3)`` or ``(1, H, W)``.

        Of 16 bits, each gray level gets a value that the artifact's window maps to this level: a photo that was opened
        with a window of its own, or has 8 bits, reaches the network with its own levels.
        """
        picture = upright_rgb(photo, self.window)
        if self.pixels == "NHW":
            gray = np.array(picture.convert("L"), np.uint8)[None]
            return gray if self.dtype == "uint8" else find_values(self.window or SIXTEEN_BITS)[gray]
        levels = np.array(picture, np.uint8)[None]
        return levels if self.pixels == "NHWC" else np.ascontiguousarray(levels.transpose(0, 3, 1, 2))
