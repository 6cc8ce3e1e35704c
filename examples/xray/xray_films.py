"""Radiographs to train and test with: crops of a real one, generated ones, *simulated* opacities with known masks."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from explainable_model.imaging.preprocess import open_photo

Gray = NDArray[np.float32]  # (h, w), 0 black to 1 white
Mask = NDArray[np.bool_]  # (h, w)

SIDE = 256  # pixels of a crop
CLEAN_BAND = (60, 545)  # rows of the real film above its own, real opacities
CLEAN_COLUMNS = {"train": (150, 920), "test": (920, 1690)}  # one lung teaches, the other one tests


@dataclass(frozen=True)
class Case:
    """One film and what is known about it.

    Attributes:
        film: gray, 256 x 256 pixels.
        mask: where the simulated opacity is; empty without one.
        origin: ``real`` or ``generated``.
    """

    film: Image.Image
    mask: Mask
    origin: str

    @property
    def is_opaque(self) -> bool:
        """Whether the film has a simulated opacity."""
        return bool(self.mask.any())


def find_radiograph() -> Path:
    """Find the real radiograph in the package ``pydicom-data``."""
    try:
        import data_store
    except ImportError as error:
        raise SystemExit("The real radiograph is missing: pip install 'pydicom>=3' pydicom-data==1.0.0") from error
    return Path(data_store.__file__).parent / "data" / "RG1_UNCI.dcm"


def read_radiograph() -> Gray:
    """Read the real radiograph through the window in its file, as the library reads it everywhere."""
    return np.asarray(open_photo(find_radiograph()).convert("L"), np.float32) / 255


def crop_real(film: Gray, part: str, random: np.random.Generator) -> Gray:
    """Cut a random square from the upper zone of one lung."""
    top, bottom = CLEAN_BAND
    left, right = CLEAN_COLUMNS[part]
    side = int(random.integers(360, bottom - top + 1))
    row, column = random.integers(top, bottom - side + 1), random.integers(left, right - side + 1)
    return _resize(film[row : row + side, column : column + side])


def draw_chest(random: np.random.Generator, side: int = 512) -> Gray:
    """Draw a picture that looks like a chest radiograph: lungs, ribs, spine, heart, vessels and noise."""
    scale = side / 512
    lungs = _draw_lungs(random, side).filter(ImageFilter.GaussianBlur(7 * scale))
    bones = _draw_bones(random, side).filter(ImageFilter.GaussianBlur(2.2 * scale))
    vessels = _draw_vessels(random, side).filter(ImageFilter.GaussianBlur(1.3 * scale))
    inside = _as_gray(lungs)
    chest = 0.80 - random.uniform(0.36, 0.46) * inside + 0.5 * _as_gray(bones) * (0.35 + 0.65 * inside)
    chest += (
        0.35 * _as_gray(vessels) * inside + 0.035 * make_clouds(random, side, 4) + 0.012 * make_clouds(random, side, 24)
    )
    chest += random.normal(0, 0.008, chest.shape)
    return np.clip(chest, 0, 1).astype(np.float32)


def crop_generated(chest: Gray, random: np.random.Generator) -> Gray:
    """Cut a random square from a generated chest."""
    height, width = chest.shape
    side = int(random.integers(int(0.55 * height), height + 1))
    row, column = random.integers(0, height - side + 1), random.integers(0, width - side + 1)
    return _resize(chest[row : row + side, column : column + side])


def add_opacity(film: Gray, random: np.random.Generator) -> tuple[Gray, Mask]:
    """Brighten one rounded, soft-edged place: a *simulated* opacity. Returns the film and the opacity's mask."""
    radius = random.uniform(18, 38)
    row, column = _choose_dark_place(film, radius, random)
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    angle = np.arctan2(rows - row, columns - column)
    waves = [random.normal(0, 0.10 / k) * np.cos(k * angle + random.uniform(0, 2 * np.pi)) for k in range(2, 6)]
    edge = radius * (1 + np.sum(waves, axis=0))
    distance = np.hypot((rows - row) * random.uniform(0.85, 1.15), columns - column)
    profile = 0.5 - 0.5 * np.tanh((distance - edge) / random.uniform(3, 7))
    texture = 1 + 0.15 * make_clouds(random, SIDE, 20)
    brighter = film + random.uniform(0.22, 0.42) * profile * texture * (1.15 - film)
    return np.clip(brighter, 0, 1).astype(np.float32), profile > 0.5


