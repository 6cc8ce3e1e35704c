"""Shapes and layouts of images: which sizes an artifact accepts, and how a message writes a shape."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SPATIAL = ("depth", "height", "width")
NCHW, NHWC = "NCHW", "NHWC"
PIXELS = (NCHW, NHWC)


@dataclass(frozen=True)
class SizeRange:
    """The sizes that an artifact takes along one open dimension of the image.

    Attributes:
        minimum: the smallest.
        multiple: what every size is a multiple of.
    """

    minimum: int
    multiple: int = 1

    def allows(self, size: int) -> bool:
        """Whether the artifact takes this size."""
        return size >= self.minimum and size % self.multiple == 0

    def __str__(self) -> str:
        return f"{self.minimum} or more" + (f", a multiple of {self.multiple}" if self.multiple > 1 else "")


def array_dtype(dtype: str) -> str:
    """A dtype as NumPy has it, which has no bfloat16: float32 stands for it."""
    return "float32" if dtype == "bfloat16" else dtype


def spatial(shape: Sequence[Any], pixels: str | None = None) -> list[Any]:
    """The spatial dimensions among those of an image, or of photos in that layout."""
    return list(shape[1:3] if pixels == NHWC else shape[2:])


def shape_problem(
    shape: Sequence[int],
    expected: Sequence[int | None],
    sizes: Sequence[SizeRange] | None,
    pixels: str | None = None,
) -> str | None:
    """What is wrong with an image of this shape: a hint, perhaps empty; ``None`` where nothing is.

    Args:
        shape: of the image.
        expected: the same, with ``None`` where it is open.
        sizes: of the open spatial dimensions.
        pixels: layout of photos.
    """
    fits = len(shape) == len(expected) and all(w in (None, n) for w, n in zip(expected, shape, strict=True))
    if not fits or 0 in shape:
        return ""
    for name, size, allowed in zip(SPATIAL[-len(shape) + 2 :], spatial(shape, pixels), sizes or (), strict=False):
        if not allowed.allows(size):
            return f" with a {name} of {allowed}"
    return None


def dimension_names(ndim: int, pixels: str | None = None) -> list[str]:
    """``batch``, ``channels``, ``height`` and so on, in their order."""
    names = list(SPATIAL[-ndim + 2 :])
    return ["batch", *names, "channels"] if pixels == NHWC else ["batch", "channels", *names]


def format_shape(shape: Sequence[int | None], pixels: str | None = None) -> str:
    """A shape with open dimensions as in the documentation: ``(N, 3, H, W)``."""
    names = ["N" if name == "batch" else name[0].upper() for name in dimension_names(len(shape), pixels)]
    return "(" + ", ".join(name if n is None else str(n) for n, name in zip(shape, names, strict=True)) + ")"
