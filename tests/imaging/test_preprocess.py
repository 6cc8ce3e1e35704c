"""From photo to input against Pillow and torchvision; photos of every kind, good and bad."""

import struct
import warnings
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as torchvision_functional

from explainable_model.errors import InputError, LowRangeWarning
from explainable_model.imaging.as_decoded import AsDecoded
from explainable_model.imaging.overlay import overlay
from explainable_model.imaging.preprocess import Preprocess, open_photo


def gradient_photo(width: int, height: int) -> Image.Image:
    """Smooth, so that half a pixel of shift makes a small difference and a wrong crop a large one."""
    across = np.linspace(0, 255, width)[None, :].repeat(height, 0)
    down = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    return Image.fromarray(np.stack([across, down, 255 - across], 2).round().astype(np.uint8))


@pytest.mark.parametrize("seed", range(20))
def test_box_is_inside_centred_and_of_the_input_s_proportions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    width, height = (int(n) for n in rng.integers(1, 2000, 2))
    size = tuple(int(n) for n in rng.integers(1, 400, 2))
    resize = int(rng.integers(1, 500))
    left, top, right, bottom = Preprocess(size=size, resize=resize).box(width, height)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    pixel = min(width, height) / resize  # of the resized photo, to which the crop is rounded
    assert (left + right) / 2 == pytest.approx(width / 2, abs=0.51 * pixel)
    assert (top + bottom) / 2 == pytest.approx(height / 2, abs=0.51 * pixel)
    assert (right - left) / (bottom - top) == pytest.approx(size[1] / size[0], rel=1 / resize + 1e-9)


def test_box_by_hand() -> None:
    crop = Preprocess(size=(224, 224), resize=256)
    assert crop.box(512, 512) == (32.0, 32.0, 480.0, 480.0)
    assert crop.box(1024, 512) == (288.0, 32.0, 736.0, 480.0)
    assert crop.box(512, 1024) == (32.0, 288.0, 480.0, 736.0)
    assert Preprocess(size=(224, 224)).box(451, 300) == (0.0, 0.0, 451.0, 300.0)
    # 224 x 448 at scale 2 would be 448 x 896 of a 512 x 512 photo: shrunk to the photo's width.
    assert Preprocess(size=(224, 448), resize=256).box(512, 512) == (0.0, 128.0, 512.0, 384.0)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(451, 300), (300, 451), (512, 512), (100, 80), (33, 32), (64, 48), (75, 73)])
def test_crop_equals_torchvision(shape: tuple[int, int], interpolation: str) -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape[::-1], 3), dtype=np.uint8))
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    got = Preprocess(size=(64, 64), mean=mean, std=std, resize=73, interpolation=interpolation)(photo)
    resized = torchvision_functional.resize(photo, 73, InterpolationMode(interpolation))
    tensor = torchvision_functional.to_tensor(torchvision_functional.center_crop(resized, 64))
    expected = torchvision_functional.normalize(tensor, list(mean), list(std))[None]
    assert got.dtype == np.float32
    assert got.shape == (1, 3, 64, 64)
    assert got.flags["C_CONTIGUOUS"]
    levels = np.abs(got - expected.numpy()) * 255 * min(std)
    # Of a value half-way between two levels either is right.
    assert levels.max() < 1.01
    assert (levels > 0.5).mean() < 0.03


def test_whole_photo_is_squashed() -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 45, 3), dtype=np.uint8))
    got = Preprocess(size=(16, 24), mean=(127 / 255,) * 3, std=(128 / 255,) * 3)(photo)
    pixels = np.asarray(photo.resize((24, 16), Image.Resampling.BILINEAR), np.float64)
    assert np.abs(got[0] - ((pixels - 127) / 128).transpose(2, 0, 1)).max() < 1e-6


