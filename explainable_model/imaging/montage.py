"""Draws slices of a volume under its map."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.imaging.overlay import ALPHA, overlay
from explainable_model.imaging.sheets import load_font
from explainable_model.imaging.tiles import Tile, tile_sheet
from explainable_model.imaging.volumes import Volume, Voxels
from explainable_model.imaging.window import Window

if TYPE_CHECKING:
    from PIL.Image import Image

PLANES = ("sagittal", "coronal", "axial")  # by the axis that a slice stands on, in RAS
EDGES = (("A", "P", "S", "I"), ("R", "L", "S", "I"), ("R", "L", "A", "P"))  # left, right, top, bottom
SLICES = 6
COLUMNS = 3
SIDE = 448  # pixels of the longest side of a slice
SHADES = (1.0, 99.0)  # percentiles that become black and white
LETTER_SIZE = 26
YELLOW = (255, 214, 10)


def draw_montage(
    volume: Volume,
    cam: Voxels,
    heading: str = "",
    *,
    slices: int = SLICES,
    window: Window | None = None,
    alpha: float = ALPHA,
    colormap: str | None = None,
    signed: bool = False,
) -> "Image":
    """Draw the three planes through the largest value of the map, then axial slices from foot to head.

    The patient's right is on the left of the picture, as radiologists look at it; letters mark the edges.

    Args:
        volume: what was explained.
        cam: ``(x, y, z)`` of the volume's shape, in RAS.
        heading: one line.
        slices: how many axial slices follow.
        window: values that become black and white; by default the first and the last percentile.
        alpha, colormap, signed: as of ``overlay``.
    """
    shades = _make_shades(volume.values, window)
    style = {"alpha": alpha, "colormap": colormap, "signed": signed}
    center = np.unravel_index(int(np.abs(cam).argmax()), cam.shape)
    cuts = [(axis, int(center[axis])) for axis in (2, 1, 0)]
    height = cam.shape[2]
    cuts += [(2, int((step + 0.5) * height / slices)) for step in range(min(slices, height))]
    tiles: list[Tile] = []
    for axis, index in cuts:
        picture = _draw_slice(shades, cam, axis, index, volume.spacing, style)
        note = "through the largest value" if len(tiles) < len(PLANES) else ""
        tiles.append(Tile(picture, f"{PLANES[axis]}, slice {index + 1} of {cam.shape[axis]}", note))
    return tile_sheet(tiles, heading, columns=COLUMNS)


def cut(values: NDArray[Any], axis: int, index: int) -> NDArray[Any]:
    """Cut a slice as it is looked at: head or front on top, the patient's right or front on the left."""
    plane = np.take(values, index, axis)
    turned: NDArray[Any] = plane[::-1, ::-1].T
    return turned


def _draw_slice(
    shades: NDArray[np.uint8], cam: Voxels, axis: int, index: int, spacing: Sequence[float], style: dict[str, Any]
) -> "Image":
    from PIL import Image, ImageDraw

    photo = Image.fromarray(np.ascontiguousarray(cut(shades, axis, index)))
    across, down = (spacing[k] for k in range(3) if k != axis)
    width, height = photo.width * across, photo.height * down
    scale = SIDE / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    large = photo.resize(size, Image.Resampling.BICUBIC).convert("RGB")
    picture = overlay(large, cut(cam, axis, index), box=(0, 0, *size), **style)
    draw, font = ImageDraw.Draw(picture), load_font(LETTER_SIZE)
    middle = (size[0] // 2, size[1] // 2)
    places = (
        (4, middle[1], "lm"),
        (size[0] - 4, middle[1], "rm"),
        (middle[0], 4, "mt"),
        (middle[0], size[1] - 4, "mb"),
    )
    for letter, (column, row, anchor) in zip(EDGES[axis], places, strict=True):
        draw.text((column, row), letter, font=font, fill=YELLOW, anchor=anchor, stroke_width=2, stroke_fill="black")
    return picture


def _make_shades(values: Voxels, window: Window | None) -> NDArray[np.uint8]:
    black, white = window or (float(share) for share in np.percentile(values, SHADES))
    spread = max(white - black, 1e-12)
    shades: NDArray[np.uint8] = np.rint((values.clip(black, white) - black) / spread * 255).astype(np.uint8)
    return shades
