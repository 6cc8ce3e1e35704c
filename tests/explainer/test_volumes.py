"""Volumes explained: a network of three dimensions finds a known blob, and the map lies on the voxels of the file."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import explainable_model as xm
from explainable_model.errors import InputError
from explainable_model.imaging.volumes import turn

nibabel = pytest.importorskip("nibabel", reason="nibabel is missing: pip install 'explainable-model[nifti]'")

SHAPE = (36, 30, 24)
BLOB = (9, 20, 15)  # voxel of the file
AFFINE = np.array([[-2.0, 0, 0, 80], [0, 2, 0, -60], [0, 0, 3, -30], [0, 0, 0, 1]])  # LAS
PREPARE = xm.VolumePreprocess((32, 32, 32), window=(0, 2))


@pytest.fixture
def network() -> nn.Module:
    """Answers "blob" where a smoothed value is large: its weights are set by hand."""
    network = nn.Sequential(
        nn.Conv3d(1, 2, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool3d(4),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(2, 2),
    ).eval()
    with torch.no_grad():
        network[0].weight.copy_(torch.full((2, 1, 5, 5, 5), 1 / 125))
        network[0].weight[1].neg_()
        network[0].bias.copy_(torch.tensor([-0.2, 0.2]))
        network[5].weight.copy_(torch.tensor([[-1.0, 1.0], [40.0, -1.0]]))
        network[5].bias.zero_()
    return network


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A generated volume with one bright blob."""
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    distance = np.linalg.norm((grid - BLOB) * np.abs(np.diag(AFFINE)[:3]), axis=-1)
    values = 2 * np.exp(-((distance / 8) ** 2)) + 0.1 * np.random.default_rng(0).random(SHAPE)
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), AFFINE), path)
    return path


def explain(scan: Path, network: nn.Module) -> xm.VolumeExplanation:
    answer = xm.explain(scan, network, preprocess=PREPARE, target_layer="1", class_names=["nothing", "blob"])
    assert isinstance(answer, xm.VolumeExplanation)
    return answer


def test_the_blob_is_found(scan: Path, network: nn.Module) -> None:
    answer = explain(scan, network)
    assert answer.class_name == "blob"
    assert answer.cam.shape == SHAPE
    assert np.abs(np.subtract(answer.hottest, BLOB)).max() <= 1
    assert np.linalg.norm(answer.hottest_mm - (AFFINE @ (*BLOB, 1))[:3]) <= 4
    assert "scan.nii.gz: blob" in repr(answer)
    assert answer.to_dict()["class_name"] == "blob"


def test_the_map_in_nifti_lies_on_the_scan(scan: Path, network: nn.Module, tmp_path: Path) -> None:
    answer = explain(scan, network)
    for name in ("map.nii", "map.nii.gz"):
        image = nibabel.load(answer.save(tmp_path / name))
        np.testing.assert_array_equal(image.affine, AFFINE)
        np.testing.assert_array_equal(image.get_fdata(dtype=np.float32), answer.cam)


def test_the_axes_of_the_file_do_not_matter(scan: Path, network: nn.Module, tmp_path: Path) -> None:
    """The same scan with other axes: the same answer at the same place of the patient."""
    image = nibabel.load(scan)
    other = tmp_path / "other.nii"
    to = nibabel.orientations.axcodes2ornt("PIR")
    turned = image.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(AFFINE), to))
    nibabel.save(turned, other)
    first, second = explain(scan, network), explain(other, network)
    np.testing.assert_allclose(second.logits, first.logits, rtol=1e-5)
    np.testing.assert_allclose(second.hottest_mm, first.hottest_mm, atol=1e-4)
    np.testing.assert_allclose(second.values, first.values, atol=1e-5)


def test_one_place_of_a_plateau(scan: Path, network: nn.Module) -> None:
    """Where many voxels share the largest value, the axes of the file do not choose among them."""
    answer = explain(scan, network)
    flat = replace(answer, values=(answer.values > 0.5).astype(np.float32))
    assert flat.values.sum() > 1
    places = [np.argwhere(flat.values)[0]]
    for axes in ("RAS", "LPI", "PIR"):
        turned = replace(flat, volume=replace(flat.volume, axes=axes))
        marked = np.zeros(turned.cam.shape, bool)
        marked[turned.hottest] = True
        places.append(np.argwhere(turn(marked, axes, "RAS"))[0])
    assert len({tuple(place) for place in places}) == 1


def test_the_montage(scan: Path, network: nn.Module, tmp_path: Path) -> None:
    answer = explain(scan, network)
    with Image.open(answer.save(tmp_path / "slices.png", slices=3)) as picture:
        assert picture.width > 3 * 224
    assert answer._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="takes no style"):
        answer.save(tmp_path / "map.nii", alpha=0.3)


def test_arrays_series_and_classes(network: nn.Module) -> None:
    values = np.random.default_rng(1).random((8, 9, 10)).astype(np.float32)
    first, second = xm.explain([values, torch.from_numpy(values)], network, 0, preprocess=PREPARE, target_layer="1")
    assert first.cam.shape == values.shape
    np.testing.assert_array_equal(first.cam, second.cam)
    assert (first.class_idx, second.name) == (0, "volume 2")


def test_an_artifact_explains_volumes(scan: Path, network: nn.Module, tmp_path: Path) -> None:
    explainable = xm.ExplainableModel(network, "1")
    xm.export(explainable, tmp_path / "volumes.onnx", torch.rand(1, 1, 32, 32, 32))
    answer = xm.explain(scan, tmp_path / "volumes.onnx", preprocess=PREPARE, class_names=["nothing", "blob"])
    expected = xm.explain(scan, explainable, preprocess=PREPARE, class_names=["nothing", "blob"])
    assert answer.label == expected.label
    np.testing.assert_allclose(answer.cam, expected.cam, atol=1e-4)


def test_an_artifact_without_upsampling_has_the_map_of_the_network(
    scan: Path, network: nn.Module, tmp_path: Path
) -> None:
    artifact = tmp_path / "volumes.onnx"
    xm.export(xm.ExplainableModel(network, "1", upsample="none"), artifact, torch.rand(1, 1, 32, 32, 32))
    answer = xm.explain(scan, artifact, preprocess=PREPARE)
    np.testing.assert_allclose(answer.cam, explain(scan, network).cam, atol=1e-5)


def test_what_is_refused(scan: Path, network: nn.Module) -> None:
    with pytest.raises(InputError, match=r"scan\.nii\.gz is a volume; .*preprocess=VolumePreprocess"):
        xm.explain(scan, network, preprocess=32)
    with pytest.raises(InputError, match="expected one for a volume"):
        xm.explain(scan, network, [0, 1], preprocess=PREPARE)
    with pytest.raises(InputError, match=r"Leave out window: a volume's window is VolumePreprocess"):
        xm.explain(scan, network, preprocess=PREPARE, window=(0, 1))
    flat = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    with pytest.raises(ValueError, match="Conv2d|4D|shape"):
        xm.explain(scan, flat, preprocess=PREPARE)
