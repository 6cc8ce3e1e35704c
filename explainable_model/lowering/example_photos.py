"""Photos to trace and to compare graphs with that prepare photos themselves."""

import torch
from torch import Tensor
from torch.nn import functional

from explainable_model.artifact.shapes import NHW, NHWC
from explainable_model.imaging.letterbox import find_place
from explainable_model.imaging.preprocess import Preprocess
from explainable_model.lowering.imaging import PhotoIO
from explainable_model.lowering.pixels import make_photos


def fresh_photos(photo_io: PhotoIO, batch: int, size: tuple[int, int], seed: int) -> Tensor:
    """Photos of that size, as ``make_photos``."""
    return make_photos(photo_io.pixels, photo_io.pixel_dtype, photo_io.preprocess.window, batch, size, seed)


def photo_sizes(photo_io: PhotoIO) -> list[tuple[int, int]]:
    """Sizes of three photos: a landscape, a portrait and a small one."""
    height, width = photo_io.preprocess.size
    return [(height * 5 // 4 + 3, width * 3 // 2 + 2), (height * 2 + 1, width), (height // 3 + 1, width // 2 + 1)]


def make_photos_like(image: Tensor, photo_io: PhotoIO, size: tuple[int, int] | None = None) -> Tensor:
    """Photos in which the network sees what prepared images ``(N, C, h, w)`` show, as a graph takes them.

    A detector finds its objects in them, and nothing in photos that are made up. Around the images, their edges repeat.

    Args:
        image: as ``photo_io`` prepares photos.
        photo_io: prepares the photos.
        size: height and width; ``None`` for photos that are prepared to the very same images, up to a level of 8 bits.
    """
    prepare = photo_io.preprocess
    height, width = size or (prepare.size if prepare.resize is None else (prepare.resize, prepare.resize))
    left, top, columns, rows = _find_part(prepare, height, width)
    mean, std = (torch.tensor(values).reshape(-1, 1, 1) for values in (prepare.mean, prepare.std))
    levels = (image.float().cpu() * std + mean) * 255
    levels = functional.interpolate(levels, size=[rows, columns], mode="bilinear", antialias=True)
    around = (left, width - left - columns, top, height - top - rows)
    return _as_pixels(functional.pad(levels, around, mode="replicate"), photo_io)


def _find_part(prepare: Preprocess, height: int, width: int) -> tuple[int, int, int, int]:
    """Where an image is drawn in a photo of this size so that all of it is seen: left, top, columns, rows."""
    if prepare.pad is not None:
        return find_place((height, width), prepare.size[1], prepare.size[0])
    left, top, right, bottom = (round(edge) for edge in prepare.box(width, height))
    return left, top, max(1, right - left), max(1, bottom - top)


def _as_pixels(levels: Tensor, photo_io: PhotoIO) -> Tensor:
    """Levels ``(N, C, H, W)`` from 0 to 255 as photos."""
    if photo_io.pixels == NHW:
        levels = levels.mean(1)
        if photo_io.pixel_dtype == "uint16" and photo_io.preprocess.window is not None:
            black, white = photo_io.preprocess.window
            values = black + (white - black) * levels / 255
            return values.round().clamp(0, 65535).to(torch.int32).to(torch.uint16)
        return levels.round().clamp(0, 255).to(torch.uint8)
    photo = levels.round().clamp(0, 255).to(torch.uint8).expand(-1, 3, -1, -1)
    return photo.permute(0, 2, 3, 1).contiguous() if photo_io.pixels == NHWC else photo.contiguous()
