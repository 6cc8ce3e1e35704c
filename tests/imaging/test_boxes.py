"""Boxes over photos: where lines, texts and maps lie, and in which colors."""

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from explainable_model.errors import InputError
from explainable_model.imaging import boxes as module
from explainable_model.imaging import sheets
from explainable_model.imaging.boxes import DrawnBox, choose_color, draw_boxes, overlay_boxes, sheet_boxes
from explainable_model.imaging.sheets import MARGIN
from explainable_model.imaging.tiles import SIDE

WHOLE = (0, 0, 160, 120)
GRAY = Image.new("RGB", (160, 120), (90, 90, 90))
LEFT, RIGHT = DrawnBox((10, 40, 60, 100)), DrawnBox((90, 40, 150, 100))


def one_hot(row: int, column: int) -> np.ndarray:
    cam = np.zeros((12, 16), np.float32)
    cam[row - 1 : row + 2, column - 1 : column + 2] = 1
    return cam


CAMS = np.stack([one_hot(7, 3), one_hot(7, 12)])


def pixel(picture: Image.Image, column: int, row: int) -> tuple[int, ...]:
    value = picture.getpixel((column, row))
    assert isinstance(value, tuple)
    return value


def test_a_server_without_matplotlib_draws_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines and maps are the same; the letters are those of Pillow's own font."""
    named = [replace(LEFT, text="cup 94%"), RIGHT]
    want = np.asarray(overlay_boxes(GRAY, CAMS, named, box=WHOLE))
    sheets._find_font.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    got = np.asarray(overlay_boxes(GRAY, CAMS, named, box=WHOLE))
    plate = np.zeros(got.shape[:2], bool)
    plate[:41] = True  # above the first box
    assert not (got != want)[~plate].any()
    assert (got[plate] == choose_color(0)).all(-1).sum() > 100
    assert (got[plate][:, 1] > 120).any()  # the letters, on red beside dim gray


def test_a_box_is_drawn_at_its_edges() -> None:
    picture = draw_boxes(GRAY, [LEFT])
    assert picture.size == GRAY.size
    for place in ((10, 70), (60, 70), (30, 40), (30, 100)):
        assert pixel(picture, *place) == choose_color(0)
    assert pixel(picture, 9, 70) == pixel(picture, 61, 70) == module.HALO
    assert pixel(picture, 35, 70) == pixel(picture, 100, 70) == (90, 90, 90)
    assert pixel(GRAY, 10, 70) == (90, 90, 90)  # the photo itself stays


def test_neighbors_have_other_colors_and_a_color_can_be_chosen() -> None:
    assert len({choose_color(number) for number in range(20)}) == 20
    picture = draw_boxes(GRAY, [LEFT, DrawnBox(RIGHT.box, color=(1, 2, 3))])
    assert (pixel(picture, 10, 70), pixel(picture, 90, 70)) == (choose_color(0), (1, 2, 3))


def test_the_first_box_lies_on_top() -> None:
    assert pixel(draw_boxes(GRAY, [LEFT, LEFT]), 10, 70) == choose_color(0)


@pytest.mark.parametrize(
    ("box", "place"),
    [
        ((40.0, 40.0, 100.0, 80.0), (41, 32)),  # above
        ((40.0, 0.0, 100.0, 80.0), (41, 88)),  # below, where there is no room above
        ((0.0, 0.0, 159.0, 119.0), (2, 8)),  # inside, where there is none outside
        ((140.0, 40.0, 159.0, 80.0), (157, 32)),  # moved to the left
    ],
)
def test_a_text_stays_in_the_photo(box: tuple[float, float, float, float], place: tuple[int, int]) -> None:
    plain, written = draw_boxes(GRAY, [DrawnBox(box)]), draw_boxes(GRAY, [DrawnBox(box, "cup 97%")])
    changed = np.abs(np.asarray(plain, int) - np.asarray(written)).sum(2) > 0
    assert changed[place[1], place[0]]
    rows, columns = np.nonzero(changed)
    assert len(set(rows)) >= 14
    assert columns.max() - columns.min() > 30
    dark = (np.asarray(written)[rows.min() + 2 : rows.max() - 1, columns.min() + 2 : columns.max() - 1] > 200).all(2)
    assert dark.any(), "white letters on red"


