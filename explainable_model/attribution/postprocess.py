"""Rectify, normalize and resize signed maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

HALF = (torch.float16, torch.bfloat16)
NORMALIZATIONS = ("minmax", "max", "none")
UPSAMPLINGS = ("bilinear", "bicubic", "nearest", "none")
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True)
class Postprocess:
    """What is done to a signed map.

    Attributes:
        normalize: ``minmax`` scales each map to [0, 1] by its minimum and maximum; ``max`` divides by
            its largest absolute value, which leaves zero where it is (signed maps: [-1, 1]); ``none``.
        upsample: how the map is resized: ``bilinear`` (linear or trilinear in one or three dimensions),
            ``bicubic``, ``nearest``, or ``none`` to leave it at layer resolution.
        signed: keep the evidence against the class instead of rectifying.
        shared_scale: normalize the maps of one image's classes together.
        size: spatial size to resize to; ``None`` for the image's.
    """

    normalize: str = "minmax"
    upsample: str = "bilinear"
    signed: bool = False
    shared_scale: bool = False
    size: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("normalize", self.normalize, NORMALIZATIONS),
            ("upsample", self.upsample, UPSAMPLINGS),
        ):
            if value not in choices:
                raise ValueError(f"{name} is {value!r}; expected one of {', '.join(choices)}, True or False.")
        if self.size is not None and (self.upsample == "none" or any(length < 1 for length in self.size)):
            raise ValueError(
                f"size is {self.size} with upsample={self.upsample!r}; expected positive lengths to resize to."
            )

    @property
    def range(self) -> tuple[int | None, int | None]:
        """Lowest and highest value a finished map can have; ``None`` for no bound."""
        if self.normalize == "none":
            return (None if self.signed else 0), None
        return (-1 if self.signed and self.normalize == "max" else 0), 1

    @property
    def diverging(self) -> bool:
        """Whether a finished map can be negative, where the evidence speaks against the class."""
        return self.range[0] != 0


def scale(cam: Tensor, normalize: str, dims: Sequence[int]) -> Tensor:
    """Normalize over ``dims``; a constant map (``minmax``) or a zero map (``max``) becomes zero.

    Half precision is normalized in float32: the smallest divisor of float16 would dim maps whose range is below 6e-5.

    Returns:
        The same shape and dtype, finite for every finite input.
    """
    if normalize == "none":
        return cam
    dims = list(dims)
    wide = cam.float() if cam.dtype in HALF else cam
    tiny = torch.finfo(wide.dtype).tiny
    if normalize == "max":
        scaled = wide / wide.abs().amax(dims, keepdim=True).clamp_min(tiny)
    else:
        low, high = wide.amin(dims, keepdim=True), wide.amax(dims, keepdim=True)
        # A constant map has numerator 0 everywhere: any positive divisor gives zeros instead of NaN.
        scaled = (wide - low) / (high - low).clamp_min(tiny)
    return scaled.to(cam.dtype) if cam.dtype in HALF else scaled


def minmax(cam: Tensor) -> Tensor:
    """Scale each map of ``(N, *spatial)`` to [0, 1]: ``(cam - min) / (max - min)``; a constant map becomes zero."""
    return scale(cam, "minmax", range(1, cam.ndim))


def resize(cam: Tensor, size: Sequence[Any]) -> Tensor:
    """``(N, *spatial)`` resized linearly to ``(N, *size)``, see ``resize_maps``."""
    return resize_maps(cam.unsqueeze(1), size).squeeze(1)


def resize_maps(cam: Tensor, size: Sequence[Any], upsample: str = "bilinear") -> Tensor:
    """``(N, k, *spatial)`` resized to ``(N, k, *size)`` with half-pixel centers.

    ``align_corners=False``. One, two and three spatial dimensions, but for bicubic: two.

    Raises:
        ValueError: bicubic in one or three dimensions, or a size of another number of dimensions.
    """
    if len(size) != cam.ndim - 2:
        raise ValueError(
            f"size is {tuple(size)}; expected {cam.ndim - 2} length(s), one for each dimension of the maps."
        )
    if upsample == "nearest":
        return functional.interpolate(cam, size=list(size), mode="nearest-exact")
    if upsample == "bicubic" and cam.ndim != 4:
        raise ValueError(f"upsample='bicubic' needs maps of height and width; these have {cam.ndim - 2} dimension(s).")
    mode = "bicubic" if upsample == "bicubic" else LINEAR[cam.ndim - 2]
    return functional.interpolate(cam, size=list(size), mode=mode, align_corners=False)


def finish(cam: Tensor, image_size: Sequence[Any], how: Postprocess) -> Tensor:
    """Rectify, normalize and resize signed maps as asked.

    Args:
        cam: ``(N, k, *spatial)``, a map for each of an image's k classes.
        image_size: spatial size of the image.
        how: what to do.

    Returns:
        ``(N, k, *size)``.
    """
    if not how.signed:
        cam = functional.relu(cam)
    cam = scale(cam, how.normalize, range(1 if how.shared_scale else 2, cam.ndim))
    if how.upsample == "none":
        return cam
    cam = resize_maps(cam, image_size if how.size is None else how.size, how.upsample)
    low, high = how.range
    overshoots = how.upsample == "bicubic" and (low, high) != (None, None)
    return cam.clamp(low, high) if overshoots else cam
