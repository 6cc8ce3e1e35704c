"""The photos of ``python -m benchmarks batch`` and ``engines``: crops of the photos of scikit-image."""

import csv
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SIZES = ((500, 375), (500, 333), (640, 480), (1024, 768), (1600, 1200))  # of photos in data sets and of small cameras
SHARES = (5, 3, 2, 1, 1)
SUBJECTS = ("chelsea", "coffee", "astronaut", "rocket", "hubble_deep_field")
LABELS = {"chelsea": "Egyptian cat", "coffee": "espresso", "rocket": "missile"}  # ImageNet has no class for the others


@dataclass(frozen=True)
class Crop:
    """What one photo is cut out of.

    Attributes:
        subject: the name of the whole photo.
        size: width and height of the crop once it is resized.
        share: of the whole photo's shorter side.
        left, top: where it begins, in shares of the room that is left.
        light: the factor of its brightness.
    """

    subject: str
    size: tuple[int, int]
    share: float
    left: float
    top: float
    light: float


def draw_crops(count: int) -> Iterator[Crop]:
    """Draw crops; the first ones are the same for every count."""
    draw = random.Random(0)
    for _ in range(count):
        subject, size = draw.choice(SUBJECTS), draw.choices(SIZES, SHARES)[0]
        yield Crop(subject, size, draw.uniform(0.5, 0.9), draw.random(), draw.random(), draw.uniform(0.7, 1.3))


def make_photos(folder: Path, count: int) -> Path:
    """Cut photos out of scikit-image's photos; JPEG of quality 88. A folder that has them is taken as it is."""
    if folder.is_dir() and len(list(folder.iterdir())) == count:
        return folder
    import numpy as np
    from PIL import Image, ImageEnhance
    from skimage import data

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    whole = {name: Image.fromarray(np.ascontiguousarray(getattr(data, name)())).convert("RGB") for name in SUBJECTS}
    for number, crop in enumerate(draw_crops(count)):
        base, (width, height) = whole[crop.subject], crop.size
        crop_width = crop.share * min(base.width, base.height * width / height)
        crop_height = crop_width * height / width
        left, top = crop.left * (base.width - crop_width), crop.top * (base.height - crop_height)
        photo = base.resize(crop.size, box=(left, top, left + crop_width, top + crop_height))
        photo = ImageEnhance.Brightness(photo).enhance(crop.light)
        photo.save(folder / name_photo(number), quality=88)
    return folder


def name_photo(number: int) -> str:
    """The name of a photo's file."""
    return f"{number:05d}.jpg"


def write_labels(path: Path, count: int) -> Path:
    """Write what each photo shows, where ImageNet has a class for it."""
    with open(path, "w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(("path", "label"))
        table.writerows(
            (name_photo(number), LABELS[crop.subject])
            for number, crop in enumerate(draw_crops(count))
            if crop.subject in LABELS
        )
    return path
