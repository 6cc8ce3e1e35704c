"""What Pillow leaves out of a picture: the upper half of uint32, the sign of int8, further pages, opacity."""

import io
import struct
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from explainable_model.errors import FirstPageWarning, InputError, LowRangeWarning
from explainable_model.imaging.overlay import round_box
from explainable_model.imaging.preprocess import Preprocess, open_photo
from explainable_model.imaging.window import find_values, read_window, tabulate_levels, to_eight_bits

UNSIGNED, SIGNED = 1, 2


def write_tiff(path: Path, stored: NDArray[Any], sample_format: int) -> Path:
    """Write a TIFF file of one strip by hand: Pillow writes none of these types."""
    height, width = stored.shape
    data, bits = stored.tobytes(), 8 * stored.itemsize
    entries = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 0, 277: 1, 278: height, 279: len(data)}
    entries[339] = sample_format
    entries[273] = 8 + 2 + 12 * len(entries) + 4
    rows = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items())
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(entries)) + rows + struct.pack("<I", 0) + data)
    return path


def test_the_upper_half_of_32_bits(tmp_path: Path) -> None:
    """Pillow reads uint32 as int32, so that every value from 2**31 on would be black."""
    stored = np.array([[0, 2**30, 2**31, 2**32 - 1]], np.uint32)
    path = write_tiff(tmp_path / "counts.tiff", stored, UNSIGNED)
    assert np.asarray(open_photo(path, (0, 2**32 - 1)))[0, :, 0].tolist() == [0, 64, 128, 255]
    with Image.open(path) as photo:
        assert Preprocess((1, 4), window=(0, 2**32 - 1), mean=(0,), std=(1,))(photo).max() == 1
    with pytest.raises(InputError, match=r"values from 0 to 4.29497e\+09"):
        open_photo(path)
    path = write_tiff(path, stored.astype(np.int64).clip(max=2**31 - 1).astype(np.int32) - 2**30, SIGNED)
    assert np.asarray(open_photo(path, (-(2**30), 2**30)))[0, :, 0].tolist() == [0, 128, 255, 255]


def test_values_below_zero_in_8_bits(tmp_path: Path) -> None:
    """Pillow reads int8 as uint8, so that -1 would be white and 0 black."""
    path = write_tiff(tmp_path / "signed.tiff", np.array([[-128, -1, 0, 127]], np.int8), SIGNED)
    assert np.asarray(open_photo(path, (-128, 127)))[0, :, 0].tolist() == [0, 127, 128, 255]
    with pytest.raises(InputError, match=r"values from -128 to 127.*window=\(-128, 127\)"):
        open_photo(path)


def test_twelve_bits_side_by_side(tmp_path: Path) -> None:
    """Two values in three bytes: the file names the number of bits, so that 4095 is white."""
    path = tmp_path / "film.tiff"
    values = [0, 2048, 4095, 1024]
    data = b"".join(((a << 12) | b).to_bytes(3, "big") for a, b in zip(values[::2], values[1::2], strict=True))
    entries = {256: 4, 257: 1, 258: 12, 259: 1, 262: 1, 273: 0, 277: 1, 278: 1, 279: len(data)}
    entries[273] = 8 + 2 + 12 * len(entries) + 4
    rows = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items())
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(entries)) + rows + struct.pack("<I", 0) + data)
    assert np.asarray(open_photo(path))[0, :, 0].tolist() == [0, 128, 255, 64]


@pytest.mark.parametrize(
    ("tags", "window"),
    [
        ({280: 100, 281: 1100}, (100.0, 1100.0)),
        ({340: (0.25,), 341: (0.75,)}, (0.25, 0.75)),
        ({281: 4095}, (0.0, 4095.0)),
        ({280: 100, 281: 100}, None),
        ({280: 100, 281: 50, 258: (12,)}, (0.0, 4095.0)),
        ({280: -50, 281: 50}, (-50.0, 50.0)),
        ({258: (16,)}, None),
        ({258: (8,)}, None),
        ({258: (9,)}, (0.0, 511.0)),
    ],
)
def test_the_window_that_tags_name(tags: dict[int, Any], window: tuple[float, float] | None) -> None:
    assert read_window(SimpleNamespace(tag_v2=tags)) == window  # type: ignore[arg-type]


