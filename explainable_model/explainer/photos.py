"""Photos as users have them: files, folders, patterns, pictures of Pillow, arrays and tensors."""

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from explainable_model.errors import InputError
from explainable_model.imaging.preprocess import open_photo, upright_rgb
from explainable_model.imaging.window import Window

Photo: TypeAlias = Any  # a path, a picture of Pillow, (H, W[, C]) of NumPy, or (C, H, W) of torch

ENDINGS = frozenset(
    (".bmp", ".dcm", ".gif", ".jpeg", ".jpg", ".jp2", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp", ".avif")
)
"""Endings of the files that a folder's photos have; a file that is named by itself may have any."""
WILDCARDS = frozenset("*?[")


@dataclass(frozen=True)
class OpenedPhoto:
    """One photo.

    Attributes:
        picture: RGB, upright.
        path: the file; ``None`` for a picture or array of the caller.
        name: for captions: the name of the file, or ``photo 1``.
    """

    picture: Image.Image
    path: Path | None
    name: str


def is_single(photos: Any) -> bool:
    """Whether the argument is one photo, and not a folder, a pattern, a batch or a sequence."""
    if isinstance(photos, str | Path):
        return not (Path(photos).is_dir() or _is_pattern(photos))
    if isinstance(photos, Image.Image):
        return True
    if hasattr(photos, "ndim"):
        return int(photos.ndim) < 4
    return False


def iterate_photos(photos: Any) -> Iterator[Photo]:
    """List the photos of a folder (with its subfolders), a pattern, a batch or a sequence, one after the other.

    Raises:
        InputError: a folder or a pattern without a photo, or something that holds no photos.
    """
    if is_single(photos):
        yield photos
    elif isinstance(photos, str | Path):
        yield from list_files(photos)
    elif hasattr(photos, "__iter__"):
        for photo in photos:
            yield from iterate_photos(photo)
    else:
        raise InputError(
            f"photos is {type(photos).__name__}; expected a path, a picture of Pillow, an array, a tensor, or several."
        )


def list_files(folder: str | Path) -> list[Path]:
    """List the photos in a folder and its subfolders, or those that a pattern such as ``photos/**/*.jpg`` names.

    Raises:
        InputError: there is none.
    """
    path = Path(folder)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in ENDINGS and file.is_file())
        expected = ", ".join(sorted(ENDINGS))
        if not files:
            raise InputError(f"The folder {folder} holds no photo; expected files ending in {expected}.")
        return files
    files = sorted(Path(name) for name in glob.glob(str(folder), recursive=True) if Path(name).is_file())
    if not files:
        raise InputError(f"No file matches {folder}.")
    return files


def _is_pattern(path: str | Path) -> bool:
    return bool(WILDCARDS & set(str(path))) and not Path(path).exists()


def read_photo(photo: Photo, number: int = 0, window: Window | None = None) -> OpenedPhoto:
    """Read one photo of any kind.

    Args:
        photo: a path; a picture of Pillow of any mode; ``(H, W)``, ``(H, W, 1)``, ``(H, W, 3)`` or ``(H, W, 4)`` of
            NumPy, ``(C, H, W)`` of torch: uint8, uint16, or floats from 0 to 1.
        number: its position, for its name.
        window: as of ``Preprocess``.

    Raises:
        InputError: as ``open_photo``; an array of another shape, dtype or range.
    """
    name = f"photo {number + 1}"
    if isinstance(photo, str | Path):
        return OpenedPhoto(open_photo(photo, window), Path(photo), Path(photo).name)
    if isinstance(photo, Image.Image):
        path = Path(str(getattr(photo, "filename", "") or "")) if getattr(photo, "filename", "") else None
        return OpenedPhoto(upright_rgb(photo, window), path, path.name if path else name)
    if hasattr(photo, "ndim"):
        return OpenedPhoto(upright_rgb(_to_picture(photo), window), None, name)
    raise InputError(
        f"A photo is {type(photo).__name__}; expected a path, a picture of Pillow, (H, W, 3) of NumPy or (3, H, W) of "
        "torch."
    )


def _to_picture(photo: Any) -> Image.Image:
    """Turn an array or a tensor into a picture, with the same values."""
    is_tensor = hasattr(photo, "detach")
    values: NDArray[Any] = np.asarray(photo.detach().cpu() if is_tensor else photo)
    if is_tensor and values.ndim == 3:
        values = values.transpose(1, 2, 0)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.size == 0 or values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (3, 4)):
        expected = "(3, H, W) or (1, H, W)" if is_tensor else "(H, W, 3), (H, W, 4) or (H, W)"
        hint = "" if is_tensor or values.ndim != 3 or values.shape[0] not in (1, 3) else ": photo.transpose(1, 2, 0)"
        raise InputError(f"The photo has shape {tuple(np.shape(photo))}; expected {expected}{hint}.")
    if values.dtype.kind == "f":
        values = _to_levels(values)
    if values.dtype == np.uint8 or (values.dtype == np.uint16 and values.ndim == 2):
        return Image.fromarray(np.ascontiguousarray(values))
    raise InputError(
        f"The photo is {values.dtype} of shape {tuple(np.shape(photo))}; expected uint8, gray uint16, or floats from 0 "
        "to 1."
    )


def _to_levels(values: NDArray[Any]) -> NDArray[np.uint8]:
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        raise InputError(
            f"The photo has values from {values.min():.3g} to {values.max():.3g}; expected floats from 0 to 1, before "
            "the mean is subtracted. An image that is prepared already goes to ExplainableModel(model)(image)."
        )
    levels: NDArray[np.uint8] = np.rint(values * 255).astype(np.uint8)
    return levels
