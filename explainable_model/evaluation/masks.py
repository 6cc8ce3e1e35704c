"""Masks of photos, brought to what the network sees."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from explainable_model.errors import InputError
from explainable_model.evaluation.localization import Mask
from explainable_model.explainer.photos import OpenedPhoto
from explainable_model.imaging.as_decoded import AsDecoded
from explainable_model.imaging.preprocess import Preprocess

Masks: TypeAlias = str | Path | Mapping[Any, Any] | Callable[[str], Any] | None
"""A folder of pictures or ``.npy`` files with the photos' stems; arrays by the photos' names, stems or paths; or a
function of the photo's name. Photos that share a name have their masks by path, or in ``FOLDER/parent/stem.png``."""

LOSSY = (".jpg", ".jpeg", ".webp")
HALF = 128
ENDINGS = (".png", ".npy", ".bmp", ".gif", ".tif", ".tiff", ".jpg", ".jpeg", ".webp")


def find_mask(
    masks: Masks, photo: OpenedPhoto, preprocess: Preprocess | AsDecoded, label: str | None = None
) -> Mask | None:
    """Find the mask of a photo, in the geometry of the network's input.

    Args:
        masks: see ``Masks``.
        photo: the photo.
        preprocess: what crops and resizes the photo.
        label: the path of the photo where another one has its name; then only a mask of this path counts.

    Returns:
        ``(H, W)``; ``None`` where there are no masks at all.

    Raises:
        InputError: no mask for this photo, a mask of another size, or one that is empty where the network looks.
    """
    if masks is None:
        return None
    inside = _read(masks, photo, label or photo.name)
    if inside.shape != photo.picture.size[::-1]:
        raise InputError(
            f"The mask of {photo.name} has shape {inside.shape}; expected {photo.picture.size[::-1]}, that of the "
            "photo, upright."
        )
    if not isinstance(preprocess, AsDecoded):
        height, width = preprocess.size
        box = preprocess.box(*photo.picture.size)
        inside = np.asarray(Image.fromarray(inside).resize((width, height), Image.Resampling.NEAREST, box=box))
    if not inside.any():
        raise InputError(f"The mask of {photo.name} is empty in the part of the photo that the network sees.")
    return np.asarray(inside, bool)


def _read(masks: Masks, photo: OpenedPhoto, label: str) -> Mask:
    path, is_shared = Path(label), label != photo.name
    stem = path.stem
    found: Any = None
    if isinstance(masks, str | Path):
        if not Path(masks).is_dir():
            raise InputError(f"There is no folder {masks}; expected a folder of masks.")
        folder = Path(masks, path.parent.name) if is_shared else Path(masks)
        files = [file for ending in ENDINGS if (file := folder / f"{stem}{ending}").is_file()]
        if not files:
            raise InputError(f"The folder {folder} has no mask {stem}.png for {label}.")
        found = _read_file(files[0])
    elif isinstance(masks, Mapping):
        keys: tuple[Any, ...] = (label, path) if is_shared else (label, stem, str(photo.path), photo.path)
        found = next((masks[key] for key in keys if key in masks), None)
    elif callable(masks):
        found = masks(label)
    else:
        raise InputError(f"masks is {type(masks).__name__}; expected a folder, a dictionary or a function.")
    if found is None:
        wanted = "its path, since another photo has its name" if is_shared else f"its name or its stem {stem!r}"
        raise InputError(f"There is no mask for {label}; expected one by {wanted}.")
    values = np.asarray(found)
    if values.dtype.kind not in "biuf" or (values.dtype.kind == "f" and not np.isfinite(values).all()):
        raise InputError(f"The mask of {label} holds {_describe(values)}; expected numbers, zero outside.")
    inside: Mask = values != 0
    return inside


def _describe(values: NDArray[Any]) -> str:
    return "values that are not finite" if values.dtype.kind == "f" else f"{values.dtype}"


def _read_file(path: Path) -> Any:
    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        with Image.open(path) as picture:
            values = np.asarray(picture.convert("L") if picture.mode in ("RGB", "RGBA") else picture)
            return values >= HALF if path.suffix in LOSSY else values
    except (OSError, ValueError) as error:
        raise InputError(f"The mask {path} cannot be read: {error}.") from error
