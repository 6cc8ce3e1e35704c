"""Small pictures of the photos, each in a few kilobytes."""

import base64
import hashlib
import io
import os
import tarfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explainable_model.errors import ExplainableModelError, InputError
from explainable_model.explanation import Progress
from explainable_model.imaging.dicom import is_dicom, read_dicom
from explainable_model.imaging.preprocess import MAX_PIXELS, quiet_pillow, upright_rgb

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_BYTES = 5300  # of one picture: a thousand of them, written as text, leave room in 8 MB
STEPS = ((200, 62), (200, 40), (160, 35), (120, 25), (96, 10), (48, 5))  # longest side and quality, until it fits
LARGEST_FILE = 400_000_000
TAR_MARK = ".tar#"


class Missing(ExplainableModelError):
    """A photo that cannot be shown, and why."""


def make_thumbnails(
    rows: Sequence[Mapping[str, Any]],
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[str, str]]:
    """Make the picture of each row as ``data:`` URL, or say why there is none.

    Args:
        rows: with ``name``, ``uri`` and ``sha256``.
        folder: where the photos lie now; their names are looked for there before their places of then.
        progress: called with the step, how many are done, and how many there are.

    Yields:
        The URL and the reason; one of them is empty.
    """
    with warnings.catch_warnings(), quiet_pillow(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")  # of pictures of 16 bits; nobody diagnoses on a thumbnail
        for done, found in enumerate(pool.map(lambda row: _try(row, folder), rows)):
            yield found
            if progress:
                progress("thumbnails", done + 1, len(rows))


def _try(row: Mapping[str, Any], folder: Path | None) -> tuple[str, str]:
    try:
        return _encode(_open(row, folder)), ""
    except Missing as error:
        return "", str(error)
    except Exception as error:  # Pillow's decoders raise errors of many types on damaged files
        return "", f"the photo cannot be read ({type(error).__name__})"


def _open(row: Mapping[str, Any], folder: Path | None) -> "Image":
    from PIL import Image

    path, content = _read(row, folder)
    if row["sha256"] and hashlib.sha256(content).hexdigest() != row["sha256"]:
        raise Missing("the photo has changed since the run")
    if path is not None and is_dicom(path):
        return read_dicom(path, None, MAX_PIXELS)
    picture = Image.open(io.BytesIO(content))
    if picture.width * picture.height > MAX_PIXELS:
        raise InputError(f"The photo has more than {MAX_PIXELS:,} pixels.")
    picture.draft("RGB", (2 * STEPS[0][0], 2 * STEPS[0][0]))  # JPEG decodes a fraction of its size
    return upright_rgb(picture)


def _read(row: Mapping[str, Any], folder: Path | None) -> tuple[Path | None, bytes]:
    for path in _list_places(row, folder):
        archive, mark, member = str(path).rpartition(TAR_MARK)
        if mark and os.path.isfile(archive + TAR_MARK[:-1]):
            return None, _read_member(Path(archive + TAR_MARK[:-1]), member)
        if path.is_file():  # no device, no pipe
            if path.stat().st_size > LARGEST_FILE:
                raise Missing("the file is too large for a photo")
            return path, path.read_bytes()
    raise Missing("the photo was not found")


def _list_places(row: Mapping[str, Any], folder: Path | None) -> Iterator[Path]:
    """The places to look at; a name never leads out of the folder."""
    name, uri = str(row["name"]), str(row["uri"] or "")
    if "\0" in name or "\0" in uri:
        return
    if folder is not None:
        inside = (folder / name).resolve()
        if inside.is_relative_to(folder.resolve()):
            yield inside
        yield folder / Path(uri.replace("#", "/")).name
    if uri.startswith("file://"):
        uri = uri.removeprefix("file://")
    if os.path.isabs(uri):
        yield Path(uri)


def _read_member(archive: Path, member: str) -> bytes:
    with tarfile.open(archive, "r:") as opened:
        for info in opened:
            if info.name == member and info.isfile() and info.size <= LARGEST_FILE:
                file = opened.extractfile(info)
                return b"" if file is None else file.read()
    raise Missing("the photo is not in its archive")


def _encode(picture: "Image") -> str:
    from PIL import Image, features

    kind = "WEBP" if features.check("webp") else "JPEG"
    content = b""
    for side, quality in STEPS:  # method 2 of WebP takes half the time of its default, for 5 % more bytes
        small = picture.copy()
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        small.save(stream, kind, quality=quality, method=2)
        content = stream.getvalue()
        if len(content) <= MOST_BYTES:
            break
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content).decode()}"
