"""Draws captioned pictures in rows on one sheet."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from explainable_model.errors import InputError
from explainable_model.imaging.overlay import UNSEEN
from explainable_model.imaging.sheets import FAINT, GAP, INK, LINE_HEIGHT, MARGIN, NOTE_SIZE, cut_line, load_font

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 224  # longest side of a tile
COLUMNS = 6
TITLE_SIZE = 16
CAPTION_HEIGHT = 46


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet.

    Attributes:
        picture: of any size; ``None`` for an empty place.
        title: one line.
        note: a second, smaller line.
    """

    picture: "Image | None"
    title: str
    note: str = ""


def tile_sheet(tiles: Sequence[Tile], heading: str = "", columns: int = COLUMNS) -> "Image":
    """Draw tiles row by row, under a heading.

    Raises:
        InputError: no tile.
    """
    from PIL import Image, ImageDraw

    if not tiles:
        raise InputError("A sheet needs at least one tile; got none.")
    pictures = [_fit_tile(tile.picture) for tile in tiles]
    columns = min(columns, len(tiles))
    height = max((picture.height for picture in pictures if picture is not None), default=SIDE)
    across, down = SIDE + GAP, height + CAPTION_HEIGHT + GAP
    top = MARGIN + (LINE_HEIGHT + GAP if heading else 0)
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (2 * MARGIN + columns * across - GAP, top + rows * down - GAP + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    font = load_font(text=heading)
    draw.text((MARGIN, MARGIN), cut_line(heading, font, sheet.width - 2 * MARGIN), font=font, fill=INK)
    for number, (tile, picture) in enumerate(zip(tiles, pictures, strict=True)):
        left, upper = MARGIN + number % columns * across, top + number // columns * down
        shown = Image.new("RGB", (SIDE, height), UNSEEN) if picture is None else picture
        sheet.paste(shown, (left + (SIDE - shown.width) // 2, upper + height - shown.height))
        for line, size, offset, ink in ((tile.title, TITLE_SIZE, 4, INK), (tile.note, NOTE_SIZE, 25, FAINT)):
            small = load_font(size, line)
            draw.text((left, upper + height + offset), cut_line(line, small, SIDE), font=small, fill=ink)
    return sheet


def _fit_tile(picture: "Image | None") -> "Image | None":
    """Resize a picture so that its longest side is ``SIDE``."""
    from PIL import Image

    if picture is None:
        return None
    scale = SIDE / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
