"""Composites of photos: an object cut out of one photo on another photo, so that it is known where the object is.

The objects are the photos of Tux Paint's stamps (GPL-2), which Debian packages as ``tuxpaint-stamps-default``; the
backgrounds lie in the scikit-image wheel. The composites are made when they are used, and are not part of the project.
"""

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

STAMPS = Path("/usr/share/tuxpaint/stamps")
# What is no photo of one thing of the world: drawings, signs, and series that look alike.
NO_PHOTOS = re.compile("cartoon|symbols|toys|space|flags|roadsigns|seasonal|people|medical|plastic|naturalforces")
BACKGROUNDS = ("grass.png", "gravel.png", "brick.png")
SIZE = 224
SMALLEST, LARGEST = 100, 140  # longer side of an object in pixels
OPAQUE = 127
SURE = 0.4  # smallest probability of the class
TRIES = 3
WANTED = 64

Predict = Callable[[Sequence[Image.Image]], NDArray[np.float64]]
"""Pictures to ``(N, classes)`` probabilities."""


@dataclass(frozen=True)
class Composite:
    """An object on a background.

    Attributes:
        name: of the object's file.
        picture: ``SIZE`` by ``SIZE``.
        mask: ``(SIZE, SIZE)``, true where the object is.
    """

    name: str
    picture: Image.Image
    mask: NDArray[np.bool_]


def write_composites(stamps: Path, folder: Path, predict: Predict, count: int = WANTED) -> list[Path]:
    """Make composites whose predicted class is that of the object, and write them with their masks.

    The network has to name the same class for the object on gray as for the composite, with a probability of at least
    ``SURE``. No map is looked at. Those that are kept are spread over all objects, and their order is drawn.

    Args:
        stamps: the folder of stamps.
        folder: gets ``photos`` and ``masks``; what is there already stays.
        predict: the network.
        count: how many.

    Returns:
        The photos.

    Raises:
        FileNotFoundError: there are no stamps.
    """
    photos, masks = folder / "photos", folder / "masks"
    if not photos.is_dir():
        found = [made for path in _list_stamps(stamps) if (made := _try(path, predict)) is not None]
        chosen = [found[round(n)] for n in np.linspace(0, len(found) - 1, min(count, len(found)))]
        order = np.random.default_rng(0).permutation(len(chosen))
        unfinished = folder / "unfinished"
        unfinished.mkdir(parents=True, exist_ok=True)
        masks.mkdir(exist_ok=True)
        for place, number in enumerate(order):
            name = f"{place:02}-{chosen[number].name}.png"
            chosen[number].picture.save(unfinished / name)
            Image.fromarray(chosen[number].mask).save(masks / name)
        unfinished.rename(photos)
    return sorted(photos.iterdir())


def _list_stamps(stamps: Path) -> list[Path]:
    files = [path for path in sorted(stamps.rglob("*.png")) if not NO_PHOTOS.search(str(path.relative_to(stamps)))]
    if not files:
        raise FileNotFoundError(
            f"{stamps} has no stamps; run apt-get install tuxpaint-stamps-default, or unpack that package and name its "
            "folder with --stamps."
        )
    return files


def _try(path: Path, predict: Predict) -> Composite | None:
    with Image.open(path) as opened:
        stamp = opened.convert("RGBA")
    box = stamp.getchannel("A").point(lambda value: 255 * (value > OPAQUE)).getbbox()
    if box is None:
        return None
    stamp = stamp.crop(box)
    rng = np.random.default_rng(zlib.crc32(path.name.encode()))
    gray = Image.new("RGB", (SIZE, SIZE), (OPAQUE,) * 3)
    made = [_paste(path.stem, stamp, _load_background(rng), rng) for _ in range(TRIES)]
    pictures = [_paste(path.stem, stamp, gray, rng).picture, *(each.picture for each in made)]
    scores = predict(pictures)
    class_idx = scores[0].argmax()
    fits = [each for each, row in zip(made, scores[1:], strict=True) if row.argmax() == class_idx and row.max() >= SURE]
    return fits[0] if fits else None


def _paste(name: str, stamp: Image.Image, background: Image.Image, rng: np.random.Generator) -> Composite:
    scale = rng.integers(SMALLEST, LARGEST, endpoint=True) / max(stamp.size)
    width, height = (max(1, round(length * scale)) for length in stamp.size)
    small = stamp.resize((width, height), Image.Resampling.LANCZOS)
    left, top = int(rng.integers(0, SIZE - width + 1)), int(rng.integers(0, SIZE - height + 1))
    canvas = background.convert("RGBA")
    canvas.alpha_composite(small, (left, top))
    mask = np.zeros((SIZE, SIZE), bool)
    mask[top : top + height, left : left + width] = np.asarray(small)[..., 3] > OPAQUE
    return Composite(name, canvas.convert("RGB"), mask)


def _load_background(rng: np.random.Generator) -> Image.Image:
    from explainable_model.demo.files import find_in_package

    with Image.open(find_in_package("skimage", "data", BACKGROUNDS[rng.integers(len(BACKGROUNDS))])) as opened:
        photo = opened.convert("RGB")
    left, top = (int(rng.integers(0, length - SIZE + 1)) for length in photo.size)
    return photo.crop((left, top, left + SIZE, top + SIZE))
