"""Draws maps as colors, alone and over the photo."""

import difflib
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from explainable_model.errors import InputError
from explainable_model.imaging.arrays import as_array
from explainable_model.imaging.as_decoded import AsDecoded
from explainable_model.imaging.preprocess import Box, Preprocess, upright_rgb

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels: TypeAlias = NDArray[np.uint8]  # (h, w, 3)
UnitMap: TypeAlias = NDArray[np.float32]  # (h, w), in [0, 1]
Seen: TypeAlias = Box | Preprocess | AsDecoded | None  # what tells the part of a photo that a map covers
Colormap: TypeAlias = str | Pixels  # a name that matplotlib knows, or (256, 3) colors as from ``palette``

COLORMAP = "turbo"  # jet's order of colors, without the false edges that jet has at cyan and yellow
SIGNED_COLORMAP = "RdBu_r"  # white is zero, red is evidence for the class, blue is evidence against it
HIDE = ("heatmap", "photo")
ALPHA = 0.5
ROUNDING = 1e-6  # negative values down to this share of the largest are rounding errors
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
        check_style(str(style.colormap), style.alpha, style.threshold, style.hide)
        return style

    def keywords(self, *, signed: bool) -> dict[str, Any]:
        """Make the keyword arguments of ``overlay``."""
        colormap = self.colormap or choose_colormap(signed=signed)
        masking = {"threshold": self.threshold, "hide": self.hide, "signed": signed}
        return {"colormap": colormap, "alpha": self.alpha, **masking}


def heatmap(cam: ArrayLike, colormap: Colormap | None = None, *, signed: bool = False) -> Pixels:
    """Draw a map as colors.

    Args:
        cam: ``(h, w)``, finite. Values from 0 to 1, or from -1 to 1 of a signed map; a map that exceeds 1 is divided by
            its largest absolute value.
        colormap: a name that matplotlib knows, or colors as from ``palette``; the default depends on ``signed``.
        signed: whether negative values are evidence against the class; zero then has the color in the middle.

    Returns:
        ``(h, w, 3)`` uint8, RGB.

    Raises:
        InputError: another number of dimensions, NaN, negative values of a map that is not signed, or an unknown
            colormap.
    """
    entries = np.minimum(_scale_to_unit(cam, signed=signed) * 256, 255).astype(np.uint8)
    colors: Pixels = palette(colormap if colormap is not None else choose_colormap(signed=signed))[entries]
    return colors


def _scale_to_unit(cam: ArrayLike, *, signed: bool) -> UnitMap:
    """Bring a map into [0, 1]; zero becomes 0, or 0.5 for a signed map."""
    values = as_array(cam.detach().cpu() if hasattr(cam, "detach") else cam, "cam")
    if np.iscomplexobj(values):
        raise InputError(f"cam holds {values.dtype}; expected real numbers, such as their magnitudes: abs(cam).")
    values = values.astype(np.float32)
    if values.ndim != 2 or values.size == 0:
        raise InputError(f"cam has shape {values.shape}; expected (h, w), one map of one image: cam[0].")
    if not np.isfinite(values).all():
        raise InputError("cam has NaN or infinite values; expected finite ones.")
    largest = max(float(np.abs(values).max()), 1.0)
    if not signed and float(values.min()) < -ROUNDING * largest:
        raise InputError(
            f"cam has negative values, down to {values.min():.3g}, which are evidence against the class. Draw it with "
            "signed=True, or set them to zero: cam.clip(0)."
        )
    scaled = values / largest
    unit: UnitMap = np.clip((scaled + 1) / 2 if signed else scaled, 0.0, 1.0).astype(np.float32)
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

    if not isinstance(colormap, str):
        raise InputError(f"colormap is {colormap!r:.80}; expected a name of matplotlib, or colors of palette().")
    if colormap not in matplotlib.colormaps:
        near = difflib.get_close_matches(colormap, list(matplotlib.colormaps), n=3)
        known = ", ".join(near or ["turbo", "jet", "viridis", "inferno"])
        raise InputError(f"Unknown colormap {colormap!r}; matplotlib has others, for example {known}.")
    colors: Pixels = np.asarray(matplotlib.colormaps[colormap](np.linspace(0, 1, 256), bytes=True))[:, :3]
    return colors


def check_style(colormap: Colormap | None, alpha: float, threshold: float = 0.0, hide: str = HIDE[0]) -> None:
    """Refuse a style that ``heatmap`` or ``overlay`` would refuse, before any work is done.

    Args:
        colormap, alpha, threshold, hide: as of ``overlay``; ``None`` where no colormap is used.

    Raises:
        InputError: an unknown colormap (the nearest are listed), an alpha or a threshold outside [0, 1], or something
            else to hide.
    """
    if colormap is not None:
        palette(colormap)
    if hide not in HIDE:
        raise InputError(f"hide is {hide!r}; expected {' or '.join(map(repr, HIDE))}.")
    for name, value in (("threshold", threshold), ("alpha", alpha)):
        if not isinstance(value, Real):
            raise InputError(f"{name} is {value!r}; expected a number from 0 to 1.")
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold is {threshold}; expected 0 (nothing is hidden) to 1.")
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha is {alpha}; expected 0 (the photo alone) to 1 (the heatmap alone).")


