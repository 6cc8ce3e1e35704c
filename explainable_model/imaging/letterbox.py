"""A photo in the middle of an image, with a border: the letterbox of detectors."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from numpy.typing import NDArray

from explainable_model.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

Size = tuple[int, int]  # (height, width) of an image
Choose: TypeAlias = Callable[[Any, Any], Any]


def find_place(
    size: Size, width: Any, height: Any, smaller: Choose = min, larger: Choose = max
) -> tuple[Any, Any, Any, Any]:
    """Find where a photo lies in the image: left, top, columns, rows.

    Args:
        size: of the image.
        width, height: of the photo, whole numbers, which may be symbolic.
        smaller, larger: minimum and maximum of two such numbers.
    """
    rows = smaller(size[0], _divide(height * size[1], width, smaller))
    columns = smaller(size[1], _divide(width * size[0], height, smaller))
    rows, columns = larger(1, rows), larger(1, columns)
    return (size[1] - columns) // 2, (size[0] - rows) // 2, columns, rows


def _divide(numerator: Any, denominator: Any, smaller: Choose) -> Any:
    """Divide whole numbers and round, a half to the even neighbor."""
    whole, rest = (2 * numerator + denominator) // (2 * denominator), (2 * numerator + denominator) % (2 * denominator)
    return whole - (1 - smaller(1, rest)) * (whole % 2)


def find_edges(size: Size, width: int, height: int) -> tuple[float, float, float, float]:
    """Find the edges of the image in pixels of the photo: left, top, right, bottom, beyond the photo."""
    left, top, columns, rows = find_place(size, width, height)
    across, down = width / columns, height / rows
    return -left * across, -top * down, (size[1] - left) * across, (size[0] - top) * down


def draw_border(picture: "Image", size: Size, pad: float, resample: Any) -> "Image":
    """Draw a photo in the middle of an image whose border is gray, ``pad`` from 0 to 1."""
    from PIL import Image

    left, top, columns, rows = find_place(size, *picture.size)
    image = Image.new(picture.mode, size[::-1], (round(255 * pad),) * len(picture.getbands()))
    image.paste(picture.resize((columns, rows), resample), (left, top))
    return image


def crop_border(cam: NDArray[Any], size: Size, width: int, height: int) -> NDArray[Any]:
    """Cut the border from maps ``(..., H, W)``.

    Raises:
        InputError: the maps have another size than the image.
    """
    if cam.shape[-2:] != size:
        raise InputError(
            f"The maps are {cam.shape[-2]} x {cam.shape[-1]}; an image with a border has maps of its own size, "
            f"{size[0]} x {size[1]}: leave out upsample='none' and the size of the maps."
        )
    left, top, columns, rows = find_place(size, width, height)
    return cam[..., top : top + rows, left : left + columns]
