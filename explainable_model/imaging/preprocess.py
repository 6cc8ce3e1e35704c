"""Turns a photo into the network's input, with Pillow and NumPy alone."""

import io
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.errors import FirstPageWarning, InputError, LowRangeWarning, MissingRuntimeError
from explainable_model.imaging.dicom import MARK, MARK_AT, SUFFIXES, is_dicom, read_dicom
from explainable_model.imaging.letterbox import crop_border, draw_border, find_edges
from explainable_model.imaging.stored import warn_of_further_pages
from explainable_model.imaging.volumes import is_volume_path
from explainable_model.imaging.window import (
    Window,
    check_high_bytes,
    check_window,
    is_deep,
    keeps_high_bytes,
    to_eight_bits,
)

if TYPE_CHECKING:
    from PIL.Image import Image

FloatArray = NDArray[np.floating[Any]]
Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels of the photo

MAX_PIXELS = 100_000_000  # a larger picture is refused before it is decoded
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")


def _list_numbers(name: str, value: Any) -> tuple[Any, ...]:
    """One number or several, also in an array."""
    if isinstance(value, (int, float)):
        return (value,)
    try:
        return tuple(each.item() if hasattr(each, "item") else each for each in value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} is {value!r:.80}; expected a number, or one for each channel or side.") from error


