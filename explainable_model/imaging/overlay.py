"""Draws maps as colors, alone and over the photo."""

import difflib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from explainable_model.errors import InputError
from explainable_model.imaging.preprocess import Box

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels: TypeAlias = NDArray[np.uint8]  # (h, w, 3)
UnitMap: TypeAlias = NDArray[np.float32]  # (h, w), in [0, 1]
Colormap: TypeAlias = str | Pixels  # a name that matplotlib knows, or (256, 3) colors as from ``palette``

COLORMAP = "turbo"  # jet's order of colors, without the false edges that jet has at cyan and yellow
SIGNED_COLORMAP = "RdBu_r"  # white is zero, red is evidence for the class, blue is evidence against it
HIDE = ("heatmap", "photo")
ALPHA = 0.5
UNSEEN = (232, 232, 232)  # where the network did not see the photo


def choose_colormap(*, signed: bool) -> str:
    """Choose the default colormap of signed maps or of others."""
    return SIGNED_COLORMAP if signed else COLORMAP


@dataclass(frozen=True)
class OverlayStyle:
    """How ``overlay`` draws; the default colormap depends on whether the maps are signed."""

    colormap: str | None = None
    alpha: float = ALPHA
    threshold: float = 0.0
    hide: str = "heatmap"

    def suited(self, *, signed: bool) -> "OverlayStyle":
        """Fill in the default colormap and check the style.

        Raises:
            InputError: as ``check_style``.
        """
        style = replace(self, colormap=self.colormap or choose_colormap(signed=signed))
        check_style(str(style.colormap), style.alpha, style.threshold)
        return style

    def keywords(self, *, signed: bool) -> dict[str, Any]:
        """Make the keyword arguments of ``overlay``."""
        colormap = self.colormap or choose_colormap(signed=signed)
        masking = {"threshold": self.threshold, "hide": self.hide, "signed": signed}
        return {"colormap": colormap, "alpha": self.alpha, **masking}


def heatmap(cam: ArrayLike, colormap: Colormap = COLORMAP) -> Pixels:
    """Draw a map as colors.

    Args:
        cam: ``(h, w)``, finite, not negative; a map that exceeds 1 is divided by its maximum.
        colormap: a name that matplotlib knows, or colors as from ``palette``.

    Returns:
        ``(h, w, 3)`` uint8, RGB.

    Raises:
        InputError: another number of dimensions, NaN, or an unknown colormap.
    """
    entries = np.minimum(scale_to_unit(cam) * 256, 255).astype(np.uint8)
    colors: Pixels = palette(colormap)[entries]
    return colors


def scale_to_unit(cam: ArrayLike) -> UnitMap:
    """Bring a map into [0, 1]: a map that exceeds 1 is divided by its maximum.

    Raises:
        InputError: another number of dimensions, or NaN.
    """
    values = np.asarray(cam, dtype=np.float32)
    if values.ndim != 2 or values.size == 0:
        raise InputError(f"cam has shape {values.shape}; expected (h, w), one map of one image: cam[0].")
    if not np.isfinite(values).all():
        raise InputError("cam has NaN or infinite values; expected finite ones.")
    unit: UnitMap = np.clip(values / max(float(values.max()), 1.0), 0.0, 1.0)
    return unit


def palette(colormap: Colormap = COLORMAP) -> Pixels:
    """List the 256 colors of a colormap from 0 to 1, so that a program without matplotlib can draw heatmaps.

    Args:
        colormap: a name that matplotlib knows; a palette stays as it is.

    Returns:
        ``(256, 3)`` uint8, RGB.

    Raises:
        InputError: an unknown name (the nearest are listed), or an array that is no palette.
    """
    if isinstance(colormap, np.ndarray):
        if colormap.shape != (256, 3) or colormap.dtype != np.uint8:
            raise InputError(f"The palette is {colormap.dtype} of shape {colormap.shape}; expected uint8 (256, 3).")
        return colormap
    import matplotlib

    if colormap not in matplotlib.colormaps:
        near = difflib.get_close_matches(colormap, list(matplotlib.colormaps), n=3)
        known = ", ".join(near or ["turbo", "jet", "viridis", "inferno"])
        raise InputError(f"Unknown colormap {colormap!r}; matplotlib has others, for example {known}.")
    colors: Pixels = np.asarray(matplotlib.colormaps[colormap](np.linspace(0, 1, 256), bytes=True))[:, :3]
    return colors


