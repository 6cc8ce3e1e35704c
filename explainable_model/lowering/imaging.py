"""Preparation of photos and drawing on them, as parts of the graph of an artifact that takes photos of any size."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from explainable_model.artifact.shapes import NCHW, spatial
from explainable_model.attribution.plan import Plan
from explainable_model.attribution.postprocess import resize_maps
from explainable_model.errors import InputError
from explainable_model.imaging.letterbox import find_place
from explainable_model.imaging.overlay import UNSEEN, OverlayStyle, palette
from explainable_model.imaging.preprocess import Preprocess
from explainable_model.lowering.box_imaging import cut_border, draw_border, place_boxes, return_boxes
from explainable_model.lowering.pixels import check_pixels, look_up, read_levels
from explainable_model.lowering.sampling import (
    LAST_BIT,
    blend,
    find_taps,
    locate,
    pick,
    pick_around,
    round_levels,
    shrink,
)

LUMA = (19595, 38470, 7471)  # ITU-R 601-2 in 16-bit fixed point, as Pillow's mode L
COLORS = 256
BLANK, BARE = COLORS, COLORS + 1  # rows of the tables: no photo, and the photo without a color over it
RESIZABLE = ("nearest", "bilinear", "bicubic")


@dataclass(frozen=True)
class PhotoIO:
    """Preparation of a photo before the network, and drawing on the photo after it.

    Attributes:
        preprocess: from a photo to the network's input.
        pixels: how photos are laid out, ``NCHW`` or ``NHWC`` of RGB, ``NHW`` of gray photos.
        look: style of the overlay, with its colormap; ``None`` for no overlay.
        signed: whether maps have negative values too, so that zero is the middle of the colormap.
        dtype: of the network's input.
        pixel_dtype: of the photos: ``uint8``; or ``uint16``, of gray photos to which the window is applied.

    Raises:
        InputError: a layout, a type, a window, an interpolation or a crop that graphs do not have.
    """

    preprocess: Preprocess
    pixels: str = "NCHW"
    look: OverlayStyle | None = None
    signed: bool = False
    dtype: torch.dtype = torch.float32
    pixel_dtype: str = "uint8"

    def __post_init__(self) -> None:
        check_pixels(self.pixels, self.pixel_dtype, self.preprocess.window)
        if self.preprocess.interpolation not in RESIZABLE:
            raise InputError(
                f"The photo is resized by {self.preprocess.interpolation}, for which graphs have no operator; expected "
                f"{', '.join(RESIZABLE)}: change the preprocessing, or prepare photos outside of the artifact."
            )
        resize, size = self.preprocess.resize, self.preprocess.size
        if resize is not None and max(size) > resize:
            raise InputError(
                f"The crop {size} is larger than the resized photo, whose shorter side is {resize}; expected a crop "
                "inside of it: raise resize, or leave it out."
            )

    @property
    def image_shape(self) -> tuple[int, ...]:
        """``(C, h, w)`` of the network's input."""
        return len(self.preprocess.mean), *self.preprocess.size

    def image(self, photo: Tensor) -> Tensor:
        """The network's input ``(N, C, h, w)``, scaled and normalized; gray photos go into each of its channels."""
        levels = self._levels(photo).to(torch.promote_types(self.dtype, torch.float32))
        if len(self.preprocess.mean) < levels.shape[1]:
            red, green, blue = levels.unbind(1)
            levels = ((LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue + 2**15) / 2**16).floor().unsqueeze(1)
        small = self._resize(levels, self._size(photo))
        if self.preprocess.pad is not None:
            small = draw_border(small, self._place(*self._size(photo)), self.preprocess.pad)
        mean, std = (
            levels.new_tensor(values).reshape(-1, 1, 1) for values in (self.preprocess.mean, self.preprocess.std)
        )
        return ((small / 255 - mean) / std).to(self.dtype)

    def maps(self, cam: Tensor, photo: Tensor) -> Tensor:
        """Maps ``(N, h, w)`` or ``(N, k, h, w)`` at the photo's size, zero outside the crop that the network sees."""
        full = cam if cam.ndim == 4 else cam.unsqueeze(1)
        size = self._size(photo)
        seen = self._find_seen(photo)
        if self.preprocess.pad is not None:
            full = cut_border(full, size, self._place(*size))
        elif seen is None:
            full = resize_maps(full, size)
        else:
            resized, corner = self._resized(*size), self._corner(*size)
            for dim in (3, 2):  # the second step, which is the longer one, copies whole rows
                axis = dim - 2
                place = locate(size[axis], 0, resized[axis], size[axis], photo.device)
                taps = find_taps(place, size[axis], self.preprocess.size[axis] - 1, full.dtype, first=corner[axis])
                full = blend(full, dim, [(pixel, weight * seen[axis]) for pixel, weight in taps])
        return full if cam.ndim == 4 else full.squeeze(1)

    def boxes(self, boxes: Tensor, photo: Tensor) -> Tensor:
        """Boxes ``(..., 4)`` in pixels of the photo, of boxes in pixels of the image."""
        size = self._size(photo)
        return place_boxes(boxes, size, self._resized(*size), self._corner(*size))

    def given_boxes(self, boxes: Tensor, photo: Tensor) -> Tensor:
        """Boxes ``(..., 4)`` in pixels of the image, of boxes in pixels of the photo."""
        size = self._size(photo)
        return return_boxes(boxes, size, self._resized(*size), self._corner(*size))

    def overlay(self, cam: Tensor, photo: Tensor) -> Tensor:
        """The photo under its maps: uint8 RGB in the photo's layout, ``(N, k, ...)`` for maps ``(N, k, H, W)``.

        Of gray photos ``(N, H, W)`` it is ``(N, H, W, 3)``.
        """
        levels = self._levels(photo)
        whole = levels if cam.ndim == 3 else levels.unsqueeze(1)
        drawn = self._blend(whole, cam, self._find_seen(photo))
        return drawn if self.pixels == NCHW else drawn.movedim(-3, -1)

    def _levels(self, photo: Tensor) -> Tensor:
        return read_levels(photo, self.pixels, self.preprocess.window)

    def _blend(self, picture: Tensor, cam: Tensor, seen: tuple[Tensor, Tensor] | None) -> Tensor:
        """``(..., 3, H, W)``, or gray ``(..., 1, H, W)``, under ``(..., H, W)``.

        Levels are blended as in Pillow, which cuts off fractions. Each color is a plane of its own: runtimes look up
        single numbers much faster than triples.
        """
        assert self.look is not None
        unit, strength = self._unit(cam.float())
        row = (unit * COLORS).clamp(max=COLORS - 1)
        if self.look.threshold > 0:
            hidden = BARE if self.look.hide == "heatmap" else BLANK
            row = torch.where(strength < self.look.threshold, float(hidden), row)
        if seen is not None:
            rows, columns = (BARE * (~axis).to(row.dtype) for axis in seen)  # the largest number, so it stays
            row = torch.maximum(torch.maximum(row, rows.unsqueeze(1)), columns)
        row = row.to(torch.int64)
        share: Tensor | float = 1 - self.look.alpha
        if self.look.threshold > 0 or seen is not None:
            share = look_up(torch.tensor([share] * COLORS + [0.0, 1.0], device=picture.device), row)
        paints = self._paint.to(picture.device).unbind(1)
        colors = picture.float().unbind(-3)
        planes = zip(colors * (3 // len(colors)), paints, strict=True)
        return torch.stack([(plane * share + look_up(paint, row)).to(torch.uint8) for plane, paint in planes], -3)

    def _resize(self, levels: Tensor, size: tuple[Any, Any]) -> Tensor:
        """Resize photos and cut out the crop, in whole levels.

        Where the resized photo is larger than the photo, only the pixels of the crop are computed: its other pixels may
        be any number of times as many.
        """
        mode, resized, middle = self.preprocess.interpolation, self._resized(*size), self._middle(*size)
        top, left = self._corner(*size)
        starts = (0, 0) if top is None else (top, left)
        if mode != "nearest":
            # Pillow resizes rows first (some versions start with columns for portraits), and rounds after each step.
            levels = round_levels(shrink(round_levels(shrink(levels, (size[0], middle[1]), mode)), middle, mode))
        source, count = levels.shape[2:], self.preprocess.size
        places = [locate(count[n], starts[n], source[n], resized[n], levels.device) for n in (0, 1)]
        if mode == "nearest":
            inside = [(place[0].clamp(0, source[n] - 1), place[1]) for n, place in enumerate(places)]
            return pick(pick(levels, 2, inside[0]), 3, inside[1])
        rows, columns = (find_taps(places[n], resized[n], source[n] - 1, levels.dtype, mode) for n in (0, 1))
        levels, rows = pick_around(levels, 2, rows, count[0])
        return round_levels(blend(round_levels(blend(levels, 3, columns)), 2, rows))

    def _middle(self, height: Any, width: Any) -> tuple[Any, Any]:
        """Height and width of the resized photo, or of the photo where that is smaller; 2 at least.

        A side of 1 would become a condition of its own, under which ``torch.export`` takes another path.
        """
        resize, size = self.preprocess.resize, self.preprocess.size
        if self.preprocess.pad is not None:
            rows, columns = self._resized(height, width)
            middle = torch.sym_min(height, rows), torch.sym_min(width, columns)
        elif resize is None:
            middle = torch.sym_min(height, size[0]), torch.sym_min(width, size[1])
        else:
            shorter = torch.sym_max(torch.sym_min(height, width), resize)
            middle = resize * height // shorter, resize * width // shorter
        return torch.sym_max(middle[0], 2), torch.sym_max(middle[1], 2)

    @property
    def _paint(self) -> Tensor:
        """What is added to the photo, ``(COLORS + 2, 3)``: a row for each color, then ``BLANK`` and ``BARE``."""
        assert self.look is not None
        assert self.look.colormap is not None
        colors = torch.from_numpy(palette(self.look.colormap).copy()).float()
        return torch.cat([self.look.alpha * colors, torch.tensor([UNSEEN, [0.0] * 3])]) + LAST_BIT

    def _unit(self, cam: Tensor) -> tuple[Tensor, Tensor]:
        """Maps in [0, 1] for the colormap, and the strength that is compared with the threshold."""
        largest = cam.abs().amax((-2, -1), keepdim=True).clamp_min(1)
        share = cam / largest
        return ((share + 1) / 2, share.abs()) if self.signed else (share.clamp(0, 1), share)

    def _size(self, photo: Tensor) -> tuple[Any, Any]:
        height, width = spatial(photo.shape, self.pixels)
        return height, width

    def _place(self, height: Any, width: Any) -> tuple[Any, Any, Any, Any]:
        return find_place(self.preprocess.size, width, height, torch.sym_min, torch.sym_max)

    def _resized(self, height: Any, width: Any) -> tuple[Any, Any]:
        if self.preprocess.pad is not None:
            _, _, columns, rows = self._place(height, width)
            return rows, columns
        return self.preprocess.resized(height, width, torch.sym_min)

    def _corner(self, height: Any, width: Any) -> tuple[Any, Any]:
        """Top and left of the image in the resized photo, below zero for a border; ``None`` where it is the photo."""
        if self.preprocess.pad is not None:
            left, top, _, _ = self._place(height, width)
            return -top, -left
        if self.preprocess.resize is None:
            return None, None
        return self.preprocess.corner(height, width, torch.sym_min)

    def _find_seen(self, photo: Tensor) -> tuple[Tensor, Tensor] | None:
        """Which rows ``(H,)`` and columns ``(W,)`` the network sees: those with their center in ``Preprocess.box``.

        ``None`` where it sees all of it.
        """
        size = self._size(photo)
        corner, resized = self._corner(*size), self._resized(*size)
        if corner[0] is None or self.preprocess.pad is not None:
            return None
        inside = []
        for axis in (0, 1):
            pixel = locate(size[axis], 0, resized[axis], size[axis], photo.device)[0]
            inside.append((pixel >= corner[axis]) & (pixel < corner[axis] + self.preprocess.size[axis]))
        return inside[0], inside[1]


def make_photo_io(
    plan: Plan,
    example: Tensor,
    preprocess: Preprocess | None,
    pixels: str,
    look: OverlayStyle | None,
    pixel_dtype: str = "uint8",
) -> PhotoIO:
    """Preparation and drawing for the network of a plan.

    Args:
        plan: what is explained and how.
        example: the network's input.
        preprocess: makes the network's input of a photo.
        pixels: layout of the photos.
        look: style of the overlay, or ``None`` for no overlay; one without a colormap gets the one that suits the maps.
        pixel_dtype: type of the photos.

    Raises:
        InputError: no preprocessing, a preprocessing for another input, or maps that are not at image size.
    """
    if preprocess is None:
        raise InputError(f"pixels={pixels!r} needs to know how a photo becomes the image: preprocess=Preprocess(...).")
    made = (len(preprocess.mean), *preprocess.size)
    if made != tuple(example.shape[1:]):
        raise InputError(f"preprocess makes {made} of a photo; the example image is {tuple(example.shape[1:])}.")
    postprocess = plan.postprocess
    if postprocess.upsample == "none" or postprocess.size is not None:
        raise InputError(
            f"pixels={pixels!r} gives maps at the photo's size; upsample is {postprocess.upsample!r} and size "
            f"{postprocess.size}: leave both out."
        )
    signed = postprocess.diverging
    drawn = None if look is None else look.suited(signed=signed)
    return PhotoIO(preprocess, pixels, drawn, signed, example.dtype, pixel_dtype)
