"""Damaged pictures through every entrance that decodes them."""

import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from explainable_model import Preprocess
from explainable_model.imaging.preprocess import open_photo
from explainable_model.serving import RequestError
from explainable_model.serving.contract import read_photo
from tests.siege.cells import run_in_cells
from tests.siege.mutate import damaged

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MEMORY_MIB = 700.0  # a picture of 100 million pixels takes 300 MB, twice while it is converted
ENTRANCES = ("file", "request", "preprocess")


def run(folder: Path, count: int, seed: int = 0) -> dict[str, Any]:
    """Send ``count`` damaged pictures of each format through each entrance."""
    results = {}
    for entrance in ENTRANCES:
        tally = run_in_cells(
            make_decoder,
            (entrance, str(folder)),
            _damage(count, seed),
            memory_mib=MEMORY_MIB,
            accepted=(RequestError,),
        )
        results[entrance] = tally.to_record()
    return results


def _damage(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    for name, data in make_pictures().items():
        yield f"{name} whole", data
        half = count // 2
        for what, changed in damaged(data, half, seed):
            yield f"{name} {what}", changed
        for what, changed in damaged(data, count - half, seed + 1, (0, min(len(data), 80))):
            yield f"{name} head {what}", changed


def make_pictures() -> dict[str, bytes]:
    """Encode one picture in each format and depth."""
    levels = np.random.default_rng(0).integers(0, 256, (24, 30, 3), dtype=np.uint8)
    picture = Image.fromarray(levels)
    deep = Image.fromarray(levels[..., 0].astype(np.uint16) * 250)
    encoded = {name: _encode(picture, name) for name in FORMATS}
    return {**encoded, "PNG of 16 bits": _encode(deep, "PNG"), "TIFF of 16 bits": _encode(deep, "TIFF")}


def _encode(picture: Image.Image, name: str) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format=name)
    return stream.getvalue()


def make_decoder(entrance: str, folder: str) -> Callable[[bytes], str | None]:
    """Make the handler that decodes a picture as an entrance does."""
    warnings.simplefilter("ignore")
    path = Path(folder) / "damaged.picture"
    preprocess = Preprocess(32)

    def decode(data: bytes) -> str | None:
        if entrance == "file":
            path.write_bytes(data)
            photo = open_photo(path)
        elif entrance == "request":
            photo = read_photo(data, 10_000_000)
        else:
            path.write_bytes(data)
            return _check(preprocess(open_photo(path)), (1, 3, 32, 32))
        return None if photo.mode == "RGB" else f"mode {photo.mode}"

    return decode


def _check(image: Any, shape: tuple[int, ...]) -> str | None:
    right = image.shape == shape and np.isfinite(image).all()
    return None if right else f"{image.shape}, {image.min()} to {image.max()}"