@pytest.mark.parametrize(("largest", "suggested"), [(255, 255), (256, 511), (4095, 4095), (4096, 8191)])
def test_the_window_that_is_suggested(largest: int, suggested: int) -> None:
    with pytest.warns(LowRangeWarning, match=rf"window=\(0, {suggested}\)\."):
        to_eight_bits(Image.fromarray(np.array([[0, largest]], np.uint16)))


def test_every_gray_level_has_a_value() -> None:
    for window in ((0.0, 65535.0), (100.0, 355.0), (7.0, 4087.0)):
        values = find_values(window)
        assert tabulate_levels(window)[values].tolist() == list(range(256))
        assert (values[0], values[255]) == window
    for narrow in ((0.0, 100.0), (-500.0, 65535.0)):
        with pytest.raises(ValueError, match=r"expected one inside of \(0, 65535\) that is 255 wide or more"):
            find_values(narrow)


@pytest.mark.parametrize(
    ("box", "whole"),
    [
        ((9.6, 0.0, 10.4, 5.0), (9, 0, 10, 5)),
        ((9.0, 4.0, 10.0, 5.0), (9, 4, 10, 5)),
        ((2.2, 1.2, 2.4, 1.4), (2, 1, 3, 2)),
        ((-0.4, -0.4, 10.4, 5.4), (0, 0, 10, 5)),
    ],
)
def test_a_box_in_whole_pixels(box: tuple[float, float, float, float], whole: tuple[int, int, int, int]) -> None:
    assert round_box(box, (10, 5)) == whole


def save_pages(path: Path | io.BytesIO, kind: str, *, mode: str = "L") -> None:
    first, *others = [Image.new(mode, (8, 8), color="#" + 3 * f"{gray:02x}") for gray in (10, 100, 200)]
    first.save(path, kind, save_all=True, append_images=others)


@pytest.mark.parametrize(("kind", "words"), [("TIFF", "several pages"), ("GIF", "several frames"), ("PNG", "frames")])
def test_the_first_of_several_pages_is_told(kind: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "pages"
    save_pages(path, kind)
    with pytest.warns(FirstPageWarning, match=f"pages has .*{words}.*the first is explained"):
        assert np.asarray(open_photo(path)).max() == 10
    with pytest.warns(FirstPageWarning), Image.open(path) as photo:
        Preprocess((8, 8))(photo)
    with Image.open(path) as photo:
        photo.seek(1)
        chosen = Preprocess((8, 8), mean=(0,), std=(1,))(photo)
        copied = Preprocess((8, 8), mean=(0,), std=(1,))(photo.copy())
    assert chosen.max() == copied.max() == np.float32(100) / np.float32(255)


def test_a_stream_of_several_pages_is_told() -> None:
    stream = io.BytesIO()
    save_pages(stream, "TIFF")
    with pytest.warns(FirstPageWarning, match="The picture has several pages"), Image.open(stream) as photo:
        Preprocess((8, 8))(photo)


def test_what_shows_the_first_page_again_is_no_page(tmp_path: Path) -> None:
    """Lower resolutions and masks in TIFF files, and what cameras put behind a photo."""
    small, mask = Image.new("L", (4, 4)), Image.new("L", (8, 8))
    small.encoderinfo, mask.encoderinfo = {"tiffinfo": {254: 1}}, {"tiffinfo": {254: 4}}  # type: ignore[attr-defined]
    path = tmp_path / "pyramid.tiff"
    Image.new("L", (8, 8), 10).save(path, save_all=True, append_images=[small, mask])
    with Image.open(path) as photo:
        assert photo.n_frames == 3  # type: ignore[attr-defined]
    save_pages(tmp_path / "camera.jpg", "MPO", mode="RGB")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.asarray(open_photo(path)).max() == 10
        assert np.asarray(open_photo(tmp_path / "camera.jpg")).max() == 10


@pytest.mark.parametrize(("mode", "plain"), [("La", "LA"), ("RGBa", "RGBA")])
def test_colors_that_are_multiplied_with_their_opacity(mode: str, plain: str) -> None:
    photo = Image.new(plain, (3, 1), (100, 255) if plain == "LA" else (100, 100, 100, 255))
    photo.putpixel((1, 0), (100, 0) if plain == "LA" else (100, 100, 100, 0))
    photo.putpixel((2, 0), (0, 51) if plain == "LA" else (0, 0, 0, 51))
    got = Preprocess((1, 3), mean=(0,), std=(1,))(photo.convert(mode))
    assert (got * 255).round().flatten().tolist() == [100, 255, 204]
