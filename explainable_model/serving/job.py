"""A decoded request, the settings of a deployer, and what both kinds of answers share."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from explainable_model.artifact.metadata import Metadata
from explainable_model.imaging.overlay import ALPHA, Colormap
from explainable_model.serving.contract import PNG, RequestError, Response

if TYPE_CHECKING:
    from PIL.Image import Image

EXPLANATION_HEADER = "X-Explanation"


@dataclass(frozen=True)
class Settings:
    """The settings of a deployer.

    Attributes:
        max_pixels: a picture with more pixels is refused before it is decoded.
        overlay_side: longest side of an overlay, so that a batch does not wait for a large one.
        colormap: of the overlays; a palette where matplotlib is not installed, ``None`` for the default of the maps.
        alpha: of the heatmap in the overlays.
    """

    max_pixels: int = 25_000_000
    overlay_side: int = 1024
    colormap: Colormap | None = None
    alpha: float = ALPHA


@dataclass(frozen=True)
class Wanted:
    """What a request asks for.

    Attributes:
        class_idx: the class, or the rank of the box; ``-1`` for the predicted class or the best boxes.
        top: how many of the best classes or boxes to list.
    """

    class_idx: int
    top: int


@dataclass(frozen=True)
class Job:
    """A decoded request.

    Attributes:
        image: ``(1, C, H, W)``, or a photo as the artifact takes it.
        wanted: what is asked for.
        size: width and height of the photo.
        picture: under the overlay, where the client asks for one.
        warnings: why the answer may not help.
    """

    image: NDArray[Any]
    wanted: Wanted
    size: tuple[int, int]
    picture: "Image | None"
    warnings: list[str]


class Replies(Protocol):
    """What is said of an answer; one for classes, and one for boxes."""

    def read_fields(self, fields: Mapping[str, Any]) -> Wanted:
        """Read what a request asks for.

        Raises:
            RequestError: 400 for what the artifact does not have.
        """

    def describe(self, outputs: Sequence[NDArray[Any]], job: Job) -> dict[str, Any]:
        """Describe the answer to one image, with its maps, for JSON."""

    def draw(self, outputs: Sequence[NDArray[Any]], job: Job, picture: "Image", told: Mapping[str, Any]) -> Response:
        """Draw the answer to one image over its photo, with a description in the header."""


def read_top(text: str | None, default: int, most: int) -> int:
    """Read the field ``top``.

    Raises:
        RequestError: 400 for another text than a number from 0 to ``most``.
    """
    if text is None:
        return default
    short = text.isascii() and text.isdecimal() and len(text) <= len(str(most))
    if not (short and int(text) <= most):
        raise RequestError(HTTPStatus.BAD_REQUEST, f"top is {text[:20]!r}; expected a number from 0 to {most}.")
    return int(text)


def make_picture_response(picture: "Image", record: Mapping[str, Any]) -> Response:
    """Make the response of a picture, whose header holds the record."""
    return Response(HTTPStatus.OK, PNG, encode_png(picture), {EXPLANATION_HEADER: json.dumps(record)})


def draw_heatmap(cam: NDArray[Any], metadata: Metadata) -> dict[str, Any]:
    """Draw a map in 8 bits, and name the values of 0 and 255: the artifact's bounds, or else the map's own."""
    from PIL import Image

    low, high = metadata.cam_range
    low = float(cam.min()) if low is None else low
    high = float(cam.max()) if high is None else high
    gray = (cam.astype(np.float64) - low) / max(high - low, 1e-30) * 255
    picture = Image.fromarray(gray.round().clip(0, 255).astype(np.uint8))
    return {"heatmap": base64.b64encode(encode_png(picture)).decode(), "range": [low, high]}


def encode_png(picture: "Image") -> bytes:
    """Encode a picture quickly."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
