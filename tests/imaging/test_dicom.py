"""Radiographs in DICOM files: the window, the polarity, the values of the modality, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from explainable_model.errors import InputError, LowRangeWarning, MissingRuntimeError
from explainable_model.imaging.preprocess import decode_photo, open_photo

pydicom = pytest.importorskip("pydicom", reason="pydicom is missing: pip install 'explainable-model[dicom]'")

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a DICOM file of gray values; further elements by their keywords."""

    def write(
        values: NDArray[Any], name: str = "film.dcm", syntax: str = "1.2.840.10008.1.2.1", **elements: Any
    ) -> Path:
        from pydicom.dataset import Dataset, FileMetaDataset
        from pydicom.uid import ComputedRadiographyImageStorage, generate_uid

        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.Rows, dataset.Columns = values.shape[:2]
        dataset.SamplesPerPixel = 1 if values.ndim == 2 else 3
        dataset.PhotometricInterpretation = "MONOCHROME2" if values.ndim == 2 else "RGB"
        if values.ndim == 3:
            dataset.PlanarConfiguration = 0
        dataset.BitsAllocated = dataset.BitsStored = 8 * values.dtype.itemsize
        dataset.PixelRepresentation = int(values.dtype.kind == "i")
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelData = values.tobytes()
        path = tmp_path / name
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write


