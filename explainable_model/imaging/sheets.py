"""Draws panels (photo, heatmap and overlay under a caption) and contact sheets of them."""

import os
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike

from explainable_model.errors import InputError
from explainable_model.imaging.as_decoded import AsDecoded
from explainable_model.imaging.overlay import (
    ALPHA,
    UNSEEN,
    Colormap,
    Seen,
    choose_colormap,
    find_box,
    heatmap,
    overlay,
    resize_map,
    round_box,
)
from explainable_model.imaging.preprocess import Box, Preprocess, upright_rgb
from explainable_model.writing import StagedOutput

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

PANE = 320  # longest side of each picture of a panel
MARGIN = 24
GAP = 12
CAPTION_SIZE = 20
LINE_HEIGHT = 28
CAPTION_LINES = 2
INK, FAINT = (32, 32, 32), (112, 112, 112)
NOTE_SIZE = 13
BAR_HEIGHT = 12  # of the color bar
PICTURE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
SAVE_OPTIONS: dict[str, dict[str, int]] = {
    "PNG": {"compress_level": 1},
    "JPEG": {"quality": 92},
    "WEBP": {"quality": 90},
}


def panel(
    photo: "Image",
    cam: ArrayLike,
    caption: str,
    box: Seen = None,
    *,
    colormap: Colormap | None = None,
    alpha: float = ALPHA,
    signed: bool = False,
    note: str = "",
    **masking: Any,
) -> "Image":
    """Draw photo, heatmap and overlay side by side on white, under a caption, over a color bar.

    All panels are equally wide, so that they can be stacked: three columns of 320 pixels, in which
    the pictures are fitted and centered.

    Args:
        photo: of any size and mode.
        cam: ``(h, w)``.
        caption: one or two lines; a longer caption is cut with an ellipsis.
        box, colormap, signed: as of ``overlay``.
        alpha: of the heatmap in the overlay.
        note: one small line beside the color bar, such as the method and the layer.
        masking: ``threshold`` and ``hide`` of the overlay.
    """
    from PIL import Image

    photo = upright_rgb(photo, box.window if isinstance(box, Preprocess | AsDecoded) else None)
    size = _fit_pane(photo.size)
    original = photo.resize(size, Image.Resampling.LANCZOS)
    colors = colormap if colormap is not None else choose_colormap(signed=signed)
    small = _scale_box(find_box(box, np.shape(cam), photo.size), photo.size, size)
    region = round_box(small, size)
    heat = Image.new("RGB", size, UNSEEN)
    heat.paste(Image.fromarray(heatmap(resize_map(cam, region, signed=signed), colors)), region[:2])
    blended = overlay(original, cam, colormap=colors, alpha=alpha, box=small, signed=signed, **masking)
    return _arrange((original, heat, blended), caption, note, _draw_color_bar(colors, signed=signed))


def _draw_color_bar(colormap: Colormap, *, signed: bool) -> "Image":
    """Draw the colors of a map from its smallest to its largest value, with their values below."""
    from PIL import Image, ImageDraw

    values = np.tile(np.linspace(-1 if signed else 0, 1, PANE, dtype=np.float32), (BAR_HEIGHT, 1))
    bar = Image.new("RGB", (PANE, BAR_HEIGHT + NOTE_SIZE + 6), "white")
    bar.paste(Image.fromarray(heatmap(values, colormap, signed=signed)), (0, 0))
    draw, font = ImageDraw.Draw(bar), load_font(NOTE_SIZE)
    for number, text in enumerate(("-1", "0", "1") if signed else ("0", "0.5", "1")):
        left = number * (PANE - font.getlength(text)) / 2
        draw.text((left, BAR_HEIGHT + 1), text, font=font, fill=FAINT)
    return bar


