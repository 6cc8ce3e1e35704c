"""Generated scenes: cut-outs of real cats, coins, cups, faces and flowers, pasted on real photos, with known boxes.

A third of the scenes that teach are parts of the photos from which the cut-outs come, and more is pasted on them.

The photos come in the wheels of scikit-image and scikit-learn.
"""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from explainable_model.demo.detector import CLASSES, SIDE

Boxes = NDArray[np.float32]  # (k, 4): left, top, right, bottom in pixels
Ellipse = tuple[int, int, int, int]

FACE, CUP, FLOWER = ((50, 2, 380, 298),), ((168, 18, 415, 310), (78, 62, 478, 386)), ((165, 84, 448, 360),)
COINS: dict[str, tuple[Ellipse, ...]] = {  # the upper two rows teach, the lower two test
    "train": (
        *((22, 34, 67, 74), (81, 39, 120, 74), (132, 29, 179, 74), (192, 30, 240, 73), (255, 34, 297, 72)),
        *((305, 16, 365, 72), (25, 104, 67, 145), (84, 107, 122, 145), (134, 110, 174, 145), (186, 105, 227, 144)),
        *((245, 96, 296, 144), (317, 105, 356, 145)),
    ),
    "test": (
        *((25, 178, 63, 217), (80, 175, 124, 217), (135, 179, 174, 217), (189, 170, 237, 217), (251, 172, 297, 217)),
        *((315, 156, 381, 218), (18, 233, 75, 288), (143, 236, 201, 288), (273, 239, 327, 289), (92, 245, 137, 287)),
        *((219, 240, 271, 288), (335, 247, 381, 288)),
    ),
}
PHOTOS: dict[str, tuple[str, tuple[Ellipse, ...]]] = {  # as they are, with the boxes of what lies in them
    "chelsea.png": ("cat", FACE),
    "coffee.png": ("cup", ((78, 18, 478, 386),)),
    "flower.jpg": ("flower", (*FLOWER, (286, 374, 465, 427))),
    "coins.png": ("coin", COINS["train"]),
}
CLEAN_ROWS = 150  # of the photo of coins: those that teach lie above
FACES = {"train": slice(0, 70), "test": slice(70, 100)}  # of 100 faces; as many pictures of something else follow
OTHERS = slice(100, 200)
GROUNDS = {
    "train": (
        *("hubble_deep_field.jpg", "brick.png", "grass.png", "moon.png", "ihc.png", "motorcycle_left.png", "page.png"),
        *("text.png", "retina.jpg", "cell.png", "color.png", "horse.png", "logo.png", "clock_motion.png"),
    ),
    "test": ("china.jpg", "rocket.jpg", "gravel.png"),
}
SIZES = {"cat": (36, 130), "coin": (18, 90), "cup": (40, 140), "face": (18, 64), "flower": (26, 110)}
MOST_OBJECTS = 5
OVERLAP = 0.15  # largest share of the smaller box that another one may cover
FEATHER = 0.7  # blur of the edge of a cut-out, in pixels


@dataclass(frozen=True)
class Scene:
    """One generated scene and what lies in it.

    Attributes:
        picture: RGB, 192 x 192 pixels.
        boxes: of the objects.
        labels: ``(k,)`` int64, positions in ``CLASSES``.
    """

    picture: Image.Image
    boxes: Boxes
    labels: NDArray[np.int64]


