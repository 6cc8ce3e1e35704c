"""Checks what ``export`` is asked for before any work is done."""

from pathlib import Path

from explainable_model.artifact.metadata import PRECISIONS, Profile
from explainable_model.errors import InputError
from explainable_model.exporters import FORMATS
from explainable_model.exporters.format import Format
from explainable_model.imaging.preprocess import Preprocess
from explainable_model.lowering.pixels import check_pixels
from explainable_model.verify.calibration import MINIMUM, Calibration, check_calibration


def check_request(fmt: Format, path: Path, *, dynamic_size: bool, pixels: str | None, profile: Profile) -> None:
    """Refuse options that contradict each other, before any work is done.

    Raises:
        InputError: which of them to leave out.
    """
    if fmt.fixed_size and (dynamic_size or pixels is not None):
        raise InputError(
            f"{fmt.runtime} plans its memory for one image size: leave dynamic_size and pixels out for {path.name}."
        )
    if pixels is not None and profile != "full":
        raise InputError(
            f"The {profile} profile is for images of one size, and photos are of any: leave out pixels, and prepare "
            "them outside of the artifact, or leave out profile."
        )


def check_photos(pixels: str | None, pixel_dtype: str, preprocess: Preprocess | None) -> None:
    """Refuse photos that artifacts do not take, before any work is done.

    Raises:
        InputError: a type without a layout; and as ``check_pixels``.
    """
    if pixels is not None and preprocess is not None:
        check_pixels(pixels, pixel_dtype, preprocess.window)
    elif pixels is None and pixel_dtype != "uint8":
        raise InputError(f"pixel_dtype={pixel_dtype!r} is of photos, which the artifact needs to take: pixels='NHW'.")


def check_precision(
    fmt: Format, precision: str | None, calibration: Calibration | None, preprocess: Preprocess | None
) -> None:
    """Refuse a precision that the format does not have, before any work is done.

    Raises:
        InputError: the precision is unknown, the format does not have it, or there are too few images to calibrate
            with.
    """
    if precision is None:
        if calibration is not None:
            raise InputError("calibration is for precision='int8' (or 'float16', to compare with); name one.")
        return
    if precision not in PRECISIONS:
        raise InputError(
            f"Unknown precision {precision!r}; known: {', '.join(PRECISIONS)}, or None for the network's own."
        )
    if precision not in fmt.precisions:
        able = [other.name for other in FORMATS.values() if precision in other.precisions]
        raise InputError(
            f"The format {fmt.name} is written in the network's own precision only; precision={precision!r} is for "
            f"{', '.join(able)}. Or give a network.half() with a float16 image."
        )
    if precision == "int8" and calibration is None:
        raise InputError(
            f"precision='int8' needs calibration=: a folder of {MINIMUM} or more photos of the kind that the network "
            "will see, their paths, or an array of what it takes."
        )
    if calibration is not None:
        check_calibration(calibration, preprocess)


def check_opset(fmt: Format, path: Path, opset: int | None) -> None:
    """Refuse an opset that the format does not have.

    Raises:
        InputError: the format is none of ONNX's operators, or the opset is too old or too new.
    """
    if opset is None:
        return
    if fmt.opsets is None:
        able = ", ".join(name for name, other in FORMATS.items() if other.opsets is not None)
        raise InputError(f"opset is for {able}; leave it out for {path.name}.")
    known = fmt.opsets()
    if type(opset) is not int or opset not in known:
        raise InputError(
            f"opset is {opset!r}; expected a number from {known[0]} to {known[-1]}, the newest of the installed onnx, "
            "or None for 18."
        )
