"""Pictures of every kind that a server meets: what it must take, and what it must refuse with which status."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

ORIENTATION = 0x0112  # the EXIF tag
LYING = 6  # its value for a photo taken upright and stored lying


def good(photo: Image.Image) -> dict[str, bytes]:
    """One photo in every format and mode, by the name of what is special about it."""
    small = photo.convert("RGB")
    small.thumbnail((160, 160))
    exif = Image.Exif()
    exif[ORIENTATION] = LYING
    levels = np.asarray(small.convert("L"), np.uint16) * 257
    return {
        "jpeg": encoded(small, "JPEG", quality=95),
        "png": encoded(small, "PNG"),
        "webp": encoded(small, "WEBP", lossless=True),
        "bmp": encoded(small, "BMP"),
        "gray": encoded(small.convert("L"), "PNG"),
        "16-bit": encoded(Image.fromarray(levels), "PNG"),
        "one bit": encoded(small.convert("1"), "PNG"),
        "palette": encoded(small.quantize(32), "PNG"),
        "transparent": encoded(_with_alpha(small), "PNG"),
        "cmyk": encoded(small.convert("CMYK"), "JPEG", quality=95),
        "rotated by EXIF": encoded(small, "JPEG", quality=95, exif=exif.tobytes()),
        "one pixel": encoded(small.resize((1, 1)), "PNG"),
        "a line": encoded(small.resize((160, 1)), "PNG"),
    }


def bad(photo: Image.Image) -> dict[str, tuple[bytes, int]]:
    """Bytes that are no picture, or not one to decode, and the status that each must get."""
    jpeg, png = encoded(photo.convert("RGB"), "JPEG"), encoded(photo.convert("RGB"), "PNG")
    middle = len(png) // 2
    return {
        "nothing": (b"", 400),
        "text": (b"this is not a picture", 415),
        "a PDF": (b"%PDF-1.7\n" + bytes(64), 415),
        "an unwanted format": (encoded(photo.convert("RGB"), "TIFF"), 415),
        "half a JPEG": (jpeg[: len(jpeg) // 2], 400),
        "half a PNG": (png[: len(png) // 2], 400),
        "a PNG with flipped bits": (
            png[:middle] + bytes(255 - b for b in png[middle : middle + 64]) + png[middle + 64 :],
            400,
        ),
        "the first bytes of a JPEG": (jpeg[:3], 415),
        "900 megapixels": (claimed_png(30_000, 30_000), 413),
        "100 megapixels": (claimed_png(10_000, 10_000), 413),
        "no pixels": (claimed_png(0, 0), 415),
    }


def encoded(picture: Image.Image, format: str, **options: object) -> bytes:
    """The picture as a file's bytes."""
    made = io.BytesIO()
    picture.save(made, format=format, **options)
    return made.getvalue()


def claimed_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims a size that is never delivered."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b""))
    parts = [
        struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body)) for tag, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _with_alpha(photo: Image.Image) -> Image.Image:
    alpha = np.tile(np.linspace(0, 255, photo.width).astype(np.uint8), (photo.height, 1))
    picture = photo.copy()
    picture.putalpha(Image.fromarray(alpha))
    return picture