class SceneMaker:
    """Makes scenes without an end.

    Args:
        part: ``train`` or ``test``: other photos behind the objects, other faces, other coins; the cat, the cup and the
            flower are the same.
        seed: of everything random.
    """

    def __init__(self, part: str, seed: int = 0) -> None:
        self.random = np.random.default_rng([seed, len(part)])
        self.grounds = [_open(name) for name in GROUNDS[part]]
        self.photos = {name: _open(name) for name in PHOTOS} if part == "train" else {}
        faces = np.load(_find("lfw_subset.npy"))
        coins = _open("coins.png")
        self.objects = {
            "cat": [_cut(_open("chelsea.png"), FACE)],
            "coin": [_cut(coins, (ellipse,)) for ellipse in COINS[part]],
            "cup": [_cut(_open("coffee.png"), CUP)],
            "face": [_cut_face(face) for face in faces[FACES[part]]],
            "flower": [_cut(_open("flower.jpg"), FLOWER)],
        }
        self.others = [_cut_face(other) for other in faces[OTHERS]]

    def __iter__(self) -> Iterator[Scene]:
        """Make scenes."""
        while True:
            yield self.make()

    def make(self) -> Scene:
        """Make the next scene: up to five objects, and patches of other photos, which are no objects.

        One in three scenes to train with is a part of a photo in which an object lies by itself.
        """
        random = self.random
        boxes: list[tuple[float, ...]] = []
        labels: list[int] = []
        if self.photos and random.random() < 0.33:
            scene, boxes, labels = self._crop_photo()
        else:
            scene = self._crop_ground()
        for _ in range(random.integers(0, 4)):  # a pasted edge must not tell that there is an object
            patch = self._crop_patch() if random.random() < 0.7 else self._pick(self.others)
            self._paste(scene, self._change(patch, random.uniform(14, 100)), boxes)
        for _ in range(random.integers(0 if boxes else 1, MOST_OBJECTS + 1)):
            name = CLASSES[random.integers(len(CLASSES))]
            side = np.exp(random.uniform(*np.log(SIZES[name])))
            cutout = self._pick(self.objects[name])
            if name in ("coin", "face"):
                cutout = self._tint(cutout)
            box = self._paste(scene, self._change(cutout, side), boxes)
            if box is not None:
                boxes.append(box)
                labels.append(CLASSES.index(name))
        if random.random() < 0.2:
            scene = scene.convert("L").convert("RGB")
        scene = ImageEnhance.Brightness(scene).enhance(random.uniform(0.75, 1.25))
        return Scene(scene, np.asarray(boxes, np.float32).reshape(-1, 4), np.asarray(labels, np.int64))

    def _pick(self, cutouts: list[Image.Image]) -> Image.Image:
        return cutouts[self.random.integers(len(cutouts))]

    def _crop_ground(self) -> Image.Image:
        """Cut a random square from a photo."""
        photo = self.grounds[self.random.integers(len(self.grounds))]
        side = int(self.random.uniform(0.45, 1.0) * min(photo.size))
        left, top = (int(self.random.integers(0, full - side + 1)) for full in photo.size)
        crop = photo.resize((SIDE, SIDE), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if self.random.random() < 0.5 else crop
        return ImageEnhance.Color(crop).enhance(self.random.uniform(0.2, 1.3))

    def _crop_photo(self) -> tuple[Image.Image, list[tuple[float, ...]], list[int]]:
        """Cut a random part from a photo with objects, none of which is cut in two; returns boxes and labels too."""
        name = str(self.random.choice(list(PHOTOS)))
        photo, (label, found) = self.photos[name], PHOTOS[name]
        width, height = photo.width, CLEAN_ROWS if label == "coin" else photo.height
        for _ in range(20):
            side, stretch = self.random.uniform(0.5, 1.0) * min(width, height), np.exp(self.random.normal(0, 0.3))
            sides = min(int(side * max(stretch, 1)), width), min(int(side * max(1 / stretch, 1)), height)
            left, top = (
                int(self.random.integers(0, full - side + 1)) for full, side in zip((width, height), sides, strict=True)
            )
            window = (left, top, left + sides[0], top + sides[1])
            shares = [_overlap(box, window) if _area(box) < _area(window) else 0.5 for box in found]
            if max(shares) > 0.8 and all(share > 0.8 or share < 0.1 for share in shares):
                break
        else:
            window, shares = (0, 0, width, height), [1.0] * len(found)
        scene = photo.resize((SIDE, SIDE), Image.Resampling.BILINEAR, window)
        factors = SIDE / (window[2] - window[0]), SIDE / (window[3] - window[1])
        boxes: list[tuple[float, ...]] = []
        mirrored = self.random.random() < 0.5
        for box, share in zip(found, shares, strict=True):
            if share > 0.8:
                edges = [(edge - window[n % 2]) * factors[n % 2] for n, edge in enumerate(box)]
                edges = [SIDE - edges[2], edges[1], SIDE - edges[0], edges[3]] if mirrored else edges
                boxes.append(tuple(min(max(edge, 0.0), SIDE) for edge in edges))
        scene = scene.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else scene
        scene = ImageEnhance.Color(scene).enhance(self.random.uniform(0.3, 1.3))
        return scene, boxes, [CLASSES.index(label)] * len(boxes)

    def _crop_patch(self) -> Image.Image:
        """Cut an ellipse or a rectangle from a photo."""
        ground = self._crop_ground()
        width, height = (int(side) for side in self.random.uniform(50, SIDE, 2))
        mask = Image.new("L", (width, height), 255)
        if self.random.random() < 0.7:
            mask = Image.new("L", (width, height))
            ImageDraw.Draw(mask).ellipse((0, 0, width - 1, height - 1), fill=255)
        patch = ground.crop((0, 0, width, height))
        patch.putalpha(mask)
        return patch

    def _tint(self, cutout: Image.Image) -> Image.Image:
        """Color a gray cut-out: skin and metal are rarely gray."""
        warmth = self.random.uniform(0, 0.45)
        red, green, blue, alpha = cutout.split()
        green, blue = (
            band.point(lambda value, share=share: int(value * (1 - warmth * share)))
            for band, share in ((green, self.random.uniform(0.3, 0.7)), (blue, self.random.uniform(0.6, 1.1)))
        )
        return Image.merge("RGBA", (red.point(lambda value: min(255, int(value * 1.1))), green, blue, alpha))

    def _change(self, cutout: Image.Image, side: float) -> Image.Image:
        """Resize a cut-out so that its longer side has ``side`` pixels; flip, turn and light it at random."""
        random = self.random
        if random.random() < 0.5:
            cutout = cutout.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        scale = side / max(cutout.size)
        stretch = np.exp(random.normal(0, 0.15))
        size = [
            max(6, round(length * scale * factor)) for length, factor in zip(cutout.size, (stretch, 1), strict=True)
        ]
        cutout = cutout.resize((size[0], size[1]), Image.Resampling.LANCZOS)
        cutout = cutout.rotate(random.normal(0, 10), Image.Resampling.BICUBIC, expand=True)
        alpha = cutout.getchannel("A").filter(ImageFilter.GaussianBlur(FEATHER))
        colors = cutout.convert("RGB")
        for enhancer, low, high in ((ImageEnhance.Brightness, 0.65, 1.35), (ImageEnhance.Contrast, 0.7, 1.3)):
            colors = enhancer(colors).enhance(random.uniform(low, high))
        colors = ImageEnhance.Color(colors).enhance(random.uniform(0.4, 1.4))
        if random.random() < 0.3:
            colors = colors.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 1.2)))
        colors.putalpha(alpha)
        return colors

    def _paste(
        self, scene: Image.Image, cutout: Image.Image, taken: list[tuple[float, ...]]
    ) -> tuple[float, float, float, float] | None:
        """Paste a cut-out where it covers no other box; ``None`` where no place was found."""
        found = cutout.getchannel("A").point(lambda value: 255 if value > 127 else 0).getbbox()
        if found is None:
            return None
        for _ in range(12):
            beyond = 0.15 if self.random.random() < 0.3 else 0.0  # some leave the picture
            ranges = [(-beyond * length, SIDE - (1 - beyond) * length) for length in (found[2], found[3])]
            left, top = (int(self.random.uniform(min(low, high), max(low, high))) for low, high in ranges)
            edges = (left + found[0], top + found[1], left + found[2], top + found[3])
            box = tuple(float(min(max(edge, 0), SIDE)) for edge in edges)
            if all(_overlap(box, other) <= OVERLAP for other in taken):
                scene.paste(cutout.convert("RGB"), (left, top), cutout.getchannel("A"))
                return box[0], box[1], box[2], box[3]
        return None


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Share of the smaller box that the other one covers."""
    across, down = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    return max(across, 0) * max(down, 0) / max(min(_area(one), _area(other)), 1)


def _area(box: tuple[float, ...]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _cut(photo: Image.Image, ellipses: tuple[Ellipse, ...]) -> Image.Image:
    mask = Image.new("L", photo.size)
    for ellipse in ellipses:
        ImageDraw.Draw(mask).ellipse(ellipse, fill=255)
    cutout = photo.copy()
    cutout.putalpha(mask)
    return cutout.crop(mask.getbbox())


def _cut_face(face: NDArray[np.float64]) -> Image.Image:
    gray = Image.fromarray(np.rint(face * 255).astype(np.uint8)).resize((100, 100), Image.Resampling.BICUBIC)
    return _cut(gray.convert("RGB"), ((8, 0, 91, 99),))


def _open(name: str) -> Image.Image:
    with Image.open(_find(name)) as photo:
        return photo.convert("RGB")


def _find(name: str) -> Path:
    """Find a photo in the wheels without importing them, which takes a second."""
    for package, folder in (("skimage", "data"), ("sklearn", "datasets/images")):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            path = Path(spec.submodule_search_locations[0], folder, name)
            if path.is_file():
                return path
    raise SystemExit(f"The photo {name} is missing: pip install scikit-image scikit-learn")