def iterate_cases(part: str, seed: int, film: Gray | None, chests: int = 24) -> Iterator[Case]:
    """Make cases without an end: half of them with an opacity, half of them real where there is a real film.

    Args:
        part: ``train`` or ``test``: which lung of the real film is used.
        seed: of everything random.
        film: as from ``read_radiograph``; ``None`` for generated films alone.
        chests: how many generated chests the crops are cut from.
    """
    random = np.random.default_rng([seed, len(part)])
    drawn = [draw_chest(random) for _ in range(chests)]
    while True:
        real = film is not None and random.random() < 0.5
        picture = crop_real(film, part, random) if real else crop_generated(drawn[random.integers(chests)], random)
        if random.random() < 0.5:
            picture = picture[:, ::-1]
        picture = np.clip((picture - 0.5) * random.uniform(0.8, 1.25) + 0.5 + random.uniform(-0.1, 0.1), 0, 1)
        opaque = random.random() < 0.5
        picture, mask = add_opacity(picture, random) if opaque else (picture, np.zeros((SIDE, SIDE), bool))
        yield Case(_as_image(picture), mask, "real" if real else "generated")


def _choose_dark_place(film: Gray, radius: float, random: np.random.Generator) -> tuple[float, float]:
    """Choose a center where the film is darker than at half of its pixels: in a lung, as far as that can be told."""
    middle = float(np.median(film))
    places = random.uniform(radius, SIDE - radius, (24, 2))
    for row, column in places:
        reach = radius / 2
        around = film[int(row - reach) : int(row + reach) + 1, int(column - reach) : int(column + reach) + 1]
        if around.mean() < middle:
            return float(row), float(column)
    return float(places[0][0]), float(places[0][1])


def _draw_lungs(random: np.random.Generator, side: int) -> Image.Image:
    picture = Image.new("L", (side, side))
    draw = ImageDraw.Draw(picture)
    top, bottom = random.uniform(0.08, 0.13), random.uniform(0.80, 0.88)
    for mirrored in (False, True):
        outline = [(0.43, top + 0.12), (0.38, top + 0.02), (0.31, top), (0.23, top + 0.07), (0.15, 0.35), (0.11, 0.60)]
        base = bottom - (0.04 if mirrored else 0.0)
        outline += [(0.10, base), (0.20, base - 0.07), (0.33, base - 0.06), (0.40, base - 0.02)]
        outline += [(0.33, 0.66), (0.36, 0.50)] if mirrored else [(0.42, 0.6)]  # the heart
        points = [((1 - x if mirrored else x) * side, y * side) for x, y in outline]
        draw.polygon(points, fill=255)
    return picture


def _draw_bones(random: np.random.Generator, side: int) -> Image.Image:
    picture = Image.new("L", (side, side))
    draw = ImageDraw.Draw(picture)
    tilt = random.uniform(0.10, 0.16)
    for rib in range(10):
        level = 0.07 + 0.085 * rib
        reach = 0.28 + 0.13 * min(rib, 4) / 4
        for sign in (-1, 1):
            steps = np.linspace(0.05, 1, 40)
            x = 0.5 + sign * reach * steps**0.9
            y = level + tilt * steps**2.2 - 0.07 * np.sin(np.pi * steps)
            points = [(float(a) * side, float(b) * side) for a, b in zip(x, y, strict=True)]
            draw.line(points, fill=58, width=max(int(0.022 * side), 1), joint="curve")
            lower = [(a, b + 0.011 * side) for a, b in points]
            draw.line(lower, fill=92, width=max(int(0.005 * side), 1), joint="curve")
    for sign in (-1, 1):  # clavicles
        draw.line(
            [((0.5 + sign * x) * side, y * side) for x, y in ((0.04, 0.17), (0.2, 0.15), (0.42, 0.07))],
            fill=95,
            width=int(0.026 * side),
        )
    for vertebra in range(14):
        row = (0.02 + 0.07 * vertebra) * side
        draw.rounded_rectangle((0.462 * side, row, 0.538 * side, row + 0.055 * side), 0.012 * side, fill=52)
    return picture


def _draw_vessels(random: np.random.Generator, side: int) -> Image.Image:
    picture = Image.new("L", (side, side))
    draw = ImageDraw.Draw(picture)
    for sign in (-1, 1):
        for _ in range(26):
            x, y = 0.5 + sign * 0.10, random.uniform(0.40, 0.52)
            angle, width = random.uniform(-1.2, 1.2), random.uniform(2.0, 5.0)
            for _ in range(9):
                step = 0.035
                nx, ny = x + sign * step * np.cos(angle), y + step * np.sin(angle)
                draw.line((x * side, y * side, nx * side, ny * side), fill=70, width=max(int(width * side / 512), 1))
                x, y, angle, width = nx, ny, angle + random.normal(0, 0.25), width * 0.82
    return picture


def make_clouds(random: np.random.Generator, side: int, cells: int) -> Gray:
    """Make smooth noise of about unit range."""
    noise = Image.fromarray(random.normal(0, 1, (cells, cells)).astype(np.float32))
    return np.asarray(noise.resize((side, side), Image.Resampling.BICUBIC))


def _as_gray(picture: Image.Image) -> Gray:
    return np.asarray(picture, np.float32) / 255


def _as_image(film: Gray) -> Image.Image:
    return Image.fromarray(np.rint(film * 255).astype(np.uint8))


def _resize(film: Gray) -> Gray:
    return np.asarray(Image.fromarray(np.ascontiguousarray(film)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)).clip(
        0, 1
    )