def test_two_texts_do_not_cover_each_other() -> None:
    boxes = [DrawnBox((40, 40, 100, 80), "cup 97%"), DrawnBox((42, 40, 102, 80), "cup 31%")]
    picture = np.asarray(draw_boxes(GRAY, boxes))
    first, second = (((picture == choose_color(number)).all(2)).sum(1) for number in (0, 1))
    assert first[26:38].min() > 10, "the first text lies above its box"
    assert second[82:94].min() > 10, "the second one below"


def test_a_box_outside_is_cut_off() -> None:
    picture = draw_boxes(GRAY, [DrawnBox((-50, -50, 300, 300))])
    assert pixel(picture, 0, 60) == pixel(picture, 159, 60) == choose_color(0)


def test_each_map_has_the_color_of_its_box() -> None:
    picture = overlay_boxes(GRAY, CAMS, [LEFT, RIGHT], box=WHOLE)
    red, green, blue = pixel(picture, 35, 75)
    assert red > 1.5 * max(green, blue)  # the color of the first box
    red, green, blue = pixel(picture, 125, 75)
    assert green > 1.5 * max(red, blue)
    assert pixel(picture, 80, 10) == (round(90 * module.DIMMED),) * 3


def test_a_colormap_draws_the_largest_value_of_all_maps() -> None:
    picture = overlay_boxes(GRAY, CAMS, [LEFT, RIGHT], box=WHOLE, colormap="gray", alpha=1.0)
    assert pixel(picture, 35, 75)[0] > 250
    assert pixel(picture, 125, 75)[0] > 250
    assert pixel(picture, 80, 10) == (0, 0, 0)


def test_signed_maps_keep_their_sign() -> None:
    maps = np.stack([CAMS[0], -CAMS[1]])
    picture = overlay_boxes(GRAY, maps, [LEFT, RIGHT], box=WHOLE, alpha=1.0, signed=True)
    (red, _, blue), (other_red, _, other_blue) = pixel(picture, 35, 75), pixel(picture, 125, 75)
    assert red > blue
    assert other_blue > other_red


def test_a_sheet_has_a_tile_for_each_box() -> None:
    sheet = sheet_boxes(GRAY, CAMS, [LEFT, RIGHT], box=WHOLE, colormap="gray", alpha=1.0)
    scale, across, tall = SIDE / 160, SIDE + 12, round(SIDE * 120 / 160)
    assert sheet.width == 2 * MARGIN + 3 * SIDE + 2 * 12
    assert sheet.height > MARGIN + tall

    def value(tile: int, column: int, row: int) -> int:
        return pixel(sheet, MARGIN + tile * across + round(column * scale), MARGIN + round(row * scale))[0]

    assert value(0, 35, 75) == 90  # the first tile is the photo with both boxes
    assert (value(1, 35, 75) > 250, value(1, 125, 75)) == (True, 0)
    assert (value(2, 35, 75), value(2, 125, 75) > 250) == (0, True)


def test_a_photo_without_boxes() -> None:
    nothing = np.zeros((0, 12, 16), np.float32)
    assert np.array_equal(overlay_boxes(GRAY, nothing, []), GRAY)
    assert sheet_boxes(GRAY, nothing, []).width == 2 * MARGIN + SIDE


def test_maps_cover_a_part_of_the_photo() -> None:
    picture = overlay_boxes(GRAY, np.ones((1, 2, 2)), [RIGHT], box=(80, 0, 160, 120))
    assert pixel(picture, 40, 60) == (round(90 * module.DIMMED),) * 3
    assert pixel(picture, 120, 60)[0] > 150


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: overlay_boxes(GRAY, CAMS, [LEFT], box=WHOLE), "cams has shape (2, 12, 16) for 1 box(es)"),
        (lambda: sheet_boxes(GRAY, CAMS[0], [LEFT], box=WHOLE), "expected (1, h, w), a map for each box"),
        (lambda: draw_boxes(GRAY, [DrawnBox((20, 0, 10, 5))]), "expected left, top, right, bottom in pixels"),
        (lambda: draw_boxes(GRAY, [DrawnBox((0, 0, float("nan"), 5))]), "expected left, top, right, bottom in pixels"),
        (lambda: overlay_boxes(GRAY, CAMS, [LEFT, RIGHT]), "expected box, the part of the photo that the map covers"),
    ],
)
def test_refusals(call: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert message in str(caught.value)
