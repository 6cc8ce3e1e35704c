"""Small pictures of the photos, each in a few kilobytes."""

import base64
import io
import os
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explainable_model.batch.photos import Photo, PhotoReader
from explainable_model.errors import InputError
from explainable_model.explanation import Progress
from explainable_model.imaging.dicom import is_dicom, read_dicom
from explainable_model.imaging.preprocess import MAX_PIXELS, quiet_pillow, upright_rgb
from explainable_model.report.contents import ContentFinder, Missing

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_BYTES = 5300  # of one picture: a thousand of them, written as text, leave room in 8 MB
MOST_BESIDE_BOXES = 3900  # the same, beside the maps of five boxes
STEPS = ((200, 62), (200, 40), (160, 35), (120, 25), (96, 10), (48, 5))  # longest side and quality, until it fits


def make_thumbnails(
    rows: Sequence[Mapping[str, Any]],
    listed: Mapping[str, Photo],
    folder: Path | None = None,
    progress: Progress | None = None,
    most_bytes: int = MOST_BYTES,
) -> list[tuple[str, str]]:
    """Make the picture of each row as ``data:`` URL, or say why there is none.

    Args:
        rows: with ``id``, ``name``, ``uri`` and ``sha256``.
        listed: where the run read the photos, by their ids.
        folder: where the photos lie now; their names are looked for there before their places of then.
        progress: called with the step, how many are done, and how many there are.
        most_bytes: of a picture.

    Returns:
        The URL and the reason of each row; one of them is empty.
    """
    finder = ContentFinder(listed, folder)
    found: list[tuple[str, str]] = [("", "")] * len(rows)
    done = 0
    with warnings.catch_warnings(), quiet_pillow(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")  # of pictures of 16 bits; nobody diagnoses on a thumbnail
        for group in pool.map(partial(_draw_group, rows, finder, most_bytes), finder.group(rows)):
            for number, picture in group:
                found[number] = picture
            done += len(group)
            if progress:
                progress("thumbnails", done, len(rows))
    return found


def _draw_group(
    rows: Sequence[Mapping[str, Any]], finder: ContentFinder, most_bytes: int, group: Sequence[int]
) -> list[tuple[int, tuple[str, str]]]:
    reader = PhotoReader(finder.stores)  # reads a row group once, from its first row to its last
    return [(number, _try(rows[number], finder, reader, most_bytes)) for number in group]


def _try(row: Mapping[str, Any], finder: ContentFinder, reader: PhotoReader, most_bytes: int) -> tuple[str, str]:
    try:
        return _encode(_open(*finder.read(row, reader)), most_bytes), ""
    except Missing as error:
        return "", str(error)
    except Exception as error:  # Pillow's decoders raise errors of many types on damaged files
        return "", f"the photo cannot be read ({type(error).__name__})"


def _open(path: Path | None, content: bytes) -> "Image":
    from PIL import Image

    if path is not None and is_dicom(path):
        return read_dicom(path, None, MAX_PIXELS)
    picture = Image.open(io.BytesIO(content))
    if picture.width * picture.height > MAX_PIXELS:
        raise InputError(f"The photo has more than {MAX_PIXELS:,} pixels.")
    picture.draft("RGB", (2 * STEPS[0][0], 2 * STEPS[0][0]))  # JPEG decodes a fraction of its size
    return upright_rgb(picture)


def _encode(picture: "Image", most_bytes: int) -> str:
    from PIL import Image, features

    kind = "WEBP" if features.check("webp") else "JPEG"
    content = b""
    for side, quality in STEPS:  # method 2 of WebP takes half the time of its default, for 5 % more bytes
        small = picture.copy()
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        small.save(stream, kind, quality=quality, method=2)
        content = stream.getvalue()
        if len(content) <= most_bytes:
            break
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content).decode()}"