def overlay(
    photo: "Image",
    cam: ArrayLike,
    *,
    colormap: Colormap | None = None,
    alpha: float = ALPHA,
    box: Seen = None,
    threshold: float = 0.0,
    hide: str = "heatmap",
    signed: bool = False,
) -> "Image":
    """Draw the map over the part of the photo that the network saw: ``(1 - alpha) photo + alpha heatmap``.

    Args:
        photo: of any size and mode; it is put upright.
        cam: ``(h, w)``, as of ``heatmap``; resized to the box.
        colormap: a name that matplotlib knows, or colors as from ``palette``; the default depends on ``signed``.
        alpha: 0 shows the photo alone, 1 the heatmap alone.
        box: what the map covers: the ``Preprocess`` that made the image, or its ``box(*photo.size)``, or
            ``(0, 0, *photo.size)`` for the whole photo. A map of the photo's own size covers the whole photo. Outside
            of the box the photo stays as it is.
        threshold: smallest value that is shown; of a signed map, smallest absolute value.
        hide: ``heatmap`` or ``photo``: which of the two is hidden below the threshold.
        signed: whether negative values are evidence against the class; zero then has the color in the middle.

    Returns:
        RGB, of the photo's size.

    Raises:
        InputError: as ``heatmap`` and ``check_style``, a photo that is no picture of Pillow, a box that leaves the
            photo, or no box where the map is not of the photo's size.
    """
    from PIL import Image

    colors = colormap if colormap is not None else choose_colormap(signed=signed)
    check_style(colors, alpha, threshold, hide)
    _check_kinds(photo, cam)
    picture = upright_rgb(photo, box.window if isinstance(box, Preprocess | AsDecoded) else None)
    region = round_box(find_box(box, np.shape(cam), picture.size), picture.size)
    values = resize_map(cam, region, signed=signed)
    seen = picture.crop(region)
    blended = Image.blend(seen, Image.fromarray(heatmap(values, colors)), alpha)
    if threshold > 0:
        strength = np.abs(2 * values - 1) if signed else values
        weak = seen if hide == "heatmap" else Image.new("RGB", seen.size, UNSEEN)
        blended.paste(weak, (0, 0), Image.fromarray(np.where(strength < threshold, 255, 0).astype(np.uint8)))
    picture.paste(blended, region[:2])
    return picture


def _check_kinds(photo: Any, cam: ArrayLike) -> None:
    from PIL import Image

    if not isinstance(photo, Image.Image):
        raise InputError(
            f"photo is {type(photo).__name__}; expected a Pillow picture: Image.open(path), or Image.fromarray(array) "
            "of uint8 (h, w, 3)."
        )
    if len(np.shape(cam)) != 2:
        raise InputError(f"cam has shape {tuple(np.shape(cam))}; expected (h, w), one map of one image: cam[0].")


def hottest_point(cam: ArrayLike, box: Box) -> tuple[float, float]:
    """Find where in the photo the map is largest: ``(column, row)`` in pixels, the center of the map's cell.

    Args:
        cam: ``(h, w)``.
        box: what the map covers, as from ``Preprocess.box``.
    """
    values = as_array(cam, "cam")
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    left, top, right, bottom = box
    height, width = values.shape
    return left + (int(column) + 0.5) * (right - left) / width, top + (int(row) + 0.5) * (bottom - top) / height


def resize_map(cam: ArrayLike, region: tuple[int, int, int, int], *, signed: bool = False) -> UnitMap:
    """Bring a map into [0, 1] at the size of a region; the values are interpolated, not the colors."""
    from PIL import Image

    left, top, right, bottom = region
    unit = Image.fromarray(_scale_to_unit(cam, signed=signed))
    resized = unit.resize((right - left, bottom - top), Image.Resampling.BICUBIC)
    clipped: UnitMap = np.clip(np.asarray(resized), 0.0, 1.0)
    return clipped


def find_box(box: Seen, cam_shape: tuple[int, ...], size: tuple[int, int]) -> Box:
    """Find the part of a photo that a map covers.

    Args:
        box: as of ``overlay``.
        cam_shape: ``(h, w)``.
        size: ``(width, height)`` of the photo.

    Raises:
        InputError: no box for a map that is not of the photo's size.
    """
    if box is None:
        if cam_shape[::-1] != size:
            raise InputError(
                f"The map has {' x '.join(map(str, cam_shape[::-1]))} values, the photo {size[0]} x {size[1]} pixels; "
                "expected box, the part of the photo that the map covers. Pass box=preprocess, the Preprocess that "
                "made the image, or box=(0, 0, *photo.size) where the image shows the whole photo."
            )
        return 0.0, 0.0, float(size[0]), float(size[1])
    if isinstance(box, Preprocess) and box.pad is not None:
        raise InputError(
            "The image has a border, which the map covers too; cut it off: overlay(photo, preprocess.crop(cam, "
            "*photo.size), box=(0, 0, *photo.size))."
        )
    if isinstance(box, Preprocess | AsDecoded):
        return box.box(*size)
    if not isinstance(box, tuple | list) or len(box) != 4 or not all(isinstance(edge, Real) for edge in box):
        raise InputError(f"box is {box!r}; expected four numbers, left, top, right and bottom, or the Preprocess.")
    return box[0], box[1], box[2], box[3]


def round_box(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Round a box to whole pixels, at least one in each direction."""
    left, top, right, bottom = box
    if not (-0.5 <= left < right <= size[0] + 0.5 and -0.5 <= top < bottom <= size[1] + 0.5):
        raise InputError(f"box {box} is not inside the photo of {size[0]} x {size[1]} pixels; see Preprocess.box().")
    column, row = (min(round(start), full - 1) for start, full in zip((left, top), size, strict=True))
    return column, row, max(round(right), column + 1), max(round(bottom), row + 1)