def read(path: Path, window: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    picture = open_photo(path, window)
    assert picture.mode == "RGB"
    levels = np.asarray(picture)
    assert (levels[:, :, 0] == levels[:, :, 1]).all()
    return levels[:, :, 0]


def expected(values: NDArray[Any], black: float, white: float) -> NDArray[Any]:
    return np.rint((values.astype(float).clip(black, white) - black) / (white - black) * 255)


def test_the_window_of_the_file(write: Write) -> None:
    path = write(RAMP, BitsStored=12, WindowCenter=1000, WindowWidth=401)
    np.testing.assert_array_equal(read(path), expected(RAMP, 1000 - 0.5 - 200, 1000 - 0.5 + 200))


def test_the_first_of_several_windows(write: Write) -> None:
    path = write(RAMP, BitsStored=12, WindowCenter=[1000, 9], WindowWidth=[401, 3])
    np.testing.assert_array_equal(read(path), expected(RAMP, 799.5, 1199.5))


def test_an_exact_window(write: Write) -> None:
    path = write(RAMP, BitsStored=12, WindowCenter=1000, WindowWidth=400, VOILUTFunction="LINEAR_EXACT")
    np.testing.assert_array_equal(read(path), expected(RAMP, 800, 1200))


def test_a_sigmoid_window(write: Write) -> None:
    path = write(RAMP, BitsStored=12, WindowCenter=2048, WindowWidth=1024, VOILUTFunction="SIGMOID")
    curve = 4095 / (1 + np.exp(-4 * (RAMP.astype(float) - 2048) / 1024))
    assert np.abs(read(path) - curve / 4095 * 255).max() <= 1


@pytest.mark.parametrize(("bits", "kind"), [(8, "u1"), (8, "<u2"), (16, "<u2")])
def test_a_table_for_display(write: Write, bits: int, kind: str) -> None:
    """A table of 4096 entries, also of 8 bits, packed or each in a word of its own."""
    entries = np.rint((2**bits - 1) * (np.arange(4096) / 4095) ** 2).astype(kind)
    path = write(RAMP, BitsStored=12, VOILUTSequence=[make_table(entries, 0, bits)])
    assert np.abs(read(path) - 255 * (RAMP / 4095) ** 2).max() <= 1


def test_a_table_of_the_modality(write: Write) -> None:
    """Stored values before the first entry of the table have that entry's value, and so do those behind the last."""
    entries = np.linspace(0, 65535, 2000).astype("<u2")
    path = write(RAMP, BitsStored=12, ModalityLUTSequence=[make_table(entries, 1000, 16)])
    np.testing.assert_array_equal(read(path), expected(entries[np.clip(RAMP.astype(int) - 1000, 0, 1999)], 0, 65535))


def make_table(entries: NDArray[Any], first: int, bits: int) -> Any:
    table = pydicom.Dataset()
    table.LUTDescriptor = [len(entries), first, bits]
    table["LUTDescriptor"].VR = "US"
    table.LUTData = entries.tobytes()
    table["LUTData"].VR = "OW"
    table.ModalityLUTType = "US"
    return table


def test_the_window_of_the_caller_wins(write: Write) -> None:
    path = write(RAMP, BitsStored=12, WindowCenter=1000, WindowWidth=401)
    np.testing.assert_array_equal(read(path, (0, 4095)), expected(RAMP, 0, 4095))


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_without_a_window_the_stored_bits_count(write: Write, bits: int) -> None:
    values = (RAMP.astype(np.uint32) * (2**bits - 1) // 4095).astype(np.uint16)
    np.testing.assert_array_equal(read(write(values, BitsStored=bits)), expected(values, 0, 2**bits - 1))


def test_eight_bits_stay_as_they_are(write: Write) -> None:
    values = np.arange(100, dtype=np.uint8).reshape(10, 10)
    np.testing.assert_array_equal(read(write(values)), values)


def test_monochrome1_is_inverted(write: Write) -> None:
    path = write(RAMP, BitsStored=12, WindowCenter=1000, WindowWidth=401, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read(path), 255 - expected(RAMP, 799.5, 1199.5))


def test_values_of_the_modality(write: Write) -> None:
    """A window of Hounsfield units on signed values with slope and intercept."""
    stored = np.linspace(-1000, 3000, 4096).astype(np.int16).reshape(64, 64)
    path = write(stored, RescaleSlope=2, RescaleIntercept=-500, WindowCenter=40, WindowWidth=400)
    np.testing.assert_array_equal(read(path), expected(2.0 * stored - 500, 40 - 0.5 - 199.5, 40 - 0.5 + 199.5))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black(write: Write, photometric: str) -> None:
    path = write(
        RAMP, BitsStored=12, PixelPaddingValue=0, PixelPaddingRangeLimit=99, PhotometricInterpretation=photometric
    )
    levels = read(path)
    assert (levels[RAMP < 100] == 0).all()
    assert (levels[(RAMP > 200) & (RAMP < 3900)] > 0).all()


def test_few_gray_levels_are_told(write: Write) -> None:
    with pytest.warns(LowRangeWarning, match=r"window=\(0, 511\)"):
        read(write(RAMP // 8, name="dark.dcm"))
    stored = (RAMP // 8).astype(np.int16) - 100
    with pytest.warns(LowRangeWarning, match=r"few gray levels .* window=\(-100, 411\)"):
        read(write(stored, name="signed.dcm"))


def test_colors_of_eight_bits(write: Write) -> None:
    values = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(open_photo(write(values))), values)


def test_bytes_are_read_as_their_file(write: Write) -> None:
    path = write(RAMP, BitsStored=12)
    for name in ("film.dcm", "shard.tar#IM000001"):
        np.testing.assert_array_equal(np.asarray(decode_photo(path.read_bytes(), name)), np.asarray(open_photo(path)))
    with pytest.raises(InputError, match=r"^shard.tar#IM000002 has 2 frames"):
        decode_photo(write(RAMP, NumberOfFrames=2).read_bytes(), "shard.tar#IM000002")


def test_a_file_without_its_ending(write: Write) -> None:
    path = write(RAMP, BitsStored=12)
    plain = path.rename(path.with_name("IM000001"))
    np.testing.assert_array_equal(read(plain), expected(RAMP, 0, 4095))


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"NumberOfFrames": 2}, "has 2 frames; expected one"),
        ({"Rows": 30000, "Columns": 30000}, "has 30000 x 30000 pixels"),
        ({"Rows": 100}, "cannot be read"),
        ({"syntax": "1.2.840.10008.1.2.4.70"}, r"compressed as JPEG Lossless.*gdcmconv --raw"),
        ({"PhotometricInterpretation": "HSV"}, "colors HSV"),
    ],
    ids=["frames", "size", "truncated", "compression", "colors"],
)
def test_what_is_refused(write: Write, elements: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "syntax" in elements:
        from pydicom.pixels import decoders

        monkeypatch.setattr(decoders.base.Decoder, "is_available", False)
    syntax = elements.pop("syntax", None)
    path = write(RAMP, BitsStored=12, **elements)
    if syntax:
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(path)
    with pytest.raises(InputError, match=message):
        open_photo(path)


def test_a_report_holds_no_image(write: Write) -> None:
    path = write(RAMP)
    dataset = pydicom.dcmread(path)
    for keyword in ("Rows", "Columns", "PixelData"):
        delattr(dataset, keyword)
    dataset.SOPClassUID = pydicom.uid.BasicTextSRStorage
    dataset.save_as(path)
    with pytest.raises(InputError, match="holds no image: it is Basic Text SR"):
        open_photo(path)


def test_a_deflated_file_is_refused_before_it_unpacks(write: Write) -> None:
    path = write(RAMP, syntax="1.2.840.10008.1.2.1.99")
    with pytest.raises(InputError, match=r"could unpack to any size\. Inflate it with dcmconv"):
        open_photo(path)


@pytest.mark.parametrize("content", [b"", b"not DICOM at all" * 40], ids=["empty", "text"])
def test_a_file_without_a_header(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "film.dcm"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"film\.dcm"):
        open_photo(path)


def test_without_pydicom(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(RAMP)
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(MissingRuntimeError, match=r"pip install 'explainable-model\[dicom\]'"):
        open_photo(path)