def test_grey_input_and_value_range() -> None:
    photo = gradient_photo(20, 20)
    got = Preprocess(size=(20, 20), mean=(0.5,), std=(0.25,))(photo)
    expected = (np.asarray(photo.convert("L"), np.float64) / 255 - 0.5) / 0.25
    assert got.shape == (1, 1, 20, 20)
    assert np.abs(got[0, 0] - expected).max() < 1e-6
    assert Preprocess(size=(2, 2), mean=(0.5, 0.4, 0.5), std=(0.25, 0.2, 0.5)).value_range == (-2.0, pytest.approx(3.0))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"interpolation": "cubic"}, "'cubic'.*bicubic"),
        ({"mean": (0.5,)}, r"mean has 1 and std 3"),
        ({"mean": (0.5, 0.5), "std": (1.0, 1.0)}, "expected 1"),
        ({"std": (0.1, 0.0, 0.1)}, "positive"),
        ({"size": (0, 4)}, "positive"),
    ],
)
def test_preprocess_refuses(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preprocess(**{"size": (4, 4), **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [np.array(4), np.zeros((3, 2)), None, object()])
@pytest.mark.parametrize("name", ["size", "mean", "std"])
def test_values_of_other_types_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"(?s)^{name} is .*; expected a number, or one for each"):
        Preprocess(**{"size": (4, 4), name: value})  # type: ignore[arg-type]


def test_values_may_be_arrays() -> None:
    made = Preprocess(np.array([4, 6]), np.full(3, 0.5), np.ones(3, np.float32))  # type: ignore[arg-type]
    assert made == Preprocess((4, 6), (0.5, 0.5, 0.5), (1.0, 1.0, 1.0))
    assert {type(value) for value in (*made.size, *made.std)} == {int, float}


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def opened(photo: Image.Image, path: Path, **options: object) -> NDArray[np.int64]:
    photo.save(path, **options)  # type: ignore[arg-type]
    read = open_photo(path)
    assert read.mode == "RGB"
    return np.asarray(read).astype(np.int64)


def test_grey_and_palette_photos(tmp_path: Path) -> None:
    grey = gradient_photo(9, 7).convert("L")
    expected = np.asarray(grey).astype(np.int64)[..., None].repeat(3, 2)
    assert np.array_equal(opened(grey, tmp_path / "grey.png"), expected)
    assert np.array_equal(opened(grey.convert("P"), tmp_path / "palette.png"), expected)
    bits = np.asarray(grey.convert("1"))
    assert np.array_equal(opened(grey.convert("1"), tmp_path / "bits.png"), bits[..., None].repeat(3, 2) * 255)


def test_sixteen_bit_photos_keep_their_range(tmp_path: Path) -> None:
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    got = opened(Image.fromarray(levels * 257), tmp_path / "deep.png")
    assert np.array_equal(got, levels.astype(np.int64)[..., None].repeat(3, 2))
    floats = Image.fromarray(np.array([[0.0, 0.5, 1.0, np.nan]], np.float32))
    assert np.array_equal(opened(floats, tmp_path / "float.tiff")[0, :, 0], [0, 128, 255, 0])


def test_every_entrance_decodes_sixteen_bits_alike(tmp_path: Path) -> None:
    """The full range, 12 of 16 bits with a window, and floats: by path, as an open file, and as decoded."""
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    plain = Preprocess((16, 16))
    expected = plain(Image.fromarray(levels.astype(np.uint8)))
    for name, values, window in (("full.png", levels * 257, None), ("twelve.png", levels * 16 + 7, (7, 4087))):
        path = tmp_path / name
        Image.fromarray(values).save(path)
        prepare = replace(plain, window=window)
        assert np.abs(prepare(Image.open(path)) - expected).max() < 1e-6
        assert np.abs(plain(open_photo(path, window)) - expected).max() < 1e-6
        assert np.array_equal(AsDecoded("NHWC", window)(Image.open(path))[0, ..., 0], levels)
        drawn = overlay(Image.open(path), np.zeros((4, 4)), alpha=0, box=prepare)
        assert np.array_equal(np.asarray(drawn)[..., 0], levels)


def test_a_low_range_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "twelve.png"
    Image.fromarray(np.array([[0, 4095]], np.uint16)).save(path)
    with pytest.warns(LowRangeWarning, match=r"twelve.png has values from 0 to 4095 of .* 65535.*window=\(0, 4095\)"):
        assert np.asarray(open_photo(path)).max() == 16
    assert np.asarray(open_photo(path, (0, 4095))).max() == 255
    with pytest.warns(LowRangeWarning):
        Preprocess((1, 2))(Image.open(path))
    rows = b"".join(b"\0" + bytes(12) for _ in range(2))
    colors = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0))
    path.write_bytes(colors + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    with pytest.warns(LowRangeWarning, match="values up to about 0 of a range to 65535"):
        open_photo(path)
    with pytest.raises(InputError, match="a window needs one channel"):
        open_photo(path, (0, 4095))


def test_the_window_of_a_tiff_file(tmp_path: Path) -> None:
    values = Image.fromarray(np.array([[100, 600, 1100]], np.uint16))
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[280], tags[281] = 100, 1100
    path = tmp_path / "measured.tiff"
    values.save(path, tiffinfo=tags)
    assert np.asarray(open_photo(path))[0, :, 0].tolist() == [0, 128, 255]
    assert np.asarray(open_photo(path, (0, 2200)))[0, :, 0].tolist() == [12, 70, 128], "a chosen window wins"


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_a_tiff_file_whose_smallest_value_is_white(kind: type, tmp_path: Path) -> None:
    """Pillow leaves more than 8 bits as they are, so that an X-ray would be its own negative."""
    largest = {np.uint16: 65535, np.float32: 1}[kind]
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0  # WhiteIsZero
    path = tmp_path / "xray.tiff"
    stored = (np.array([[0, 0.25, 1]]) * largest).astype(kind)
    Image.fromarray(stored).save(path, tiffinfo=tags)
    with Image.open(path) as photo:
        assert photo.tag_v2[262] == 0  # type: ignore[attr-defined]
    levels = np.asarray(open_photo(path))[0, :, 0].tolist()
    assert levels == pytest.approx([255, 191, 0], abs=1)
    if kind is np.uint16:
        assert np.asarray(open_photo(path, (0, 16383)))[0, :, 0].tolist() == [255, 0, 0]


def test_values_beyond_sixteen_bits_need_a_window(tmp_path: Path) -> None:
    path = tmp_path / "hounsfield.tiff"
    Image.fromarray(np.array([[-1000, 0, 1000]], np.int32)).save(path)
    with pytest.raises(InputError, match=r"hounsfield.tiff has values from -1000 to 1000.*window=\(-1000, 1000\)"):
        open_photo(path)
    assert np.asarray(open_photo(path, (-1000, 1000)))[0, :, 0].tolist() == [0, 128, 255]
    with pytest.raises(ValueError, match="black < white"):
        Preprocess((4, 4), window=(5, 5))


def test_deep_photos_are_turned_upright(tmp_path: Path) -> None:
    levels = np.arange(24, dtype=np.uint16).reshape(4, 6) * 2000
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(levels).save(tmp_path / "turned.png", exif=exif)
    expected = np.rot90(np.round(levels / 257), -1)
    assert np.array_equal(np.asarray(open_photo(tmp_path / "turned.png"))[..., 0], expected)
    with Image.open(tmp_path / "turned.png") as photo:
        assert np.array_equal(AsDecoded("NHWC")(photo)[0, ..., 0], expected)


def test_transparent_photos_are_laid_on_white(tmp_path: Path) -> None:
    photo = Image.new("RGBA", (4, 1), (200, 100, 0, 255))
    photo.putpixel((1, 0), (200, 100, 0, 0))
    photo.putpixel((2, 0), (0, 0, 0, 51))
    got = opened(photo, tmp_path / "rgba.png")
    assert got[0].tolist() == [[200, 100, 0], [255, 255, 255], [204, 204, 204], [200, 100, 0]]
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    got = opened(palette, tmp_path / "palette.png", transparency=1)
    assert got[0].tolist() == [[10, 20, 30], [255, 255, 255]]


def test_cmyk_photos(tmp_path: Path) -> None:
    photo = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    got = opened(photo, tmp_path / "print.jpg", quality=100)
    assert np.abs(got - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: a[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda a: np.rot90(a)),
    ],
)
def test_photos_are_turned_upright(tmp_path: Path, orientation: int, turned: object) -> None:
    photo = gradient_photo(10, 6)
    exif = Image.Exif()
    exif[0x0112] = orientation
    got = opened(photo, tmp_path / "turned.png", exif=exif)
    assert np.array_equal(got, turned(np.asarray(photo)))  # type: ignore[operator]


