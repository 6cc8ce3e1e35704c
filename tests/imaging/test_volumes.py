"""Volumes: reading, turning, resizing; what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from explainable_model import VolumePreprocess
from explainable_model.errors import InputError, MissingRuntimeError
from explainable_model.imaging.montage import cut
from explainable_model.imaging.preprocess import open_photo
from explainable_model.imaging.volumes import Volume, read_volume, resize_volume, turn

nibabel = pytest.importorskip("nibabel", reason="nibabel is missing: pip install 'explainable-model[nifti]'")

VALUES = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)


def write(path: Path, values: NDArray[Any], affine: Any) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "PIR", "SRA", "ILP"])
def test_volumes_are_turned_to_ras_and_back(tmp_path: Path, axes: str) -> None:
    """nibabel itself says what is canonical."""
    orientation = nibabel.orientations.axcodes2ornt(axes)
    affine = nibabel.orientations.inv_ornt_aff(orientation, VALUES.shape) @ np.diag([2, 3, 4, 1])
    path = write(tmp_path / "scan.nii.gz", VALUES, affine)
    image = nibabel.as_closest_canonical(nibabel.load(path))
    volume = read_volume(path)
    assert volume.axes == "".join(nibabel.aff2axcodes(affine))
    np.testing.assert_array_equal(volume.values, image.get_fdata())
    np.testing.assert_allclose(volume.spacing, image.header.get_zooms())
    np.testing.assert_array_equal(volume.to_file_order(volume.values), VALUES)


@pytest.mark.parametrize("size", [(4, 5, 6), (7, 3, 12), (1, 20, 2)])
def test_resizing_is_that_of_torch(size: tuple[int, int, int]) -> None:
    values = np.random.default_rng(0).random((4, 5, 6), np.float32)
    expected = torch.nn.functional.interpolate(torch.from_numpy(values)[None, None], size, mode="trilinear")[0, 0]
    np.testing.assert_allclose(resize_volume(values, size), expected, atol=1e-6)


def test_the_input_of_the_network() -> None:
    volume = Volume(VALUES, (1, 1, 1), "RAS", np.eye(4))
    prepared = VolumePreprocess((4, 5, 6), window=(20, 100), mean=0.5, std=0.25)(volume)
    assert prepared.shape == (1, 1, 4, 5, 6)
    np.testing.assert_allclose(prepared[0, 0], ((VALUES.clip(20, 100) - 20) / 80 - 0.5) / 0.25, rtol=1e-5)


def test_another_orientation_of_the_input() -> None:
    volume = Volume(VALUES, (1, 1, 1), "RAS", np.eye(4))
    prepare = VolumePreprocess((6, 5, 4), orientation="SPL")
    np.testing.assert_array_equal(prepare(volume)[0, 0], VALUES.transpose(2, 1, 0)[:, ::-1, ::-1])
    np.testing.assert_array_equal(prepare.undo(prepare(volume)[0, 0], volume), VALUES)


def test_slices_as_a_radiologist_looks_at_them() -> None:
    """The patient's right, front and head are where x, y and z are largest."""
    values = np.zeros((3, 3, 3))
    values[2, 1, 1], values[1, 2, 1], values[1, 1, 2] = 1, 2, 3  # right, front, head
    np.testing.assert_array_equal(cut(values, 2, 1), [[0, 2, 0], [1, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(cut(values, 1, 1), [[0, 3, 0], [1, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(cut(values, 0, 1), [[0, 3, 0], [2, 0, 0], [0, 0, 0]])


def test_turning_there_and_back() -> None:
    np.testing.assert_array_equal(turn(turn(VALUES, "RAS", "ILP"), "ILP", "RAS"), VALUES)


@pytest.mark.parametrize(
    ("values", "affine", "message"),
    [
        (np.zeros((2, 2, 2, 3), np.float32), np.eye(4), r"shape \(2, 2, 2, 3\); expected three .*slicer\[\.\.\., 0\]"),
        (np.full((2, 2, 2), np.nan, np.float32), np.eye(4), "NaN or infinite"),
        (np.zeros((2, 2, 2), np.complex64), np.eye(4), "expected one real number"),
    ],
    ids=["series", "NaN", "complex"],
)
def test_what_is_refused(tmp_path: Path, values: NDArray[Any], affine: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_volume(write(tmp_path / "scan.nii", values, affine))


@pytest.mark.parametrize("rows", [np.zeros((3, 4)), [[1e9, 1e9, 0, 0], [0, 1e-8, 0, 0], [0, 0, 1, 0]]])
def test_a_flat_affine_is_refused(tmp_path: Path, rows: Any) -> None:
    path = write(tmp_path / "scan.nii", VALUES, np.eye(4))
    content = bytearray(path.read_bytes())
    content[280:328] = np.asarray(rows, "<f4").tobytes()  # the rows of sform
    path.write_bytes(content)
    with pytest.raises(InputError, match="all voxels in one plane"):
        read_volume(path)


def test_a_large_volume_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "scan.nii", VALUES, np.eye(4))
    content = bytearray(path.read_bytes())
    content[42:48] = np.asarray([30000, 30000, 30000], "<i2").tobytes()
    path.write_bytes(content)
    with pytest.raises(InputError, match="30000 x 30000 x 30000 voxels"):
        read_volume(path)


def test_a_volume_is_no_photo(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a volume; explain it in Python: .*VolumePreprocess"):
        open_photo(write(tmp_path / "scan.nii.gz", VALUES, np.eye(4)))


def test_damaged_and_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "scan.nii", VALUES, np.eye(4))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"scan\.nii cannot be read"):
        read_volume(path)
    with pytest.raises(InputError, match="There is no file"):
        read_volume(tmp_path / "none.nii.gz")
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    with pytest.raises(MissingRuntimeError, match=r"explainable-model\[nifti\]"):
        read_volume(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (3, 3)}, "expected .X, Y, Z"),
        ({"size": 8, "orientation": "RAR"}, "expected three letters"),
        ({"size": 8, "window": (5, 5)}, "black < white"),
        ({"size": 8, "std": 0}, "positive"),
    ],
)
def test_wrong_preparations(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VolumePreprocess(**arguments)