def _arrange(pictures: Sequence["Image"], caption: str, note: str, bar: "Image") -> "Image":
    """Arrange three pictures of one size side by side on white, between a caption and a color bar."""
    from PIL import Image, ImageDraw

    size = pictures[0].size
    width = 2 * MARGIN + 3 * PANE + 2 * GAP
    font = load_font(CAPTION_SIZE, caption)
    lines = _wrap(caption, font, width - 2 * MARGIN)
    top = MARGIN + LINE_HEIGHT * len(lines) + (GAP if lines else 0)
    below = top + size[1] + GAP
    sheet = Image.new("RGB", (width, below + bar.height + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        draw.text((MARGIN, MARGIN + number * LINE_HEIGHT), line, font=font, fill=INK)
    for column, picture in enumerate(pictures):
        left = MARGIN + column * (PANE + GAP) + (PANE - size[0]) // 2
        sheet.paste(picture, (left, top))
    sheet.paste(bar, (MARGIN + PANE + GAP, below))
    small = load_font(NOTE_SIZE, note)
    draw.text((MARGIN, below), cut_line(note, small, PANE), font=small, fill=FAINT)
    return sheet


def contact_sheet(panels: Sequence["Image"]) -> "Image":
    """Stack panels, with the same margin between them as around them.

    Raises:
        InputError: no panel.
    """
    from PIL import Image

    if not panels:
        raise InputError("A contact sheet needs at least one panel; got none.")
    height = sum(picture.height - MARGIN for picture in panels) + MARGIN  # neighbors share a margin
    sheet = Image.new("RGB", (max(picture.width for picture in panels), height), "white")
    top = 0
    for picture in panels:
        sheet.paste(picture, (0, top))
        top += picture.height - MARGIN
    return sheet


def save_picture(picture: "Image", path: Path) -> Path:
    """Write a picture in the format that the ending names, PNG by default; no reader sees an unfinished file.

    Raises:
        ArtifactError: the path cannot be written, see ``writing.resolve_target``.
    """
    picture_format = PICTURE_FORMATS.get(path.suffix.lower(), "PNG")
    with StagedOutput(path) as staged:
        picture.save(staged.file, format=picture_format, **SAVE_OPTIONS[picture_format])
        staged.commit()
    return path


def _scale_box(box: Box, size: tuple[int, int], to: tuple[int, int]) -> Box:
    across, down = to[0] / size[0], to[1] / size[1]
    return box[0] * across, box[1] * down, box[2] * across, box[3] * down


def _fit_pane(size: tuple[int, int]) -> tuple[int, int]:
    scale = PANE / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def load_font(size: int = CAPTION_SIZE, text: str = "") -> "FreeTypeFont":
    """Load DejaVu Sans from matplotlib, or a font of the system where the text has other letters, such as Chinese.

    Servers have no matplotlib: there it is the font that is part of Pillow, which has the letters of ASCII alone.
    """
    from PIL import ImageFont

    try:
        path = _find_font(frozenset(text))
    except ModuleNotFoundError:
        return cast("FreeTypeFont", ImageFont.load_default(size))
    return ImageFont.truetype(path, size)


@lru_cache(maxsize=64)
def _find_font(letters: frozenset[str]) -> str:
    """Find a font file that has all these letters; DejaVu Sans where none has."""
    import matplotlib
    from matplotlib.ft2font import FT2Font

    default = os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    wanted = {ord(letter) for letter in letters if letter.isprintable() and not letter.isspace()}
    if wanted <= FT2Font(default).get_charmap().keys():
        return default
    from matplotlib.font_manager import fontManager

    for path in sorted({entry.fname for entry in fontManager.ttflist}):
        if "LastResort" in os.path.basename(path):  # draws a box for every letter
            continue
        with suppress(OSError, RuntimeError):  # a font that has been removed or is damaged
            if wanted <= FT2Font(path).get_charmap().keys():
                return path
    return default


def _wrap(caption: str, font: Any, width: int) -> list[str]:
    """Wrap a caption into at most two lines; the rest is cut."""
    lines: list[str] = []
    for word in caption.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > CAPTION_LINES:
        lines = [*lines[: CAPTION_LINES - 1], " ".join(lines[CAPTION_LINES - 1 :])]
    return [cut_line(line, font, width) for line in lines]


def cut_line(line: str, font: Any, width: int) -> str:
    """Cut a line that does not fit, with an ellipsis."""
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(line + "…") > width:
        line = line[:-1]
    return line + "…"
