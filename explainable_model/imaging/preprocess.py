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

from explainable_model.errors import InputError, LowRangeWarning, MissingRuntimeError
from explainable_model.imaging.dicom import MARK, MARK_AT, SUFFIXES, is_dicom, read_dicom
from explainable_model.imaging.volumes import is_volume_path
from explainable_model.imaging.window import (
    SIXTEEN_BITS,
    Window,
    check_high_bytes,
    check_window,
    find_values,
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
    """

    size: tuple[int, int]
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    resize: int | None = None
    interpolation: str = "bilinear"
    window: Window | None = None

    def __post_init__(self) -> None:
        size = (self.size, self.size) if isinstance(self.size, int) else tuple(self.size)
        mean, std = ((value,) if isinstance(value, (int, float)) else tuple(value) for value in (self.mean, self.std))
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
        if self.resize is None:
            return 0.0, 0.0, float(width), float(height)
        if max(self.size) > self.resize:
            return self._shrunk_box(width, height, self.resize)
        (rows, columns), (top, left) = self.resized(height, width), self.corner(height, width)
        right, bottom = left + self.size[1], top + self.size[0]
        return left * width / columns, top * height / rows, right * width / columns, bottom * height / rows

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
        picture = picture.resize((width, height), resample, box=self.box(*picture.size))
        pixels = np.asarray(picture, dtype=np.float32).reshape(height, width, -1) / np.float32(255)
        normalized = (pixels - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return np.ascontiguousarray(normalized.transpose(2, 0, 1)[None])


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
    except (InputError, LowRangeWarning, MissingRuntimeError):  # a warning is raised where warnings are errors
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

    Raises, warns: as ``to_eight_bits``.
    """
    from PIL import ExifTags, Image, ImageOps

    if is_deep(photo):  # before the rotation, which loses the tags of the file
        orientation = photo.getexif().get(ExifTags.Base.Orientation)
        photo = to_eight_bits(photo, window)
        photo.getexif()[ExifTags.Base.Orientation] = orientation or 1
    elif keeps_high_bytes(photo):
        photo = check_high_bytes(photo, window)
    photo = ImageOps.exif_transpose(photo)
    if photo.mode in ("RGBA", "LA", "PA") or "transparency" in photo.info:
        background = Image.new("RGBA", photo.size, "white")
        return Image.alpha_composite(background, photo.convert("RGBA")).convert("RGB")
    return photo.convert("RGB")
