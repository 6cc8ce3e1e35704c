"""Photos as artifacts take them: layout, type and gray levels, in the graph and made up for comparisons."""

import torch
from torch import Tensor
from torch.nn import functional

from explainable_model.artifact.shapes import NHW, NHWC, PIXEL_DTYPES, PIXELS
from explainable_model.errors import InputError
from explainable_model.imaging.window import Window, find_values, tabulate_levels

STRETCH = 1.25  # how far made-up values of 16 bits reach beyond the window, which cuts them


def check_pixels(pixels: str, pixel_dtype: str, window: Window | None) -> None:
    """Refuse photos that graphs do not take.

    Args:
        pixels: their layout.
        pixel_dtype: their type.
        window: the values of 16 bits that become black and white.

    Raises:
        InputError: an unknown layout or type, 16 bits of several channels, or no window for them.
    """
    if pixels not in PIXELS:
        raise InputError(f"pixels is {pixels!r}; expected {' or '.join(PIXELS)}.")
    if pixel_dtype not in PIXEL_DTYPES:
        raise InputError(f"pixel_dtype is {pixel_dtype!r}; expected {' or '.join(PIXEL_DTYPES)}.")
    if pixel_dtype == "uint8":
        return
    if pixels != NHW:
        raise InputError(f"{pixel_dtype} is for gray photos, and pixels={pixels!r} for RGB; expected pixels={NHW!r}.")
    if window is None:
        raise InputError(
            "An array of 16 bits does not say how many of them are used. Say which values become black and white: "
            "Preprocess(..., window=(0, 4095)) for 12 bits, window=(0, 65535) for all 16."
        )
    try:
        find_values(window)
    except ValueError as error:
        raise InputError(f"{error} Or prepare photos outside of the artifact.") from error


def read_levels(photo: Tensor, pixels: str, window: Window | None) -> Tensor:
    """Bring photos into ``(N, 3, H, W)``, gray ones into ``(N, 1, H, W)``: levels from 0 to 255.

    Args:
        photo: in the layout ``pixels``; uint8, or uint16 to which ``window`` is applied.
        pixels: the layout.
        window: of uint16.
    """
    if pixels != NHW:
        return photo.permute(0, 3, 1, 2) if pixels == NHWC else photo
    if photo.dtype is torch.uint16 and window is not None:
        table = torch.from_numpy(tabulate_levels(window)).float().to(photo.device)
        photo = look_up(table, photo.to(torch.int64))
    return photo.unsqueeze(1)


def look_up(table: Tensor, row: Tensor) -> Tensor:
    """The entries of a table ``(rows,)``, in the shape of ``row``."""
    return table.gather(0, row.flatten()).reshape(row.shape)


def make_photos(
    pixels: str, pixel_dtype: str, window: Window | None, batch: int, size: tuple[int, int], seed: int
) -> Tensor:
    """Make photos up: coarse noise, which survives resizing, plus a gradient from left to right."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, 12, 12, generator=generator)
    levels = functional.interpolate(coarse, size=size, mode="bilinear") * 205
    levels = levels + 50 * torch.linspace(0, 1, size[1])
    if pixels == NHW:
        levels = levels[:, 0]
    if pixel_dtype == "uint16" and window is not None:
        black, white = window
        values = black + (white - black) * (STRETCH * (levels / 255 - 0.5) + 0.5)
        return values.round().clamp(0, 65535).to(torch.int32).to(torch.uint16)
    photo = levels.round().to(torch.uint8)
    return photo.permute(0, 2, 3, 1).contiguous() if pixels == NHWC else photo
