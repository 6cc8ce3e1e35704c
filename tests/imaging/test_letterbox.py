"""A photo in an image with a border: where it lies, what is cut from maps, and where boxes come back."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from explainable_model import Preprocess
from explainable_model.errors import InputError
from explainable_model.explainer.found_boxes import place_boxes
from explainable_model.imaging.overlay import overlay

PLAIN = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
GRAY = 114 / 255
BOXED = Preprocess((32, 64), **PLAIN, pad=GRAY)


def draw(width: int, height: int, box: tuple[int, int, int, int]) -> Image.Image:
    picture = Image.new("RGB", (width, height), "black")
    picture.paste((255, 255, 255), box)
    return picture


@pytest.mark.parametrize(
    ("size", "place"),
    [
        ((40, 40), (16, 0, 32, 32)),  # left, top, columns, rows in 64 x 32
        ((128, 20), (0, 11, 64, 10)),
        ((128, 64), (0, 0, 64, 32)),
        ((30, 20), (8, 0, 48, 32)),
        ((31, 20), (7, 0, 50, 32)),  # 14 columns are left
        ((2000, 1), (0, 15, 64, 1)),
    ],
)
def test_the_photo_lies_in_the_middle(size: tuple[int, int], place: tuple[int, int, int, int]) -> None:
    image = BOXED(Image.new("RGB", size, "white"))
    left, top, columns, rows = place
    assert image.shape == (1, 3, 32, 64)
    inside = np.zeros((32, 64), bool)
    inside[top : top + rows, left : left + columns] = True
    np.testing.assert_allclose(image[0, 0], np.where(inside, 1, GRAY), atol=1e-6)
    cam = np.where(inside, 1.0, 0.0)
    cropped = BOXED.crop(cam, *size)
    assert cropped.shape == (rows, columns)
    assert cropped.all()


@pytest.mark.parametrize("preprocess", [BOXED, Preprocess((32, 64), **PLAIN), Preprocess((24, 24), **PLAIN, resize=32)])
@pytest.mark.parametrize("size", [(100, 80), (90, 160), (33, 47)])
def test_boxes_come_back_to_their_place(preprocess: Preprocess, size: tuple[int, int]) -> None:
    """Draw a box into the photo, find it in the image, and bring it back."""
    width, height = size
    box = (0.35 * width, 0.4 * height, 0.6 * width, 0.65 * height)
    drawn = tuple(round(edge) for edge in box)
    rows, columns = np.nonzero(preprocess(draw(width, height, drawn))[0, 0] > 0.7)
    found = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], float)
    placed = place_boxes(found, preprocess.image_box(*size), preprocess.size, size)
    pixel = max(width / preprocess.size[1], height / preprocess.size[0]) + 1
    np.testing.assert_allclose(placed[0], drawn, atol=1.5 * pixel)


def test_a_point_of_the_photo_has_one_place() -> None:
    left, top, right, bottom = BOXED.image_box(40, 40)
    assert (left, top, right, bottom) == (-20, 0, 60, 40)
    assert BOXED.box(40, 40) == (0, 0, 40, 40)
    corner = place_boxes(np.array([[16.0, 0, 48, 32]]), (left, top, right, bottom), (32, 64), (40, 40))
    np.testing.assert_allclose(corner, [[0, 0, 40, 40]])


def test_boxes_are_cut_off_at_the_photo() -> None:
    placed = place_boxes(np.array([[0.0, 0, 64, 32]]), BOXED.image_box(40, 40), (32, 64), (40, 40))
    assert placed.tolist() == [[0, 0, 40, 40]]


def test_refusals() -> None:
    with pytest.raises(ValueError, match="pad is 0.5 with resize=64; expected a gray value from 0 to 1 and no resize"):
        Preprocess((64, 64), resize=64, pad=0.5)
    with pytest.raises(ValueError, match="pad is 114"):
        Preprocess((64, 64), pad=114)
    with pytest.raises(
        InputError, match="The maps are 7 x 7; an image with a border has maps of its own size, 32 x 64"
    ):
        BOXED.crop(np.zeros((1, 7, 7)), 40, 40)
    with pytest.raises(InputError, match="The image has a border, which the map covers too"):
        overlay(draw(40, 40, (0, 0, 9, 9)), np.zeros((32, 64)), box=BOXED)


def test_networks_without_boxes_take_no_border() -> None:
    from torch import nn

    import explainable_model as xm

    network: Any = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    with pytest.raises(
        InputError, match="puts a border around the photo, which is for detectors: add task='detection'"
    ):
        xm.explain(draw(40, 40, (0, 0, 9, 9)), network, preprocess=BOXED)
