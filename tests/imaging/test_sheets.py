"""Panels and contact sheets: what is drawn where."""

from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from matplotlib.font_manager import fontManager
from numpy.typing import NDArray
from PIL import Image

from explainable_model.errors import InputError
from explainable_model.imaging.overlay import check_style, heatmap, palette, round_box
from explainable_model.imaging.sheets import (
    GAP,
    LINE_HEIGHT,
    MARGIN,
    PANE,
    _find_font,
    contact_sheet,
    load_font,
    panel,
)

SECOND = MARGIN + PANE + GAP  # where the heatmap begins


def draw(photo: Image.Image, **style: object) -> NDArray[np.uint8]:
    box = (0.0, 0.0, float(photo.width), float(photo.height))
    return np.asarray(panel(photo, np.array([[0.0, 1.0], [1.0, 0.0]]), "", box, **style))  # type: ignore[arg-type]


def test_the_bar_of_a_signed_map_begins_at_minus_one() -> None:
    sheet = draw(Image.new("RGB", (PANE, PANE)), signed=True)
    bar = sheet[MARGIN + PANE + GAP + 2, SECOND : SECOND + PANE]
    ends = heatmap(np.array([[-1.0, 0.0, 1.0]], np.float32), signed=True)[0]
    np.testing.assert_array_equal(bar[[0, -1]], ends[[0, 2]])
    np.testing.assert_allclose(bar[PANE // 2].astype(int), ends[1], atol=4)


def test_a_panel_has_the_colors_asked_for() -> None:
    sheet = draw(Image.new("RGB", (PANE, PANE)), colormap="gray")
    heat = sheet[MARGIN : MARGIN + PANE, SECOND : SECOND + PANE].astype(int)
    assert np.ptp(heat, 2).max() == 0
    colored = draw(Image.new("RGB", (PANE, PANE)))[MARGIN : MARGIN + PANE, SECOND : SECOND + PANE].astype(int)
    np.testing.assert_array_equal(colored[0, 0], palette("turbo")[0])


def test_the_second_line_of_a_caption_is_below_the_first() -> None:
    photo = Image.new("RGB", (PANE, PANE))
    caption = "one line that is long " * 6
    sheet = np.asarray(panel(photo, np.ones((2, 2)), caption, (0.0, 0.0, float(PANE), float(PANE))))
    for number in range(2):
        line = sheet[MARGIN + number * LINE_HEIGHT : MARGIN + (number + 1) * LINE_HEIGHT]
        assert (line < 128).any()


def test_a_photo_of_one_column_or_row_is_one_pixel_wide() -> None:
    sheet = draw(Image.new("RGB", (1, 4000), "red"))
    column = sheet[MARGIN + PANE // 2, MARGIN : MARGIN + PANE]
    assert (column == [255, 0, 0]).all(1).sum() == 1
    sheet = draw(Image.new("RGB", (4000, 1), "red"))
    row = sheet[: MARGIN + PANE, MARGIN + PANE // 2]
    assert (row == [255, 0, 0]).all(1).sum() == 1


def test_a_sheet_is_as_wide_as_its_widest_panel() -> None:
    sheet = contact_sheet([Image.new("RGB", (100, 60), "red"), Image.new("RGB", (140, 60), "blue")])
    assert sheet.width == 140


def test_letters_of_another_font(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first font of the system that has them, but for the one that draws a box for each letter."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    paths = [folder / name for name in ("LastResortHE-Regular.ttf", "missing.ttf", "STIXGeneral.ttf")]
    monkeypatch.setattr(fontManager, "ttflist", [SimpleNamespace(fname=str(path)) for path in paths])
    _find_font.cache_clear()
    try:
        assert load_font(12, "a\u20de").path == str(paths[2])  # type: ignore[attr-defined]
        monkeypatch.setattr(fontManager, "ttflist", [SimpleNamespace(fname=str(paths[0]))])
        _find_font.cache_clear()
        assert load_font(12, "a\u20de").path == load_font(12).path  # type: ignore[attr-defined]
    finally:
        _find_font.cache_clear()


def test_letters_that_no_font_has_are_drawn_in_the_default_font() -> None:
    assert load_font(12, "\U0010fffd").path == load_font(12).path  # type: ignore[attr-defined]


def test_the_three_nearest_colormaps_are_named() -> None:
    with pytest.raises(InputError, match="others, for example") as caught:
        check_style("gist_rainbo", 0.5)
    named = str(caught.value).partition("for example ")[2].rstrip(".").split(", ")
    assert len(named) == 3
    assert set(named) <= set(matplotlib.colormaps)


def test_a_box_within_a_pixel_becomes_that_pixel() -> None:
    assert round_box((3.1, 4.1, 3.3, 4.3), (10, 10)) == (3, 4, 4, 5)
