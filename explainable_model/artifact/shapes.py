"""Shapes and layouts of images: which sizes an artifact accepts, and how a message writes a shape."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from explainable_model.explanation import BOXES, CAM, LABELS, SCORES, VALID

SPATIAL = ("depth", "height", "width")
NCHW, NHWC, NHW = "NCHW", "NHWC", "NHW"
PIXELS = (NCHW, NHWC, NHW)
PIXEL_DTYPES = ("uint8", "uint16")


@dataclass(frozen=True)
class SizeRange:
    """The sizes that an artifact accepts for one open dimension of the image.

    Attributes:
        minimum: the smallest accepted size.
        multiple: every accepted size is a multiple of this number.
    """

    minimum: int
    multiple: int = 1

    def allows(self, size: int) -> bool:
        """Whether the artifact accepts this size."""
        return size >= self.minimum and size % self.multiple == 0

    def __str__(self) -> str:
        return f"{self.minimum} or more" + (f", a multiple of {self.multiple}" if self.multiple > 1 else "")


def array_dtype(dtype: str) -> str:
    """The NumPy dtype for a dtype of PyTorch: float32 for bfloat16, which NumPy does not have."""
    return "float32" if dtype == "bfloat16" else dtype


def spatial(shape: Sequence[Any], pixels: str | None = None) -> list[Any]:
    """The spatial dimensions of an image ``(N, C, *spatial)``, or of photos in the layout ``pixels``."""
    return list(shape[1:3] if pixels in (NHWC, NHW) else shape[2:])


def shape_problem(
    shape: Sequence[int],
    expected: Sequence[int | None],
    sizes: Sequence[SizeRange] | None,
    pixels: str | None = None,
) -> str | None:
    """Check the shape of an image.

    Args:
        shape: shape of the image.
        expected: the expected shape, with ``None`` for an open dimension.
        sizes: the accepted sizes of the open spatial dimensions.
        pixels: layout of photos.

    Returns:
        ``None`` where the shape fits, else a hint for the end of an error message, which may be empty.
    """
    fits = len(shape) == len(expected) and all(w in (None, n) for w, n in zip(expected, shape, strict=True))
    if not fits or 0 in shape:
        return ""
    places = spatial(shape, pixels)
    for name, size, allowed in zip(SPATIAL[-len(places) :], places, sizes or (), strict=False):
        if not allowed.allows(size):
            return f" with a {name} of {allowed}"
    return None


def dimension_names(ndim: int, pixels: str | None = None) -> list[str]:
    """Names of an image's dimensions in their order: ``batch``, ``channels``, ``height``, ``width``."""
    if pixels == NHW:
        return ["batch", *SPATIAL[-ndim + 1 :]]
    names = list(SPATIAL[-ndim + 2 :])
    return ["batch", *names, "channels"] if pixels == NHWC else ["batch", "channels", *names]


def format_shape(shape: Sequence[int | None], pixels: str | None = None) -> str:
    """Write a shape with its open dimensions as letters: ``(N, 3, H, W)``."""
    names = ["N" if name == "batch" else name[0].upper() for name in dimension_names(len(shape), pixels)]
    return "(" + ", ".join(name if n is None else str(n) for n, name in zip(shape, names, strict=True)) + ")"


def box_outputs(
    boxes: Sequence[int | None], cam: Sequence[int | None], dtype: str, cam_range: Sequence[float | None]
) -> dict[str, Any]:
    """Shapes, dtypes and ranges of a detector's outputs, of the shapes of its boxes and maps."""
    ranks = list(cam[:2])
    return {
        BOXES: {"shape": boxes, "dtype": dtype, "range": None},
        SCORES: {"shape": ranks, "dtype": dtype, "range": [0, 1]},
        LABELS: {"shape": ranks, "dtype": "int64", "range": None},
        VALID: {"shape": ranks, "dtype": "bool", "range": None},
        CAM: {"shape": cam, "dtype": dtype, "range": cam_range},
    }