def centered(cam: ArrayLike) -> UnitMap:
    """A signed map in [0, 1], so that zero lies at 0.5: one that exceeds [-1, 1] is divided by its largest value."""
    values = np.asarray(cam, dtype=np.float32)
    unit: UnitMap = ((values / max(float(np.abs(values).max()), 1.0) + 1) / 2).astype(np.float32)
    return unit


def check_style(colormap: Colormap, alpha: float, threshold: float = 0.0) -> None:
    """Refuse a style that ``heatmap`` or ``overlay`` would refuse, before any work is done.

    Raises:
        InputError: an unknown colormap (the nearest are listed), or an alpha or a threshold outside [0, 1].
    """
    palette(colormap)
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold is {threshold}; expected 0 (nothing is hidden) to 1.")
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha is {alpha}; expected 0 (the photo alone) to 1 (the heatmap alone).")


def overlay(
    photo: "Image",
    cam: ArrayLike,
    *,
    colormap: Colormap = COLORMAP,
    alpha: float = ALPHA,
    box: Box | None = None,
    threshold: float = 0.0,
    hide: str = "heatmap",
    signed: bool = False,
) -> "Image":
    """Draw the map over the part of the photo that the network saw: ``(1 - alpha) photo + alpha heatmap``.

    Args:
        photo: of any size and mode.
        cam: ``(h, w)``, resized to the box.
        colormap: a name that matplotlib knows, or colors as from ``palette``.
        alpha: 0 shows the photo alone, 1 the heatmap alone.
        box: what the map covers, as from ``Preprocess.box``; the whole photo by default. Outside of
            it the photo stays as it is.
        threshold: smallest value that is shown; of a signed map, smallest absolute value.
        hide: ``heatmap`` or ``photo``: which of the two is hidden below the threshold.
        signed: whether the map is as from ``centered``.

    Returns:
        RGB, of the photo's size.

    Raises:
        InputError: as ``heatmap``, an alpha or a threshold outside [0, 1], or a box that leaves the photo.
    """
    from PIL import Image

    check_style(colormap, alpha, threshold)
    picture = photo.convert("RGB")
    region = round_box(box, picture.size)
    values = resize_map(cam, region)
    seen = picture.crop(region)
    blended = Image.blend(seen, Image.fromarray(heatmap(values, colormap)), alpha)
    if threshold > 0:
        strength = np.abs(2 * values - 1) if signed else values
        weak = seen if hide == "heatmap" else Image.new("RGB", seen.size, UNSEEN)
        blended.paste(weak, (0, 0), Image.fromarray(np.where(strength < threshold, 255, 0).astype(np.uint8)))
    picture.paste(blended, region[:2])
    return picture


def hottest_point(cam: ArrayLike, box: Box) -> tuple[float, float]:
    """Find where in the photo the map is largest: ``(column, row)`` in pixels, the center of the map's cell.

    Args:
        cam: ``(h, w)``.
        box: what the map covers, as from ``Preprocess.box``.
    """
    values = np.asarray(cam)
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    left, top, right, bottom = box
    height, width = values.shape
    return left + (int(column) + 0.5) * (right - left) / width, top + (int(row) + 0.5) * (bottom - top) / height


def resize_map(cam: ArrayLike, region: tuple[int, int, int, int]) -> UnitMap:
    """Resize a map to the size of a region; the values are interpolated, not the colors."""
    from PIL import Image

    left, top, right, bottom = region
    values = Image.fromarray(scale_to_unit(cam)).resize((right - left, bottom - top), Image.Resampling.BICUBIC)
    clipped: UnitMap = np.clip(np.asarray(values), 0.0, 1.0)
    return clipped


def round_box(box: Box | None, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Round a box to whole pixels, at least one in each direction."""
    if box is None:
        return 0, 0, *size
    left, top, right, bottom = box
    if not (-0.5 <= left < right <= size[0] + 0.5 and -0.5 <= top < bottom <= size[1] + 0.5):
        raise InputError(f"box {box} is not inside the photo of {size[0]} x {size[1]} pixels; see Preprocess.box().")
    column, row = (min(round(start), full - 1) for start, full in zip((left, top), size, strict=True))
    return column, row, max(round(right), column + 1), max(round(bottom), row + 1)
