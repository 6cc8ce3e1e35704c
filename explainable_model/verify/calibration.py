"""The images to calibrate an artifact in less precision with, and to compare it on: photos, or network inputs."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from explainable_model.artifact.metadata import Metadata
from explainable_model.artifact.runner import Array
from explainable_model.artifact.shapes import NHW, NHWC, format_shape, shape_problem
from explainable_model.errors import InputError
from explainable_model.explanation import Progress
from explainable_model.imaging.as_decoded import AsDecoded
from explainable_model.imaging.preprocess import Preprocess, open_photo

if TYPE_CHECKING:
    from PIL.Image import Image

Calibration: TypeAlias = Any
"""A folder of photos, their paths, or an array or tensor ``(M, C, *spatial)`` of what the artifact takes."""

MINIMUM = 8  # fewer photos do not show the range of the activations; some hundred are better
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"})


def calibration_images(calibration: Calibration, metadata: Metadata, progress: Progress | None = None) -> list[Array]:
    """Read the images, each as a batch that the artifact takes: one image, or copies that fill a fixed batch.

    Args:
        calibration: a folder, paths of photos, or an array of what the artifact takes.
        metadata: the artifact's metadata.
        progress: called after each photo.

    Raises:
        InputError: there are fewer photos than ``MINIMUM``, a photo cannot be read, the metadata has no preprocessing
            for photos, or the images have another size or dtype, or NaN.
    """
    calibration = check_calibration(calibration, metadata.preprocess)
    if isinstance(calibration, list):
        images = list(_read_photos(calibration, metadata, progress))
    else:
        images = _check_array(calibration, metadata)
    _check_variety(images, metadata.pixels)
    return [np.ascontiguousarray(np.repeat(image[None], metadata.batch or 1, axis=0)) for image in images]


def check_calibration(calibration: Calibration, preprocess: Preprocess | None) -> "list[str | Path] | Any":
    """Check the images before any work is done: how many there are, and whether photos can become inputs.

    Returns:
        The paths of the photos, or the array as it was given.

    Raises:
        InputError: there are fewer images than ``MINIMUM``, or photos without a preprocessing.
    """
    if isinstance(calibration, (str, Path)):
        calibration = _list_photos(Path(calibration))
    of_paths = isinstance(calibration, Sequence) and all(isinstance(item, (str, Path)) for item in calibration)
    _check_count(len(calibration))
    if not of_paths:
        return calibration
    if preprocess is None:
        raise InputError(
            "Nothing says how a photo becomes the network's input: give export(..., preprocess=Preprocess(...)), or "
            "calibrate with an array of what the network takes."
        )
    return list(calibration)


def _list_photos(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder of photos to calibrate with.")
    photos = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not photos:
        raise InputError(f"{folder} holds no photo ({', '.join(sorted(SUFFIXES))}) to calibrate with.")
    return photos


def _check_variety(images: Sequence[Array], pixels: str | None) -> None:
    """Refuse images that show no range of the activations: one image over and over, or images of one color each."""
    if all(np.array_equal(image, images[0]) for image in images[1:]):
        problem = "are one and the same"
    elif all(_is_plain(image, pixels) for image in images):
        problem = "are of one color each"
    else:
        return
    raise InputError(
        f"The {len(images)} images to calibrate with {problem}, so the activations of real images would be cut off. "
        f"Give {MINIMUM} or more different ones of the kind that the network will see."
    )


def _is_plain(image: Array, pixels: str | None) -> bool:
    """Whether an image has one value in each channel."""
    channels = {NHWC: image.reshape(-1, image.shape[-1]).T, NHW: image.reshape(1, -1)}
    values = channels.get(pixels or "", image.reshape(len(image), -1))
    return bool((values == values[:, :1]).all())


def _check_count(count: int) -> None:
    if count < MINIMUM:
        raise InputError(
            f"{count} image(s) to calibrate with; expected {MINIMUM} or more, better some hundred, of the kind that "
            "the network will see."
        )


def _read_photos(paths: Sequence[str | Path], metadata: Metadata, progress: Progress | None) -> Iterator[Array]:
    assert metadata.preprocess is not None  # check_calibration has refused photos without it
    for number, path in enumerate(paths, 1):
        photo = open_photo(path, metadata.preprocess.window)
        decode = metadata.preparation
        if isinstance(decode, AsDecoded):
            yield resize_photo(photo, metadata.preprocess, decode)
        else:
            yield metadata.preprocess(photo)[0].astype(metadata.array_dtype)
        if progress is not None:
            progress("reading", number, len(paths))


def resize_photo(photo: "Image", preprocess: Preprocess, decode: AsDecoded) -> Array:
    """Resize a photo to the size that an artifact with ``pixels`` would resize it to, before the crop.

    The calibration needs photos of one size, and keeps every activation of all photos in memory: small photos save
    much of it.

    Args:
        photo: a photo of any size and mode.
        preprocess: the artifact's preparation of photos.
        decode: brings photos into the artifact's layout and type.

    Returns:
        One photo as the artifact takes it, with the crop in the middle.
    """
    from PIL import Image

    side = preprocess.resize
    size = (side, side) if side else preprocess.size
    without_scaling = replace(preprocess, size=size, mean=(0.0,) * 3, std=(1.0,) * 3)
    levels = np.rint(without_scaling(photo)[0] * 255).astype(np.uint8)
    decoded: Array = decode(Image.fromarray(np.ascontiguousarray(levels.transpose(1, 2, 0))))[0]
    return decoded


def _check_array(calibration: Calibration, metadata: Metadata) -> list[Array]:
    images = np.asarray(calibration)
    expected = [None, *metadata.image_shape[1:]]
    kind = "network inputs after scaling and normalization"
    if metadata.pixels is not None:
        kind = f"{'gray' if metadata.pixels == NHW else 'RGB'} of one size"
    problem = shape_problem(images.shape, expected, metadata.sizes, metadata.pixels)
    if problem is not None or str(images.dtype) != metadata.array_dtype:
        raise InputError(
            f"The images to calibrate with are {images.dtype} of shape {images.shape}; expected {metadata.array_dtype} "
            f"of shape {format_shape(expected, metadata.pixels)}{problem or ''}, {kind}; or photos."
        )
    if not np.isfinite(images).all():
        raise InputError("The images to calibrate with have NaN or infinite values; expected finite ones.")
    return list(images)