def test_bad_files(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
    whole, jpeg = tmp_path / "whole.png", tmp_path / "whole.jpg"
    noise.save(whole)
    noise.save(jpeg)
    contents = {
        "cut.png": whole.read_bytes()[:-200],
        "cut.jpg": jpeg.read_bytes()[: len(jpeg.read_bytes()) // 2],
        "empty.png": b"",
        "text.png": b"this is not a picture",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            open_photo(tmp_path / name)
    for name in ("cut.png", "cut.jpg"):
        with pytest.raises(InputError, match="truncated"):
            open_photo(tmp_path / name)
    with pytest.raises(InputError, match=r"There is no file .*missing\.png"):
        open_photo(tmp_path / "missing.png")
    with pytest.raises(InputError, match="cannot be read"):
        open_photo(tmp_path)


@pytest.mark.parametrize("side", [9_800, 10_001, 40_000])
def test_huge_photos(tmp_path: Path, side: int) -> None:
    """Pillow warns beyond 89 megapixels and raises beyond 179; ours is one error from 100 on."""

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path = tmp_path / "huge.png"
    rows = zlib.compress(bytes(side * (1 + (side + 7) // 8)), 1) if side < 10_000 else b""
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if side < 10_000:
            assert open_photo(path).size == (side, side)
        else:
            with pytest.raises(InputError, match=r"huge\.png"):
                open_photo(path)


def test_input_feeds_torch() -> None:
    tensor = torch.from_numpy(Preprocess(size=(8, 8))(gradient_photo(8, 8)))
    assert tensor.dtype == torch.float32
    assert tensor[0, 0, 0, 0].item() == pytest.approx((0 - 0.485) / 0.229)
    assert tensor[0, 1, -1, 0].item() == pytest.approx((1 - 0.456) / 0.224)
