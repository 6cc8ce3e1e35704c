"""Pictures that a server must take, and pictures that it must refuse, with the status of each refusal."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

ORIENTATION = 0x0112  # the EXIF tag
LYING = 6  # the value for a photo that was taken upright and is stored on its side


def make_good(photo: Image.Image) -> dict[str, bytes]:
    """One photo in every format and mode, by name."""
    small = photo.convert("RGB")
    small.thumbnail((160, 160))
    exif = Image.Exif()
    exif[ORIENTATION] = LYING
    levels = np.asarray(small.convert("L"), np.uint16) * 257
    return {
        "jpeg": encode(small, "JPEG", quality=95),
        "png": encode(small, "PNG"),
        "webp": encode(small, "WEBP", lossless=True),
        "bmp": encode(small, "BMP"),
        "gray": encode(small.convert("L"), "PNG"),
        "16-bit": encode(Image.fromarray(levels), "PNG"),
        "one bit": encode(small.convert("1"), "PNG"),
        "palette": encode(small.quantize(32), "PNG"),
        "transparent": encode(_add_alpha(small), "PNG"),
        "cmyk": encode(small.convert("CMYK"), "JPEG", quality=95),
        "rotated by EXIF": encode(small, "JPEG", quality=95, exif=exif.tobytes()),
        "one pixel": encode(small.resize((1, 1)), "PNG"),
        "a line": encode(small.resize((160, 1)), "PNG"),
    }


def make_bad(photo: Image.Image) -> dict[str, tuple[bytes, int]]:
    """Bytes that a server must refuse, each with its status, by name."""
    jpeg, png = encode(photo.convert("RGB"), "JPEG"), encode(photo.convert("RGB"), "PNG")
    middle = len(png) // 2
    return {
        "nothing": (b"", 400),
        "text": (b"this is not a picture", 415),
        "a PDF": (b"%PDF-1.7\n" + bytes(64), 415),
        "an unwanted format": (encode(photo.convert("RGB"), "TIFF"), 415),
        "half a JPEG": (jpeg[: len(jpeg) // 2], 400),
        "half a PNG": (png[: len(png) // 2], 400),
        "a PNG with flipped bits": (
            png[:middle] + bytes(255 - b for b in png[middle : middle + 64]) + png[middle + 64 :],
            400,
        ),
        "the first bytes of a JPEG": (jpeg[:3], 415),
        "900 megapixels": (encode_claimed_png(30_000, 30_000), 413),
        "100 megapixels": (encode_claimed_png(10_000, 10_000), 413),
        "no pixels": (encode_claimed_png(0, 0), 415),
    }


def encode(picture: Image.Image, format: str, **options: object) -> bytes:
    """The bytes of the picture as a file."""
    made = io.BytesIO()
    picture.save(made, format=format, **options)
    return made.getvalue()


def encode_claimed_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims a larger size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b""))
    parts = [
        struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body)) for tag, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _add_alpha(photo: Image.Image) -> Image.Image:
    alpha = np.tile(np.linspace(0, 255, photo.width).astype(np.uint8), (photo.height, 1))
    picture = photo.copy()
    picture.putalpha(Image.fromarray(alpha))
    return picture
