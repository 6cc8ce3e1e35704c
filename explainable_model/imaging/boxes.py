"""Draws the boxes of a detector over a photo: one picture of all, and a sheet with the map of each."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from explainable_model.errors import InputError
from explainable_model.imaging.arrays import as_array
from explainable_model.imaging.as_decoded import AsDecoded
from explainable_model.imaging.overlay import (
    ALPHA,
    Seen,
    check_style,
    find_box,
    overlay,
    resize_map,
    round_box,
)
from explainable_model.imaging.preprocess import Box, Preprocess, upright_rgb
from explainable_model.imaging.sheets import cut_line, load_font
from explainable_model.imaging.tiles import SIDE, Tile, tile_sheet

if TYPE_CHECKING:
    from PIL.Image import Image

Color = tuple[int, int, int]

LINE = 1 / 160  # width of a line, as a share of the photo's longer side
TEXT = 1 / 26  # height of a text, likewise
HALO = (0, 0, 0)
PADDING = 3
DIMMED = 0.6  # brightness of the gray photo under maps in the colors of their boxes
STRENGTH = 1.7  # times alpha: share of the colors where a map is largest
HUES = (0.0, 0.33, 0.58, 0.15, 0.83, 0.5, 0.08, 0.72, 0.25, 0.92)


@dataclass(frozen=True)
class DrawnBox:
    """One box and what is written at it.

    Attributes:
        box: left, top, right, bottom in pixels of the photo.
        text: such as ``cup 94%``.
        color: RGB; ``None`` takes the color of its place in the list.
    """

    box: Box
    text: str = ""
    color: Color | None = None


def choose_color(number: int) -> Color:
    """Choose the color of the box with this place in a list; neighbors differ."""
    hue = HUES[number % len(HUES)]
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85 if number < len(HUES) else 0.5, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_boxes(photo: "Image", boxes: Sequence[DrawnBox]) -> "Image":
    """Draw boxes and their texts over a photo; the first box lies on top.

    Lines have a dark edge, and texts a plate in the color of the box, so that both are readable on every photo.

    Args:
        photo: of any size and mode; it is put upright.
        boxes: what is drawn; parts outside of the photo are cut off.

    Returns:
        RGB, of the photo's size.

    Raises:
        InputError: a box whose edges are not finite or not in order.
    """
    from PIL import ImageDraw

    picture = upright_rgb(photo).copy()
    draw = ImageDraw.Draw(picture)
    width = max(2, round(LINE * max(picture.size)))
    chosen = [(each, each.color or choose_color(number)) for number, each in enumerate(boxes)]
    for each, color in reversed(chosen):
        edges = _cut_box(each.box, picture.size)
        draw.rectangle(_grow(edges, 1), outline=HALO, width=width + 2)
        draw.rectangle(edges, outline=color, width=width)
    taken: list[tuple[int, int, int, int]] = []
    for each, color in chosen:
        if each.text:
            taken.append(_write(draw, each.text, _cut_box(each.box, picture.size), color, picture.size, taken))
    return picture


def overlay_boxes(
    photo: "Image",
    cams: ArrayLike,
    boxes: Sequence[DrawnBox],
    *,
    box: Seen = None,
    colormap: str | None = None,
    alpha: float = ALPHA,
    **style: Any,
) -> "Image":
    """Draw all boxes with all maps in one picture.

    Without a colormap, each map is painted in the color of its box over a dim gray photo, so that it can be told which
    map belongs to which box. With a colormap, the largest value of all maps is drawn as by ``overlay``.

    Args:
        photo: of any size and mode.
        cams: ``(k, h, w)`` in [0, 1], one map for each box.
        boxes: ``k`` of them.
        box: what the maps cover, as of ``overlay``.
        colormap, alpha, style: as of ``overlay``.

    Raises:
        InputError: as ``overlay`` and ``draw_boxes``, or another number of maps than of boxes.
    """
    maps = _check_maps(cams, boxes)
    if not boxes:
        return upright_rgb(photo)
    if colormap is not None or style.get("signed") or style.get("hide") == "photo":
        strongest = np.take_along_axis(maps, np.abs(maps).argmax(0)[None], 0)[0]
        return draw_boxes(overlay(photo, strongest, box=box, colormap=colormap, alpha=alpha, **style), boxes)
    check_style(None, alpha, style.get("threshold", 0.0))
    return draw_boxes(_paint(photo, maps, boxes, box, alpha, style.get("threshold", 0.0)), boxes)


def sheet_boxes(
    photo: "Image",
    cams: ArrayLike,
    boxes: Sequence[DrawnBox],
    *,
    box: Seen = None,
    heading: str = "",
    notes: Sequence[str] = (),
    columns: int | None = None,
    **style: Any,
) -> "Image":
    """Draw a sheet: all boxes in the first tile, then a tile for each box with its own map.

    Args:
        photo, cams, boxes, box: as of ``overlay_boxes``.
        heading: over the sheet.
        notes: a small line for each tile of a box.
        columns: tiles in a row; ``None`` chooses three or four.
        style: as of ``overlay``: ``colormap``, ``alpha``, ``threshold``, ``hide``, ``signed``.

    Raises:
        InputError: as ``overlay_boxes``.
    """
    maps = _check_maps(cams, boxes)
    picture = upright_rgb(photo, box.window if isinstance(box, Preprocess | AsDecoded) else None)
    seen = find_box(box, maps.shape[1:], picture.size) if len(boxes) else (0.0, 0.0, 1.0, 1.0)
    scale = SIDE / max(picture.size)
    small = picture.resize(_scale_size(picture.size, scale))
    region = _fit(tuple(edge * scale for edge in seen), small.size)
    chosen = [
        DrawnBox(_fit(tuple(edge * scale for edge in each.box), None), "", each.color or choose_color(number))
        for number, each in enumerate(boxes)
    ]
    count = f"{len(boxes)} box" if len(boxes) == 1 else f"{len(boxes) or 'no'} boxes"
    tiles = [Tile(draw_boxes(small, chosen), count)]
    for number, each in enumerate(chosen):
        drawn = draw_boxes(overlay(small, maps[number], box=region, **style), [each])
        tiles.append(Tile(drawn, boxes[number].text, notes[number] if number < len(notes) else ""))
    fitting = 3 if len(tiles) in (3, 5, 6, 9) else 4
    return tile_sheet(tiles, heading, columns or fitting)


def _check_maps(cams: ArrayLike, boxes: Sequence[DrawnBox]) -> NDArray[np.float32]:
    maps = as_array(cams, "cams")
    if maps.ndim != 3 or len(maps) != len(boxes):
        raise InputError(
            f"cams has shape {maps.shape} for {len(boxes)} box(es); expected ({len(boxes)}, h, w), a map for each box."
        )
    return maps.astype(np.float32)


def _paint(
    photo: "Image", maps: NDArray[np.float32], boxes: Sequence[DrawnBox], box: Seen, alpha: float, threshold: float
) -> "Image":
    """Paint each map in the color of its box over a dim gray photo; of several maps, the larger one shows more."""
    from PIL import Image

    picture = upright_rgb(photo, box.window if isinstance(box, Preprocess | AsDecoded) else None)
    region = round_box(find_box(box, maps.shape[1:], picture.size), picture.size)
    values = np.stack([resize_map(cam, region) for cam in maps])
    colors = np.asarray([each.color or choose_color(n) for n, each in enumerate(boxes)], np.float32)
    weights = values**4 + 1e-12
    mixed = np.einsum("khw,kc->hwc", weights / weights.sum(0), colors)
    largest = np.where(values.max(0) >= threshold, values.max(0), 0)
    share = min(1.0, STRENGTH * alpha) * largest[..., None]
    gray = np.asarray(picture.convert("L"), np.float32)[..., None].repeat(3, 2) * DIMMED
    left, top, right, bottom = region
    colored = np.asarray(picture, np.float32)[top:bottom, left:right]
    lit = gray[top:bottom, left:right] * (1 - share) + share * (0.55 * mixed + 0.45 * colored)
    gray[top:bottom, left:right] = lit
    return Image.fromarray(np.rint(gray.clip(0, 255)).astype(np.uint8))


def _write(
    draw: Any,
    text: str,
    edges: tuple[int, int, int, int],
    color: Color,
    size: tuple[int, int],
    taken: Sequence[tuple[int, int, int, int]],
) -> tuple[int, int, int, int]:
    """Write a text on a plate: above the box, below it, or inside it, where no other text lies; returns the plate."""
    height = max(10, round(TEXT * max(size)))
    font = load_font(height, text)
    line = cut_line(text, font, size[0] - 2 * PADDING)
    width, deep = int(font.getlength(line)) + 2 * PADDING, height + 2 * PADDING
    left = min(max(edges[0], 0), size[0] - width)
    tops = [top for top in (edges[1] - deep, edges[3], edges[1], edges[3] - deep) if 0 <= top <= size[1] - deep]
    plates = [(left, top, left + width, top + deep) for top in tops or [max(0, min(edges[1], size[1] - deep))]]
    plate = next((each for each in plates if not any(_touch(each, other) for other in taken)), plates[0])
    draw.rectangle(plate, fill=color, outline=HALO)
    bright = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 140
    middle = (plate[1] + plate[3]) / 2
    draw.text((plate[0] + PADDING, middle), line, font=font, fill="black" if bright else "white", anchor="lm")
    return plate


def _touch(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _cut_box(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Round a box to pixels of the photo."""
    if not np.isfinite(box).all() or box[0] > box[2] or box[1] > box[3]:
        raise InputError(f"box is {tuple(box)}; expected left, top, right, bottom in pixels, in this order.")
    left, top, right, bottom = (
        int(min(max(round(edge), 0), limit - 1)) for edge, limit in zip(box, (*size, *size), strict=True)
    )
    return left, top, right, bottom


def _grow(edges: tuple[int, int, int, int], by: int) -> tuple[int, int, int, int]:
    return edges[0] - by, edges[1] - by, edges[2] + by, edges[3] + by


def _scale_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _fit(box: tuple[float, ...], size: tuple[int, int] | None) -> Box:
    """Bring a scaled box back inside a picture, whose sides were rounded."""
    left, top, right, bottom = box
    if size is None:
        return left, top, right, bottom
    return max(left, 0.0), max(top, 0.0), min(right, float(size[0])), min(bottom, float(size[1]))
