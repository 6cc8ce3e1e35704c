"""One photo stored in many formats and modes, and files that are no photo."""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

ORIENTATION = 0x0112  # EXIF tag


def write_readable(photo: Image.Image, folder: Path) -> Iterator[Path]:
    """Write the photo, small and of odd size, as files of many kinds."""
    for name, picture, options in (*_make_jpegs(photo), *_make_pngs(photo), *_make_turned(photo)):
        path = folder / name
        picture.save(path, **options)
        yield path
    deep = np.asarray(photo).astype(np.uint16) * 257
    deep[::2] -= deep[::2] // 300  # so that the low byte matters
    for interlaced in (False, True):
        path = folder / f"rgb16_interlaced_{interlaced}.png"
        path.write_bytes(encode_deep_png(deep, interlaced=interlaced))
        yield path


def _make_jpegs(photo: Image.Image) -> Iterator[tuple[str, Image.Image, dict]]:
    for subsampling in (0, 1, 2):
        yield f"subsampled{subsampling}.jpg", photo, {"subsampling": subsampling, "quality": 80}
    yield "progressive.jpg", photo, {"progressive": True}
    yield "gray.jpg", photo.convert("L"), {}
    yield "cmyk.jpg", photo.convert("CMYK"), {"quality": 90}
    yield "tall.jpg", photo.transpose(Image.Transpose.ROTATE_90), {}
    yield "tiny.jpg", photo.resize((1, 1)), {}


def _make_pngs(photo: Image.Image) -> Iterator[tuple[str, Image.Image, dict]]:
    pixels = np.asarray(photo)
    alpha = np.linspace(0, 255, pixels[..., 0].size).reshape(pixels.shape[:2]).astype(np.uint8)
    rgba = Image.fromarray(np.dstack([pixels, alpha]))
    deep = pixels[..., 0].astype(np.uint16) * 257 + np.arange(pixels.shape[1], dtype=np.uint16) % 256
    yield "rgb.png", photo, {}
    yield "rgba.png", rgba, {}
    yield "gray_alpha.png", rgba.convert("LA"), {}
    yield "gray.png", photo.convert("L"), {}
    yield "gray16.png", Image.fromarray(deep), {}
    yield "black_and_white.png", photo.convert("1"), {}
    yield "palette.png", photo.quantize(64), {}
    yield "palette4.png", photo.quantize(16), {"bits": 4}
    yield "palette_alpha.png", rgba.quantize(32), {}
    yield "palette_transparent.png", photo.quantize(16), {"transparency": 3}
    yield "gray_transparent.png", photo.convert("L"), {"transparency": 100}


def _make_turned(photo: Image.Image) -> Iterator[tuple[str, Image.Image, dict]]:
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        for suffix in ("jpg", "png"):
            yield f"orientation{orientation}.{suffix}", photo, {"exif": exif}


ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def encode_deep_png(pixels: np.ndarray, *, interlaced: bool) -> bytes:
    """A PNG of 16-bit color from ``(h, w, 3)`` uint16, which Pillow does not write."""
    passes = [pixels[top::down, left::across] for top, left, down, across in ADAM7] if interlaced else [pixels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for part in passes if part.size for row in part)
    return encode_png(pixels.shape[1], pixels.shape[0], 16, 2, zlib.compress(rows), interlaced)


def encode_png(width: int, height: int, depth: int, kind: int, compressed: bytes, interlaced: bool = False) -> bytes:
    """A PNG with any header, also one that its content contradicts."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced)
    chunks = ((b"IHDR", header), (b"IDAT", compressed), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def make_unreadable(photo: Image.Image) -> dict[str, tuple[bytes, str]]:
    """Bytes by file name, each with a part of the message that the program must give."""
    jpeg, whole = _encode(photo, "JPEG"), _encode(photo, "PNG")
    sized = jpeg.index(b"\xff\xc0") + 5  # height and width of the first frame
    return {
        "empty.jpg": (b"", "expected JPEG or PNG"),
        "text.jpg": (b"this is no photo", "expected JPEG or PNG"),
        "photo.gif": (_encode(photo.convert("P"), "GIF"), "expected JPEG or PNG"),
        "truncated.jpg": (jpeg[: len(jpeg) // 2], "Premature end of JPEG file"),
        "header_only.jpg": (jpeg[:20], "Is it truncated or damaged?"),
        "truncated.png": (whole[: len(whole) // 2], "the file ends too early"),
        "checksum.png": (whole[:60] + b"\0\0\0\0" + whole[64:], "Is it truncated or damaged?"),
        "huge.png": (encode_png(20_000, 20_000, 8, 2, zlib.compress(b"\0")), "20000 x 20000 pixels; expected at most"),
        "huge.jpg": (jpeg[:sized] + struct.pack(">HH", 60_000, 60_000) + jpeg[sized + 4 :], "60000 x 60000 pixels"),
        "no_width.png": (encode_png(0, 7, 8, 2, zlib.compress(b"")), "Is it truncated or damaged?"),
        "no_height.jpg": (jpeg[:sized] + struct.pack(">HH", 0, 7) + jpeg[sized + 4 :], "Is it truncated or damaged?"),
    }


def _encode(photo: Image.Image, format: str) -> bytes:
    buffer = io.BytesIO()
    photo.save(buffer, format=format)
    return buffer.getvalue()
