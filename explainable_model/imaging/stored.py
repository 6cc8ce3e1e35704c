"""What Pillow leaves out of a picture: whole ranges of TIFF files, and further pages."""

import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.errors import FirstPageWarning

if TYPE_CHECKING:
    from PIL.Image import Image

KIND_OF_PAGE, BITS_PER_SAMPLE, SAMPLE_FORMAT = 254, 258, 339  # tags of TIFF
UNSIGNED, SIGNED = 1, 2
SMALLER_OR_MASK = 1 | 4  # bits of the kind of a page: it shows another page at a lower resolution, or its mask
MOST_PAGES = 64  # that are looked at; beyond them, a file is taken to have further pages
FIRST_IS_MEANT = ("MPO",)  # cameras put previews and depths behind the photo


def read_stored(photo: "Image") -> NDArray[Any]:
    """The values of a picture as the file stores them: Pillow wraps those of uint32 and of int8 round."""
    stored = np.asarray(photo)
    if _read_format(photo) == (UNSIGNED, 32) and stored.dtype == np.int32:
        return stored.view(np.uint32)
    return stored.view(np.int8) if has_signed_bytes(photo) else stored


def has_signed_bytes(photo: "Image") -> bool:
    """Whether a picture has values from -128 to 127, of which Pillow makes 128 to 255 and 0 to 127."""
    return photo.mode == "L" and _read_format(photo) == (SIGNED, 8)


def _read_format(photo: "Image") -> tuple[int, int]:
    """Sample format and bits of each value of a TIFF file; zeros for other pictures."""
    tags: Any = getattr(photo, "tag_v2", None)
    if tags is None:
        return 0, 0
    kind, bits = (tags.get(tag, default) for tag, default in ((SAMPLE_FORMAT, UNSIGNED), (BITS_PER_SAMPLE, 1)))
    return tuple(int(value[0] if isinstance(value, tuple) else value) for value in (kind, bits))  # type: ignore[return-value]


def warn_of_further_pages(photo: "Image") -> None:
    """Say that the first of several pages or frames is explained.

    Lower resolutions and masks of the first page do not count, nor does a page that the caller chose with ``seek``.

    Warns:
        FirstPageWarning: more than one page.
    """
    current: Any = photo
    if not getattr(photo, "is_animated", False) or current.tell() > 0 or photo.format in FIRST_IS_MEANT:
        return
    path = str(getattr(photo, "filename", "") or "")
    if photo.format == "TIFF" and path and not _has_another_page(path):  # a stream stays where it is
        return
    kind = "pages" if photo.format == "TIFF" else "frames"
    warnings.warn(
        f"{path or 'The picture'} has several {kind}, and the first is explained. For another "
        "one, seek to it and pass a copy: photo = Image.open(...); photo.seek(1); photo.copy().",
        FirstPageWarning,
        stacklevel=3,
    )


def _has_another_page(path: str) -> bool:
    """Whether a TIFF file has a page that is neither a lower resolution nor a mask of the first one."""
    from PIL import Image

    with warnings.catch_warnings(action="ignore"), suppress(OSError), Image.open(path) as pages:
        for number in range(1, MOST_PAGES):
            try:
                pages.seek(number)
            except EOFError:
                return False
            tags: Any = pages
            if not int(tags.tag_v2.get(KIND_OF_PAGE, 0)) & SMALLER_OR_MASK:
                return True
    return True