@dataclass(frozen=True)
class Preprocess:
    """How a photo becomes the network's input: ``(pixel / 255 - mean) / std`` after resizing.

    Attributes:
        size: ``(height, width)`` of the input; one number for a square.
        mean: per channel, in units of [0, 1]; one number for a gray input.
        std: per channel, in units of [0, 1]; one number for a gray input.
        resize: length of the shorter side before the center crop; ``None`` squashes the whole photo
            to ``size``.
        interpolation: one of nearest, bilinear, bicubic, lanczos.
        window: ``(black, white)``: the values of a picture of more than 8 bits that become black and white; ``None``
            takes them from the file, or the range of its type.
        pad: for detectors: the photo keeps its shape, lies in the middle of the image, and the rest has this value, 0
            to 1 (a letterbox; that of ultralytics is 114 / 255). ``None`` for no border.
    """

    size: tuple[int, int]
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    resize: int | None = None
    interpolation: str = "bilinear"
    window: Window | None = None
    pad: float | None = None

    def __post_init__(self) -> None:
        size = (self.size, self.size) if isinstance(self.size, int) else _list_numbers("size", self.size)
        mean, std = _list_numbers("mean", self.mean), _list_numbers("std", self.std)
        for name, value in (("size", size), ("mean", mean), ("std", std)):
            object.__setattr__(self, name, value)
        if len(self.size) != 2:
            raise ValueError(f"size is {self.size}; expected (height, width), for example (224, 224).")
        if self.interpolation not in INTERPOLATIONS:
            known = ", ".join(INTERPOLATIONS)
            raise ValueError(f"Unknown interpolation {self.interpolation!r}; expected one of {known}.")
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3):
            raise ValueError(
                f"mean has {len(self.mean)} and std {len(self.std)} value(s); expected 1 (gray) or 3 (RGB) of each."
            )
        if min(self.size) < 1 or min(self.std) <= 0:
            raise ValueError(f"size {self.size} and std {self.std} must be positive.")
        if self.window is not None:
            check_window(self.window)
        if self.pad is not None and not (self.resize is None and 0 <= self.pad <= 1):
            raise ValueError(
                f"pad is {self.pad!r} with resize={self.resize}; expected a gray value from 0 to 1 and no resize: a "
                "photo with a border is not cropped."
            )

    @property
    def value_range(self) -> tuple[float, float]:
        """Smallest and largest value of the input."""
        low = min((0.0 - m) / s for m, s in zip(self.mean, self.std, strict=True))
        high = max((1.0 - m) / s for m, s in zip(self.mean, self.std, strict=True))
        return low, high

    def box(self, width: int, height: int) -> Box:
        """Find the part of a photo that the network sees.

        The box is that of torchvision's ``Resize`` and ``CenterCrop``: the shorter side becomes ``resize``; the longer
        side and the corner of the crop are rounded to whole pixels of the resized photo. A crop that is larger than the
        resized photo is shrunk until it fits, so that the photo is never distorted.

        Args:
            width: of the photo.
            height: of the photo.
        """
        if self.resize is None:  # with or without a border
            return 0.0, 0.0, float(width), float(height)
        if max(self.size) > self.resize:
            return self._shrunk_box(width, height, self.resize)
        (rows, columns), (top, left) = self.resized(height, width), self.corner(height, width)
        right, bottom = left + self.size[1], top + self.size[0]
        return left * width / columns, top * height / rows, right * width / columns, bottom * height / rows

    def image_box(self, width: int, height: int) -> Box:
        """Find the edges of the image in a photo: those of ``box``; beyond the photo where the image has a border."""
        return self.box(width, height) if self.pad is None else find_edges(self.size, width, height)

    def crop(self, cam: NDArray[Any], width: int, height: int) -> NDArray[Any]:
        """Cut the border from maps ``(..., H, W)`` of a photo of this size; without a border they stay as they are.

        Raises:
            InputError: there is a border, and the maps have another size than the image.
        """
        return cam if self.pad is None else crop_border(cam, self.size, width, height)

    def resized(self, height: int, width: int, smaller: Callable[[Any, Any], Any] = min) -> tuple[int, int]:
        """Compute height and width of a photo before the crop; ``smaller`` is a minimum, also of symbolic sizes."""
        if self.resize is None:
            return self.size
        shorter = smaller(height, width)
        return self.resize * height // shorter, self.resize * width // shorter

    def corner(self, height: int, width: int, smaller: Callable[[Any, Any], Any] = min) -> tuple[int, int]:
        """Compute row and column of the resized photo where the crop begins; a half is rounded to the even neighbor."""
        rows, columns = self.resized(height, width, smaller)
        over = (rows - self.size[0], columns - self.size[1])
        return (over[0] + over[0] // 2 % 2) // 2, (over[1] + over[1] // 2 % 2) // 2

    def _shrunk_box(self, width: int, height: int, resize: int) -> Box:
        scale = min(width, height) / resize
        crop_height, crop_width = self.size[0] * scale, self.size[1] * scale
        shrink = min(1.0, height / crop_height, width / crop_width)
        crop_height, crop_width = min(crop_height * shrink, height), min(crop_width * shrink, width)
        left, top = (width - crop_width) / 2, (height - crop_height) / 2
        return left, top, left + crop_width, top + crop_height

    def __call__(self, photo: "Image") -> FloatArray:
        """Turn a photo of any mode, which is put upright, into ``(1, C, H, W)`` float32."""
        from PIL import Image

        picture = upright_rgb(photo, self.window).convert("RGB" if len(self.mean) == 3 else "L")
        resample = Image.Resampling[self.interpolation.upper()]
        height, width = self.size
        if self.pad is None:
            picture = picture.resize((width, height), resample, box=self.box(*picture.size))
        else:
            picture = draw_border(picture, self.size, self.pad, resample)
        pixels = np.asarray(picture, dtype=np.float32).reshape(height, width, -1) / np.float32(255)
        normalized = (pixels - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return np.ascontiguousarray(normalized.transpose(2, 0, 1)[None])


def open_photo(path: str | Path, window: Window | None = None) -> "Image":
    """Read a picture of any mode as RGB, upright (EXIF orientation applied), or the image of a DICOM file.

    Args:
        path: the file.
        window: as of ``Preprocess``.

    Raises:
        InputError: the file is missing, not a picture, truncated, or larger than 100 megapixels; or its values need a
            window.
        MissingRuntimeError: a DICOM file without pydicom.

    Warns:
        FirstPageWarning: a file of several pages or frames.
        LowRangeWarning: a picture of 16 bits that becomes nearly black.
    """
    with _explained_errors(path):
        if is_dicom(path):
            return read_dicom(path, window, MAX_PIXELS)
        with quiet_pillow():
            return _read(path, path, window)


def decode_photo(content: bytes, name: str, window: Window | None = None) -> "Image":
    """Decode the bytes of a picture's file, as ``open_photo`` reads the file.

    Args:
        content: of a file of any format that ``open_photo`` reads.
        name: of the photo, for messages.
        window: as of ``Preprocess``.

    Raises, warns: as ``open_photo``.
    """
    with _explained_errors(name):
        if content[MARK_AT : MARK_AT + len(MARK)] == MARK or Path(name).suffix.lower() in SUFFIXES:
            return _decode_dicom(content, name, window)
        with quiet_pillow():
            return _read(io.BytesIO(content), name, window)


def _decode_dicom(content: bytes, name: str, window: Window | None) -> "Image":
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:  # pydicom reads a header by the path of its file
        file.write(content)
        file.flush()
        try:
            return read_dicom(file.name, window, MAX_PIXELS)
        except InputError as error:
            raise InputError(str(error).replace(file.name, name)) from error


@contextmanager
def _explained_errors(path: str | Path) -> Iterator[None]:
    """Turn the errors of decoders into ours, which name the file."""
    from PIL import UnidentifiedImageError

    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.") from error
    except UnidentifiedImageError as error:
        if is_volume_path(path):
            raise InputError(
                f"{path} is a volume; explain it in Python: explain(path, network, preprocess=VolumePreprocess(...))."
            ) from error
        raise InputError(f"{path} is not a picture that Pillow can read; expected JPEG, PNG or the like.") from error
    except (
        InputError,
        FirstPageWarning,
        LowRangeWarning,
        MissingRuntimeError,
    ):  # a warning is raised where warnings are errors
        raise
    except Exception as error:  # Pillow's decoders raise errors of many types on damaged files
        raise InputError(f"{path} cannot be read: {error}. Is it truncated or damaged?") from error


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Silence Pillow's warnings: it raises on what it cannot read."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
        yield


def _read(source: "str | Path | io.BytesIO", path: str | Path, window: Window | None) -> "Image":
    from PIL import Image

    with Image.open(source) as photo:
        photo.filename = str(path)  # its name in messages
        if photo.width * photo.height > MAX_PIXELS:
            raise InputError(f"{path} has {photo.width} x {photo.height} pixels; expected at most {MAX_PIXELS:,}.")
        return upright_rgb(photo, window)


def upright_rgb(photo: "Image", window: Window | None = None) -> "Image":
    """Turn a picture of any mode into RGB: EXIF orientation applied, transparency over white, 16 bits made 8.

    Every entrance decodes photos with this function.

    Args:
        photo: of any mode; an upright RGB picture stays as it is.
        window: as of ``Preprocess``.

    Raises, warns: as ``to_eight_bits``, and ``FirstPageWarning``.
    """
    from PIL import ExifTags, Image, ImageOps

    warn_of_further_pages(photo)
    if is_deep(photo):  # before the rotation, which loses the tags of the file
        orientation = photo.getexif().get(ExifTags.Base.Orientation)
        photo = to_eight_bits(photo, window)
        photo.getexif()[ExifTags.Base.Orientation] = orientation or 1
    elif keeps_high_bytes(photo):
        photo = check_high_bytes(photo, window)
    photo = ImageOps.exif_transpose(photo)
    if photo.mode in ("La", "RGBa"):  # colors that are multiplied with their opacity
        photo = photo.convert("LA" if photo.mode == "La" else "RGBA")
    if photo.mode in ("RGBA", "LA", "PA") or "transparency" in photo.info:
        background = Image.new("RGBA", photo.size, "white")
        return Image.alpha_composite(background, photo.convert("RGBA")).convert("RGB")
    return photo.convert("RGB")
