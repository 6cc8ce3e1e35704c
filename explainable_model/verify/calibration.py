"""The images that an artifact of less precision is calibrated and compared with: photos, or what a network takes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from explainable_model.artifact.metadata import Metadata
from explainable_model.artifact.runner import Array
from explainable_model.artifact.shapes import NHWC, format_shape, shape_problem
from explainable_model.errors import InputError
from explainable_model.imaging.preprocess import Preprocess, open_photo

if TYPE_CHECKING:
    from PIL.Image import Image

Calibration: TypeAlias = Any
"""A folder of photos, their paths, or an array or tensor ``(M, C, *spatial)`` of what the artifact takes."""

MINIMUM = 8  # fewer photos do not show the range of an activation; some hundred are better
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"})


def calibration_images(
    calibration: Calibration, metadata: Metadata, progress: Callable[[str, int, int], None] | None = None
) -> list[Array]:
    """Each image as a batch that the artifact takes: one, or as many copies as its fixed batch has.

    Args:
        calibration: a folder, paths of photos, or an array of what the artifact takes.
        metadata: the artifact's.
        progress: told how many photos are read.

    Raises:
        InputError: there is no photo or fewer than ``MINIMUM``, one cannot be read, nothing says how a photo
            becomes the network's input, or the images have another size, dtype or NaN.
    """
    if isinstance(calibration, (str, Path)):
        calibration = _in_folder(Path(calibration))
    if isinstance(calibration, Sequence) and all(isinstance(each, (str, Path)) for each in calibration):
        _check_count(len(calibration))
        images = list(_read(calibration, metadata, progress))
    else:
        images = _as_given(calibration, metadata)
    return [np.ascontiguousarray(np.repeat(image[None], metadata.batch or 1, axis=0)) for image in images]


def _in_folder(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder of photos to calibrate with.")
    photos = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not photos:
        raise InputError(f"{folder} holds no photo ({', '.join(sorted(SUFFIXES))}) to calibrate with.")
    return photos


def _check_count(count: int) -> None:
    if count < MINIMUM:
        raise InputError(
            f"{count} image(s) to calibrate with; expected {MINIMUM} or more, better some hundred, of the kind that "
            "the network will see."
        )


def _read(
    paths: Sequence[str | Path], metadata: Metadata, progress: Callable[[str, int, int], None] | None
) -> Iterator[Array]:
    if metadata.preprocess is None:
        raise InputError(
            "Nothing says how a photo becomes the network's input: give export(..., preprocess=Preprocess(...)), or "
            f"calibrate with an array of shape {format_shape(metadata.image_shape)}."
        )
    for number, path in enumerate(paths, 1):
        photo = open_photo(path)
        if metadata.pixels is None:
            yield metadata.preprocess(photo)[0].astype(metadata.array_dtype)
        else:
            yield resized(photo, metadata.preprocess, metadata.pixels)
        if progress is not None:
            progress("reading", number, len(paths))


def resized(photo: "Image", preprocess: Preprocess, pixels: str) -> Array:
    """The middle of a photo, resized so that an artifact that prepares photos itself has nothing left to resize.

    Its calibration wants all photos to be of one size, and holds every value between two layers of all of them.

    Args:
        photo: of any size and mode.
        preprocess: what the artifact prepares photos by.
        pixels: the artifact's layout of photos.

    Returns:
        uint8 levels of RGB, ``(3, h, w)`` for ``NCHW`` and ``(h, w, 3)`` for ``NHWC``: the crop lies in their middle.
    """
    side = preprocess.resize
    seen = replace(preprocess, size=(side, side) if side else preprocess.size, mean=(0.0,) * 3, std=(1.0,) * 3)
    levels = np.rint(seen(photo)[0] * 255).astype(np.uint8)
    return np.ascontiguousarray(levels.transpose(1, 2, 0)) if pixels == NHWC else levels


def _as_given(calibration: Calibration, metadata: Metadata) -> list[Array]:
    images = np.asarray(calibration)
    expected = [None, *metadata.image_shape[1:]]
    kind = "what the network takes after scaling and normalising" if metadata.pixels is None else "RGB of one size"
    problem = shape_problem(images.shape, expected, metadata.sizes)
    if problem is not None or str(images.dtype) != metadata.array_dtype:
        raise InputError(
            f"The images to calibrate with are {images.dtype} of shape {images.shape}; expected {metadata.array_dtype} "
            f"of shape {format_shape(expected)}{problem or ''}, {kind}; or photos."
        )
    _check_count(len(images))
    if not np.isfinite(images).all():
        raise InputError("The images to calibrate with have NaN or infinite values; expected finite ones.")
    return list(images)
