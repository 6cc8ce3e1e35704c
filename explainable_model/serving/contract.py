"""The HTTP contract: what a request may hold, which picture is refused with which status."""

import base64
import binascii
import io
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from explainable_model.imaging.preprocess import upright_rgb

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURES = ("JPEG", "PNG", "WEBP", "BMP")  # the formats that are taken, by Pillow's names
JSON = "application/json"
PNG = "image/png"


@dataclass(frozen=True)
class Request:
    """One request as a server took it.

    Attributes:
        fields: ``image``: the encoded picture, as bytes or base64 text; if wanted also ``class`` (number or name of
            the class to explain), ``top`` (how many of the best classes to list) and ``accept`` (for clients that
            cannot set a header). Values are text or bytes, as from a form, or what JSON holds.
        accept: the ``Accept`` header.
    """

    fields: Mapping[str, Any]
    accept: str = ""


@dataclass(frozen=True)
class Response:
    """One answer, ready to be sent."""

    status: HTTPStatus
    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class RequestError(Exception):
    """A request that gets an error of its own; the others in its batch do not notice."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status

    def response(self) -> Response:
        """As JSON ``{"code": 415, "type": "Unsupported Media Type", "message": ...}``."""
        record = {"code": int(self.status), "type": self.status.phrase, "message": str(self)}
        return Response(self.status, JSON, json.dumps(record).encode())


def wants_picture(accept: str) -> bool:
    """Whether a client prefers ``image/png`` to JSON: what its ``Accept`` names first; JSON if neither."""
    for choice in accept.split(","):
        media_type = choice.split(";")[0].strip().lower()
        if media_type in (PNG, "image/*"):
            return True
        if media_type in (JSON, "application/*", "*/*"):
            return False
    return False


def image_bytes(fields: Mapping[str, Any]) -> bytes:
    """The encoded picture among the fields of a request.

    Raises:
        RequestError: 400 where there is none, or one that is not base64.
    """
    image = fields.get("image")
    if isinstance(image, str):
        try:
            image = base64.b64decode(image, validate=True)
        except (binascii.Error, ValueError) as error:
            raise RequestError(HTTPStatus.BAD_REQUEST, f"image is not base64: {error}.") from error
    if not isinstance(image, bytes | bytearray) or not image:
        raise RequestError(
            HTTPStatus.BAD_REQUEST,
            "There is no picture; send its bytes as the body, as the form field image, or as base64 in JSON: "
            '{"image": "..."}.',
        )
    return bytes(image)


def read_photo(image: bytes, max_pixels: int) -> "Image":
    """An encoded picture of any mode as RGB, upright.

    Raises:
        RequestError: 415 for what is no picture, 413 for one that is too large (known before it is
            decoded), 400 for a damaged one.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow finds odd in a file; what it cannot read it raises
            with Image.open(io.BytesIO(image), formats=PICTURES) as photo:
                if photo.width * photo.height > max_pixels:
                    size = f"{photo.width} x {photo.height} pixels"
                    raise RequestError(
                        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The picture has {size}; expected at most {max_pixels:,}."
                    )
                return upright_rgb(photo)
    except UnidentifiedImageError as error:
        known = ", ".join(PICTURES)
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"These bytes are not a picture; expected one of {known}."
        ) from error
    except Image.DecompressionBombError as error:
        raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The picture is too large: {error}") from error
    except RequestError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever a damaged file makes them raise
        raise RequestError(HTTPStatus.BAD_REQUEST, f"The picture is damaged: {error}.") from error


def text_field(fields: Mapping[str, Any], name: str) -> str | None:
    """A field as text, from a form or from JSON; ``None`` where it is missing."""
    value = fields.get(name)
    if isinstance(value, bytes | bytearray):
        value = value.decode("utf-8", errors="replace")
    return None if value is None else str(value)
