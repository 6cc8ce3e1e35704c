"""Pictures, pixel by pixel, against matplotlib's colormaps and arithmetic done by hand."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from explainable_model.errors import ArtifactError, InputError
from explainable_model.imaging import sheets
from explainable_model.imaging.as_decoded import AsDecoded
from explainable_model.imaging.overlay import UNSEEN, check_style, heatmap, hottest_point, overlay, palette
from explainable_model.imaging.preprocess import Preprocess
from explainable_model.imaging.sheets import BAR_HEIGHT, GAP, MARGIN, NOTE_SIZE, PANE, panel, save_picture

WHOLE = Preprocess((8, 8))  # squashes the whole photo
WIDTH = 2 * MARGIN + 3 * PANE + 2 * GAP


def random_photo(width: int, height: int, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def pixels(picture: Image.Image) -> NDArray[np.int64]:
    return np.asarray(picture).astype(np.int64)


def color_of(value: float, colormap: str = "turbo") -> NDArray[np.int64]:
    return np.asarray(matplotlib.colormaps[colormap](value, bytes=True)[:3]).astype(np.int64)


@pytest.mark.parametrize("colormap", ["turbo", "jet", "viridis", "gray"])
def test_heatmap_is_the_colormap(colormap: str) -> None:
    cam = np.random.default_rng(0).random((13, 17), dtype=np.float32)
    cam[0, :3] = 0.0, 1.0, 0.5
    expected = matplotlib.colormaps[colormap](cam, bytes=True)[..., :3]
    assert heatmap(cam, colormap).dtype == np.uint8
    assert np.array_equal(heatmap(cam, colormap), expected)


def test_heatmap_of_a_raw_map_is_scaled_by_its_maximum() -> None:
    cam = np.array([[0.0, 5.0], [10.0, 2.5]])
    assert np.array_equal(heatmap(cam), heatmap(cam / 10))
    assert np.array_equal(heatmap(cam / 20)[1, 0], color_of(0.5)), "a map below 1 keeps its scale"


@pytest.mark.parametrize(
    ("cam", "message"),
    [
        (np.zeros((1, 4, 4)), r"shape \(1, 4, 4\).*expected \(h, w\)"),
        (np.zeros((0, 4)), "shape"),
        (np.array([[np.nan, 0.0]]), "NaN"),
        (np.array([[-0.25, 1.0]]), r"down to -0\.25.*signed=True"),
    ],
)
def test_heatmap_refuses(cam: NDArray[np.float64], message: str) -> None:
    with pytest.raises(InputError, match=message):
        heatmap(cam)


def test_signed_heatmap_is_white_at_zero() -> None:
    cam = np.array([[-1.0, 0.0, 0.5]])
    expected = [color_of(value, "RdBu_r") for value in (0.0, 0.5, 0.75)]
    assert np.array_equal(heatmap(cam, signed=True)[0], expected)
    assert np.array_equal(heatmap(8 * cam, signed=True), heatmap(cam, signed=True))
    assert np.array_equal(heatmap(cam / 2, signed=True)[0, 0], color_of(0.25, "RdBu_r")), (
        "a map below 1 keeps its scale"
    )
    assert np.array_equal(heatmap(np.array([[-1e-8, 1.0]]))[0, 0], color_of(0.0)), "rounding is no evidence"


def test_overlay_of_a_signed_map() -> None:
    photo, cam = random_photo(3, 1), np.array([[-4.0, 0.0, 4.0]])
    assert np.array_equal(pixels(overlay(photo, cam, alpha=1, signed=True)), heatmap(cam, signed=True))
    shown = pixels(overlay(photo, cam, alpha=1, signed=True, threshold=0.5))
    assert np.array_equal(shown[0, 1], pixels(photo)[0, 1])
    assert np.array_equal(shown[0, ::2], heatmap(cam, signed=True)[0, ::2])


def test_overlay_does_not_guess_what_the_map_covers() -> None:
    photo, cam = random_photo(60, 40), np.random.default_rng(3).random((20, 20))
    for draw in (overlay, lambda photo, cam: panel(photo, cam, "")):
        with pytest.raises(InputError, match=r"20 x 20 values, the photo 60 x 40 pixels.*box=preprocess"):
            draw(photo, cam)
    crop = Preprocess((20, 20), resize=25)
    expected = pixels(overlay(photo, cam, box=crop.box(60, 40)))
    assert np.array_equal(pixels(overlay(photo, cam, box=crop)), expected)
    assert np.array_equal(expected[:, :12], pixels(photo)[:, :12]), "outside of the crop the photo stays as it is"
    whole = pixels(overlay(photo, cam, box=(0, 0, 60, 40)))
    assert np.array_equal(pixels(overlay(photo, cam, box=WHOLE)), whole)
    assert np.array_equal(pixels(overlay(photo, cam, box=AsDecoded("NHWC"))), whole)


def test_look_is_checked() -> None:
    check_style("viridis", 1.0)
    with pytest.raises(InputError, match=r"'viridos'.*viridis"):
        check_style("viridos", 0.5)
    with pytest.raises(InputError, match=r"alpha is 1\.5"):
        check_style("turbo", 1.5)


def test_overlay_blends_inside_the_box_and_leaves_the_rest() -> None:
    photo = random_photo(40, 30)
    before = pixels(photo)
    cam = np.full((7, 7), 0.75)
    got = pixels(overlay(photo, cam, alpha=0.25, box=(5.0, 0.0, 35.0, 30.0)))
    blended = 0.75 * before + 0.25 * color_of(0.75)
    assert np.abs(got[:, 5:35] - blended[:, 5:35]).max() <= 1
    assert np.array_equal(got[:, :5], before[:, :5])
    assert np.array_equal(got[:, 35:], before[:, 35:])
    assert np.array_equal(pixels(photo), before), "the photo itself is not painted on"


def test_overlay_alpha_ends() -> None:
    photo, cam = random_photo(9, 8), np.random.default_rng(1).random((8, 9))
    assert np.array_equal(pixels(overlay(photo, cam, alpha=0)), pixels(photo))
    assert np.array_equal(pixels(overlay(photo, cam, alpha=1)), heatmap(cam))


def test_overlay_puts_a_cell_where_the_network_saw_it() -> None:
    cam = np.zeros((7, 7))
    cam[5, 1] = 1.0
    got = pixels(overlay(Image.new("RGB", (300, 140)), cam, colormap="gray", alpha=1, box=(100, 0, 240, 140)))
    rows, columns = np.nonzero(got[..., 0] > 128)
    assert abs(columns.mean() - (100 + 1.5 * 20)) < 1
    assert abs(rows.mean() - 5.5 * 20) < 1
    assert got[..., 0].max() == 255


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_overlay_takes_any_mode(mode: str) -> None:
    photo = random_photo(12, 10).convert(mode)
    got = overlay(photo, np.zeros((2, 2)), alpha=0, box=WHOLE)
    assert got.mode == "RGB"
    assert np.array_equal(pixels(got), pixels(photo.convert("RGB")))


def test_overlay_of_a_part_below_the_top_is_that_of_the_part_beside_it_turned() -> None:
    photo, cam = random_photo(60, 40), np.random.default_rng(3).random((4, 5))
    wide = pixels(overlay(photo, cam, box=(20.0, 10.0, 50.0, 34.0)))
    tall = pixels(overlay(photo.transpose(Image.Transpose.TRANSPOSE), cam.T, box=(10.0, 20.0, 34.0, 50.0)))
    assert np.abs(wide - tall.transpose(1, 0, 2)).max() <= 1
    assert np.array_equal(wide[:10], pixels(photo)[:10])
    assert np.array_equal(wide, pixels(overlay(photo, cam, box=(20.0, 10.0, 50.0, 34.0), alpha=0.5)))
    sheet = pixels(panel(photo.resize((320, 320)), np.ones((7, 7)), "", box=(0.0, 160.0, 320.0, 320.0)))
    column = sheet[:, MARGIN + PANE + GAP + 160]
    assert np.array_equal(column[MARGIN + 155], UNSEEN)
    assert np.array_equal(column[MARGIN + 165], color_of(1.0))


def test_overlay_takes_a_box_that_is_half_a_pixel_larger() -> None:
    whole, larger = (overlay(random_photo(40, 30), np.eye(4), box=box) for box in (WHOLE, (-0.5, -0.5, 40.5, 30.5)))
    assert np.array_equal(pixels(larger), pixels(whole))


OUTSIDE = [
    (0, 0, 41, 30), (-1, 0, 40, 30), (0, -1, 40, 30), (0, 0, 40, 31), (0, 0, 40, 30.6), (0, -0.6, 40, 30),
    (20, 0, 20, 30), (0, 20, 40, 10),
]  # fmt: skip


@pytest.mark.parametrize("box", OUTSIDE)
def test_overlay_refuses_a_box_outside_the_photo(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(InputError, match="not inside the photo of 40 x 30"):
        overlay(random_photo(40, 30), np.zeros((2, 2)), box=box)


def test_overlay_of_a_sliver() -> None:
    got = overlay(random_photo(40, 1), np.ones((7, 7)), alpha=1, box=(19.6, 0.0, 20.4, 1.0))
    assert np.array_equal(pixels(got)[0, 20], color_of(1.0))


def test_hottest_point() -> None:
    cam = np.zeros((4, 2))
    cam[3, 0] = 1.0
    assert hottest_point(cam, (10.0, 20.0, 30.0, 60.0)) == (15.0, 55.0)


@pytest.mark.parametrize(
    ("size", "shown"), [((640, 320), (320, 160)), ((100, 200), (160, 320)), ((30, 30), (320, 320))]
)
def test_panel_is_photo_heatmap_overlay(size: tuple[int, int], shown: tuple[int, int]) -> None:
    photo, cam = random_photo(*size), np.random.default_rng(2).random((7, 7))
    sheet = panel(photo, cam, "chelsea.png: Egyptian cat, 79%", WHOLE, alpha=0.5)
    values = pixels(sheet)
    below = sheet.height - MARGIN - BAR_HEIGHT - NOTE_SIZE - 6
    top = below - GAP - shown[1]
    bar = values[below : below + BAR_HEIGHT, MARGIN + PANE + GAP : MARGIN + 2 * PANE + GAP]
    assert np.array_equal(bar[0], heatmap(np.linspace(0, 1, PANE, dtype=np.float32)[None])[0])
    assert np.array_equal(bar[0], bar[-1])
    values[below:] = 255
    panes = []
    for column in range(3):
        left = MARGIN + column * (PANE + GAP) + (PANE - shown[0]) // 2
        panes.append(values[top : top + shown[1], left : left + shown[0]].copy())
        values[top : top + shown[1], left : left + shown[0]] = 255
    assert np.array_equal(panes[0], pixels(photo.resize(shown, Image.Resampling.LANCZOS)))
    assert np.abs(panes[2] - (panes[0] + panes[1]) / 2).max() <= 1
    fine = np.clip(np.asarray(Image.fromarray(cam.astype(np.float32)).resize(shown, Image.Resampling.BICUBIC)), 0, 1)
    assert np.array_equal(panes[1], heatmap(fine))
    caption = values[MARGIN : top - GAP]
    assert (caption < 128).any(), "the caption is dark on white"
    values[MARGIN : top - GAP] = 255
    assert sheet.width == WIDTH
    assert (values == 255).all(), "white everywhere else"


def test_panel_shows_what_the_network_did_not_see() -> None:
    photo = random_photo(640, 320)
    sheet = pixels(panel(photo, np.ones((7, 7)), "", box=(160.0, 0.0, 480.0, 320.0)))
    row = MARGIN + 80
    heat, blended = MARGIN + PANE + GAP, MARGIN + 2 * (PANE + GAP)
    assert np.array_equal(sheet[row, heat + 40], UNSEEN)
    assert np.array_equal(sheet[row, heat + 160], color_of(1.0))
    assert np.array_equal(sheet[row, heat + 300], UNSEEN)
    assert np.array_equal(sheet[row, blended : blended + 80], sheet[row, MARGIN : MARGIN + 80])


def test_long_captions_are_wrapped_and_cut() -> None:
    photo, cam = random_photo(32, 32), np.zeros((2, 2))
    short, longest = (panel(photo, cam, text, WHOLE) for text in ("cat", "toilet tissue, " * 60))
    assert short.height < longest.height < short.height + 40
    for text in ("toilet tissue, " * 60, "x" * 500, "photo.png: " + "y" * 500):
        values = pixels(panel(photo, cam, text, WHOLE))
        assert (values[:, :MARGIN] == 255).all()
        assert (values[:, WIDTH - MARGIN :] == 255).all()


def test_captions_have_letters_beyond_ascii() -> None:
    photo, cam = random_photo(32, 32), np.zeros((2, 2))
    drawn = {text: panel(photo, cam, text, WHOLE).tobytes() for text in ("ü", "ß", "é", "Ж", "λ")}
    assert len(set(drawn.values())) == len(drawn), "a font without them draws the same box for each"


def test_contact_sheet_stacks_panels() -> None:
    panels = [panel(random_photo(64, 32 + 16 * n, n), np.eye(4), f"photo {n}", WHOLE) for n in range(3)]
    sheet = pixels(sheets.contact_sheet(panels))
    assert sheet.shape[1] == WIDTH
    assert sheet.shape[0] == sum(p.height for p in panels) - 2 * MARGIN
    top = 0
    for each in panels:
        assert np.array_equal(sheet[top + MARGIN : top + each.height - MARGIN], pixels(each)[MARGIN:-MARGIN])
        assert (sheet[top : top + MARGIN] == 255).all()
        top += each.height - MARGIN
    with pytest.raises(InputError, match="at least one panel"):
        sheets.contact_sheet([])


def test_save_picture_replaces_at_once(tmp_path: Path) -> None:
    target = tmp_path / "cat.png"
    save_picture(Image.new("RGB", (3, 2), "red"), target)
    save_picture(Image.new("RGB", (3, 2), "blue"), target)
    with Image.open(target) as saved:
        assert saved.format == "PNG"
        assert saved.getpixel((1, 1)) == (0, 0, 255)

    class Failing(Image.Image):
        def save(self, fp: object, format: str | None = None, **params: object) -> None:
            Path(str(fp)).write_bytes(b"half a")
            raise OSError("No space left on device")

    with pytest.raises(ArtifactError, match=r"cat\.png could not be written \(No space"):
        save_picture(Failing(), target)
    assert [file.name for file in tmp_path.iterdir()] == ["cat.png"], "no half a file, no temporary one"
    with Image.open(target) as saved:
        assert saved.getpixel((1, 1)) == (0, 0, 255)


def test_a_palette_stands_for_its_name() -> None:
    cam = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    assert np.array_equal(heatmap(cam, palette("jet")), heatmap(cam, "jet"))
    with pytest.raises(InputError, match=r"colormap is \[\]; expected a name of matplotlib"):
        heatmap(cam, [])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="The palette is float64"):
        heatmap(cam, np.zeros((256, 3)))  # type: ignore[arg-type]


def test_other_kinds_of_photos_and_maps() -> None:
    photo, cam = Image.new("RGB", (6, 4), "gray"), np.eye(4, 6, dtype=np.float32)
    wanted = np.asarray(overlay(photo, cam))
    for given in (torch.tensor(cam), torch.tensor(cam).bfloat16(), torch.tensor(cam).half(), cam.tolist(), cam > 0):
        assert np.array_equal(np.asarray(overlay(photo, given)), wanted)
    for wrong, words in [(np.asarray(photo), "photo is ndarray; .*Image.fromarray"), ("a.jpg", "photo is str; .*open")]:
        with pytest.raises(InputError, match=words):
            overlay(wrong, cam)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="cam has shape .*expected .h, w., one map of one image: cam.0."):
        overlay(photo, cam[None])
    with pytest.raises(InputError, match="cam holds complex64; expected real numbers"):
        overlay(photo, cam.astype(np.complex64))
    with pytest.raises(InputError, match="hide is 'heat map'; expected 'heatmap' or 'photo'"):
        overlay(photo, cam, threshold=0.5, hide="heat map")
