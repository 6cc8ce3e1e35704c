"""The HTTP contract: the fields of a request, and the status of each refusal."""

import base64
import binascii
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from explainable_model.errors import FirstPageWarning, InputError, LowRangeWarning
from explainable_model.imaging.preprocess import quiet_pillow, upright_rgb
from explainable_model.imaging.window import Window, parse_window

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURES = ("JPEG", "PNG", "WEBP", "BMP")  # the formats that are taken, by Pillow's names
JSON = "application/json"
PNG = "image/png"
MAX_TEXT = 1000  # characters of a field
MAX_SIDE = 65_535  # of a picture, the largest of a JPEG
MAX_SCANS = 200  # of a JPEG: a decoder visits the whole picture in each
START_OF_SCAN = b"\xff\xda"


@dataclass(frozen=True)
class Request:
    """One request as a server received it.

    Attributes:
        fields: ``image``: the encoded picture, as bytes or base64 text; optional: ``class`` (number or name of
            the class to explain), ``top`` (how many of the best classes to list), ``window`` (``0,4095``: the values of
            a picture of more than 8 bits that become black and white) and ``accept`` (for clients that cannot set a
            header). Values are text or bytes, as from a form, or what JSON holds.
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
    """An error of one request; the other requests of its batch are answered."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status

    def response(self) -> Response:
        """Make the response, with the JSON ``{"code": 415, "type": "Unsupported Media Type", "message": ...}``."""
        record = {"code": int(self.status), "type": self.status.phrase, "message": str(self)}
        return Response(self.status, JSON, json.dumps(record).encode())


def wants_picture(accept: str) -> bool:
    """Whether a client prefers ``image/png`` to JSON: the first that its ``Accept`` names; JSON if it names neither."""
    for choice in accept.split(","):
        media_type = choice.split(";")[0].strip().lower()
        if media_type in (PNG, "image/*"):
            return True
        if media_type in (JSON, "application/*", "*/*"):
            return False
    return False


def read_image_field(fields: Mapping[str, Any]) -> bytes:
    """Find the encoded picture among the fields of a request.

    Raises:
        RequestError: 400 for a missing picture, or for text that is not base64.
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
            "There is no picture; send its bytes as the body with the header Content-Type: image/jpeg "
            '(or of its format), as the form field image, or as base64 in JSON: {"image": "..."}.',
        )
    return bytes(image)


def read_photo(image: bytes, max_pixels: int, window: Window | None = None) -> "Image":
    """Decode a picture of any mode as RGB, upright.

    Args:
        image: the encoded picture.
        max_pixels: a picture with more pixels is refused.
        window: as of ``Preprocess``.

    Raises:
        RequestError: 415 for bytes that are no picture, 413 for a picture that is too large or too long or has too many
            scans (checked before it is decoded), 400 for a damaged picture.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with quiet_pillow(), Image.open(io.BytesIO(image), formats=PICTURES) as photo:
            _check_header(photo, image, max_pixels)
            return upright_rgb(photo, window)
    except UnidentifiedImageError as error:
        known = ", ".join(PICTURES)
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"These bytes are not a picture; expected one of {known}."
        ) from error
    except Image.DecompressionBombError as error:
        raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The picture is too large: {error}") from error
    except (RequestError, FirstPageWarning, LowRangeWarning):  # a warning is raised where warnings are errors
        raise
    except InputError as error:
        raise RequestError(HTTPStatus.BAD_REQUEST, str(error)) from error
    except Exception as error:  # Pillow's decoders raise errors of many types on damaged files
        raise RequestError(HTTPStatus.BAD_REQUEST, f"The picture is damaged: {error}.") from error


def _check_header(photo: "Image", image: bytes, max_pixels: int) -> None:
    """Refuse a picture that would take too long or too much, by what its header says."""
    size = f"{photo.width} x {photo.height} pixels"
    if photo.width * photo.height > max_pixels:
        problem = f"has {size}; expected at most {max_pixels:,}"
    elif max(photo.size) > MAX_SIDE:
        problem = f"has {size}; expected at most {MAX_SIDE:,} on a side"
    elif photo.format == "JPEG" and image.count(START_OF_SCAN) > MAX_SCANS:
        problem = f"has {image.count(START_OF_SCAN)} scans; expected at most {MAX_SCANS}"
    else:
        return
    raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The picture {problem}.")


def parse_json_fields(body: bytes) -> Mapping[str, Any]:
    """Parse a JSON body as the fields of a request.

    Raises:
        RequestError: 400 for other bytes than a JSON object, or for one that is nested too deeply.
    """
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RequestError(HTTPStatus.BAD_REQUEST, f"The body is not JSON: {reason[:MAX_TEXT]}.") from error
    if not isinstance(fields, dict):
        raise RequestError(
            HTTPStatus.BAD_REQUEST, f'The body is a JSON {type(fields).__name__}; expected {{"image": "..."}}.'
        )
    return fields


def read_text_field(fields: Mapping[str, Any], name: str) -> str | None:
    """Read a field, from a form or from JSON, as text; ``None`` where it is missing.

    Raises:
        RequestError: 400 for a list or an object, or for a text of more than 1,000 characters.
    """
    value = fields.get(name)
    if isinstance(value, bytes | bytearray):
        value = value.decode("utf-8", errors="replace")
    if value is not None and not isinstance(value, str | int | float):
        raise RequestError(
            HTTPStatus.BAD_REQUEST, f"{name} is of type {type(value).__name__}; expected a text or a number."
        )
    text = None if value is None else str(value)
    if text is not None and len(text) > MAX_TEXT:
        raise RequestError(
            HTTPStatus.BAD_REQUEST, f"{name} has {len(text):,} characters; expected at most {MAX_TEXT:,}."
        )
    return text


def read_window_field(fields: Mapping[str, Any]) -> Window | None:
    """Read the field ``window``, ``None`` where it is missing.

    Raises:
        RequestError: 400 for another text than two numbers.
    """
    text = read_text_field(fields, "window")
    try:
        return None if text is None else parse_window(text)
    except ValueError as error:
        raise RequestError(HTTPStatus.BAD_REQUEST, str(error)) from error
