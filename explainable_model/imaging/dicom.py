"""Reads radiographs from DICOM files, through pydicom."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from explainable_model.errors import InputError, MissingRuntimeError
from explainable_model.imaging.window import Window, to_eight_bits

if TYPE_CHECKING:
    from PIL.Image import Image

Dataset: TypeAlias = Any  # pydicom.Dataset
Values: TypeAlias = NDArray[Any]

SUFFIXES = (".dcm", ".dicom")
MARK, MARK_AT = b"DICM", 128
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
GRAY = ("MONOCHROME1", "MONOCHROME2")
HEADER_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
MISSING = "needs pydicom: pip install 'explainable-model[dicom]'."


def is_dicom(path: str | Path) -> bool:
    """Whether a file is DICOM: by its mark, or by its name where the mark is missing.

    Raises:
        OSError: the file cannot be opened.
    """
    with open(path, "rb") as stream:
        head = stream.read(MARK_AT + len(MARK))
    return head[MARK_AT:] == MARK or Path(path).suffix.lower() in SUFFIXES


def read_dicom(path: str | Path, window: Window | None = None, max_pixels: int = 100_000_000) -> "Image":
    """Read the one image of a DICOM file as RGB, as a viewer shows it.

    Stored values become values of the modality (rescale slope and intercept, or the table in the file). The window
    makes them levels of gray, and MONOCHROME1 is inverted. Values that pad the image become black.

    Args:
        path: the file.
        window: values of the modality that become black and white (white and black of MONOCHROME1). By default the
            first window of the file, else the table for display of the file, else the range of the stored bits.
        max_pixels: a larger image is refused before it is decoded.

    Raises:
        InputError: several frames, no image, a compression without a decoder, or colors of more than 8 bits.
        MissingRuntimeError: pydicom is not installed.

    Warns:
        LowRangeWarning: no window is known, and the values fill less than a quarter of the stored bits.
    """
    from PIL import Image

    with quiet_pydicom():
        dataset = _open(path, max_pixels)
        stored = _decode(dataset, path)
        if dataset.get("PhotometricInterpretation", GRAY[1]) not in GRAY:
            return _read_colors(stored, dataset, path)
        values, shown, limits = _read_values(dataset, stored, window)
        padding = _find_padding(dataset, stored)
    picture = Image.fromarray(values.astype(np.float32))
    picture.filename = str(path)  # type: ignore[attr-defined]  # its name in messages
    levels = np.array(to_eight_bits(picture, shown, limits))
    if dataset.get("PhotometricInterpretation") == GRAY[0]:
        levels = 255 - levels
    levels[padding] = 0
    return Image.fromarray(levels).convert("RGB")


def import_pydicom(purpose: str) -> Any:
    """Import pydicom.

    Raises:
        MissingRuntimeError: it is not installed.
    """
    try:
        import pydicom
    except ImportError as error:
        raise MissingRuntimeError(f"{purpose} {MISSING}") from error
    return pydicom


def _import_pixels() -> Any:
    return import_module("pydicom.pixels")


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Silence pydicom's warnings of unusual values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_header(path: str | Path, *, pixels: bool = False) -> Dataset:
    """Read a file's elements, with or without its pixels.

    Raises:
        InputError: the file has no DICOM header, or unpacks while it is read.
        MissingRuntimeError: pydicom is not installed.
    """
    pydicom = import_pydicom(f"{path} is DICOM, which")
    with quiet_pydicom():
        try:
            syntax = pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID")
        except pydicom.errors.InvalidDicomError as error:
            raise InputError(
                f"{path} has no DICOM header, {MARK.decode()} at byte {MARK_AT}. If it is an old file without one, "
                "write one: dcmconv old.dcm new.dcm, of dcmtk."
            ) from error
        if syntax == DEFLATED:
            raise InputError(
                f"{path} is deflated as a whole and could unpack to any size. Inflate it with dcmconv +te {path} "
                "inflated.dcm, of dcmtk."
            )
        return pydicom.dcmread(path, stop_before_pixels=not pixels)


def _open(path: str | Path, max_pixels: int) -> Dataset:
    """Read a file, and check what its header says of its image before the pixels are decoded."""
    header = read_header(path)
    if not header.get("Rows") or not header.get("Columns"):
        kind = getattr(header.get("SOPClassUID"), "name", "") or "no known object"
        raise InputError(f"{path} holds no image: it is {kind}. Expected a radiograph or another image of one frame.")
    height, width, frames = int(header.Rows), int(header.Columns), int(header.get("NumberOfFrames") or 1)
    if frames > 1:
        raise InputError(
            f"{path} has {frames} frames; expected one. Explain one of them as an array: "
            f"pydicom.pixels.pixel_array({str(path)!r}, index=0)."
        )
    if height * width > max_pixels:
        raise InputError(f"{path} has {width} x {height} pixels; expected at most {max_pixels:,}.")
    _check_decoder(header, path)
    return read_header(path, pixels=True)


def _check_decoder(header: Dataset, path: str | Path) -> None:
    """Refuse a compression that no installed decoder reads."""
    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax is None or not syntax.is_compressed:
        return
    try:
        decoder = _import_pixels().get_decoder(syntax)
        if decoder.is_available:
            return
        wanted = "; ".join(decoder.missing_dependencies)
    except NotImplementedError:
        wanted = "none is known to pydicom"
    raise InputError(
        f"{path} is compressed as {syntax.name}, for which no decoder is installed ({wanted}). Decompress it with "
        f"gdcmconv --raw {path} raw.dcm, or install a decoder: pip install 'pydicom>=3' pylibjpeg[all]."
    )


def _decode(dataset: Dataset, path: str | Path) -> Values:
    """Decode the stored values: ``(rows, columns)``, or ``(rows, columns, 3)`` in RGB."""
    if not any(name in dataset for name in HEADER_KEYWORDS):
        raise InputError(f"{path} has no pixels: its header promises an image, and the file ends before it.")
    return np.asarray(_import_pixels().pixel_array(dataset))


def _read_colors(values: Values, dataset: Dataset, path: str | Path) -> "Image":
    from PIL import Image

    photometric = str(dataset.PhotometricInterpretation)
    if photometric == "PALETTE COLOR":
        if dataset.file_meta.get("TransferSyntaxUID") == BIG_ENDIAN:  # pydicom 3.0 reads its palette in the other order
            raise InputError(f"{path} has a palette in big-endian order; convert it with dcmconv +te, of dcmtk.")
        values = _import_pixels().apply_color_lut(values, dataset)
        if values.dtype == np.uint16:  # the entries of a palette of 16 bits; their high bytes are the colors
            values = (values >> 8).astype(np.uint8)
        values = values[:, :, :3]
    if values.dtype != np.uint8 or values.ndim != 3 or values.shape[2] != 3:
        raise InputError(
            f"{path} has the colors {photometric} in {values.dtype} of shape {values.shape}; expected gray values, or "
            "colors of 8 bits."
        )
    return Image.fromarray(np.ascontiguousarray(values))


def _read_values(dataset: Dataset, stored: Values, window: Window | None) -> tuple[Values, Window | None, Window]:
    """Turn stored values into those of the modality; returns the window, if one is known, and the range of the bits."""
    limits = _range_of_bits(dataset)
    if dataset.get("ModalityLUTSequence"):
        values = _look_up(stored, dataset.ModalityLUTSequence[0], dataset)
    else:
        slope, intercept = _read_rescaling(dataset)
        values = stored.astype(np.float64) * slope + intercept
    shown = window or _read_window(dataset)
    if shown is None and _has_curve(dataset):
        values, shown = _apply_curve(values, dataset)
    if shown is None and dataset.get("BitsStored", 16) <= 8:
        shown = limits
    return values, shown, limits


def _read_window(dataset: Dataset) -> Window | None:
    """The first window of the file as the values that become black and white (PS3.3 C.11.2.1.2).

    A linear window of center c and width w spans c - 0.5 - (w - 1) / 2 to c - 0.5 + (w - 1) / 2; an exact one c - w / 2
    to c + w / 2.
    """
    center, width = (_first(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    if center is None or width is None or function == "SIGMOID":
        return None
    shift, less = (0.0, 0.0) if function == "LINEAR_EXACT" else (0.5, 1.0)
    half = max(width - less, 1e-6) / 2
    return center - shift - half, center - shift + half


def _has_curve(dataset: Dataset) -> bool:
    """Whether the file has another curve for display than a straight one."""
    return bool(dataset.get("VOILUTSequence")) or str(dataset.get("VOILUTFunction") or "") == "SIGMOID"


def _apply_curve(values: Values, dataset: Dataset) -> tuple[Values, Window]:
    """Apply the file's own table or sigmoid for display; returns the range of its results too."""
    if dataset.get("VOILUTSequence"):
        table = dataset.VOILUTSequence[0]
        return _look_up(values, table, dataset), _range_of_table(table)
    center, width = (_first(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if center is None or not width:
        raise InputError(
            "The file asks for a sigmoid for display, and names no center or no width of it; give a window."
        )
    return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700))), (0.0, 1.0)


def _look_up(values: Values, table: Dataset, dataset: Dataset) -> Values:
    """Look values up in a table; those before its first entry have the first, those behind its last entry the last.

    pydicom 3.0 computes the places in 8 bits where the entries have 8 bits, which is wrong from 256 entries on.
    """
    count, first = int(table.LUTDescriptor[0]) or 1 << 16, int(table.LUTDescriptor[1])
    stored = table.LUTData
    if isinstance(stored, bytes):
        order = ">" if dataset.file_meta.get("TransferSyntaxUID") == BIG_ENDIAN else "<"
        stored = np.frombuffer(stored, f"{order}u2" if len(stored) >= 2 * count else "u1")
    entries = np.asarray(stored)[:count].astype(np.float64)
    looked_up: Values = entries[np.clip(np.rint(values) - first, 0, len(entries) - 1).astype(np.intp)]
    return looked_up


def _range_of_table(table: Dataset) -> Window:
    return 0.0, 2.0 ** int(table.LUTDescriptor[2]) - 1


def _read_rescaling(dataset: Dataset) -> tuple[float, float]:
    slope, intercept = (_first(dataset.get(name)) for name in ("RescaleSlope", "RescaleIntercept"))
    return 1.0 if slope is None else slope, intercept or 0.0


def _range_of_bits(dataset: Dataset) -> Window:
    """The range of the stored bits, in values of the modality."""
    if dataset.get("ModalityLUTSequence"):
        return _range_of_table(dataset.ModalityLUTSequence[0])
    bits, signed = int(dataset.get("BitsStored", 16)), bool(dataset.get("PixelRepresentation", 0))
    low, high = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if signed else (0.0, 2.0**bits - 1)
    slope, intercept = _read_rescaling(dataset)
    ends = slope * low + intercept, slope * high + intercept
    return min(ends), max(ends)


def _find_padding(dataset: Dataset, stored: Values) -> NDArray[np.bool_]:
    """Where the values only pad the image: those of the padding value, or of the range to its limit."""
    first = _first(dataset.get("PixelPaddingValue"))
    if first is None:
        return np.zeros(stored.shape, bool)
    last = _first(dataset.get("PixelPaddingRangeLimit"))
    low, high = sorted((first, first if last is None else last))
    padded: NDArray[np.bool_] = (stored >= low) & (stored <= high)
    return padded


def _first(value: Any) -> float | None:
    """The first of one or several numbers; ``None`` where there is none."""
    if value is None or value == "":
        return None
    if hasattr(value, "__len__") and not isinstance(value, str):
        return _first(value[0]) if len(value) else None
    return float(value)
