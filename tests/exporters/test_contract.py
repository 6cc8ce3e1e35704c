"""What every format promises, over the whole table: write, load, answer, metadata, and errors for wrong files."""

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from explainable_model import ExplainableModel, export, load, read_metadata
from explainable_model.artifact.checksum import UNWRITTEN
from explainable_model.errors import ArtifactError, InputError
from explainable_model.exporters import FORMATS, format_by_suffix, format_of
from explainable_model.exporters.format import Format
from tests.support.nets import images, seeded

SHAPE = (3, 16, 16)
BATCH = 2
CLASS_NAMES = ["cat", "dog", "bird"]


@pytest.fixture(scope="module")
def explainable() -> ExplainableModel:
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 3)
    return ExplainableModel(seeded(nn.Sequential(*layers)), "2")


@pytest.fixture(scope="module", params=FORMATS.values(), ids=list(FORMATS))
def fmt(request: pytest.FixtureRequest) -> Format:
    """A format whose packages are installed. A missing one skips, but fails where CI must have it."""
    row: Format = request.param
    missing = [package for package in row.packages if find_spec(package) is None]
    if missing == ["litert_torch"]:
        pytest.skip("litert_torch has an environment of its own")
    if row.name == "aotinductor" and not (os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")):
        missing.append("a C++ compiler")
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"{row.name} needs {', '.join(missing)}")
    if missing:
        pytest.skip(f"{row.name} needs {', '.join(missing)}")
    return row


@pytest.fixture(scope="module")
def artifact(fmt: Format, explainable: ExplainableModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(fmt.name) / f"net{fmt.suffixes[0]}"
    return export(explainable, path, images(BATCH, SHAPE), class_names=CLASS_NAMES)


def test_the_row_describes_a_format(fmt: Format) -> None:
    assert FORMATS[fmt.name] is fmt
    for suffix in fmt.suffixes:
        assert format_of(f"some.net{suffix}") is fmt
        assert format_by_suffix(f"SOME{suffix.upper()}") is fmt
    assert (fmt.extra is None) is (fmt.packages == ("torch",))


def test_other_images_and_another_batch_size(fmt: Format, artifact: Path, explainable: ExplainableModel) -> None:
    session = load(artifact, threads=1, trusted=True)
    for batch in [BATCH] if fmt.fixed_size else [1, BATCH, 5]:
        image = images(batch, SHAPE, seed=30 + batch)
        want = explainable(image)
        got = session(image.numpy())
        assert got.class_idx.tolist() == want.class_idx.tolist()
        assert want.cam.amax((1, 2)).min() > 0.5, "a map of zeros would prove nothing"
        for name in ("logits", "cam"):
            array, tensor = getattr(got, name), getattr(want, name)
            assert array.dtype == np.float32
            assert np.abs(array - tensor.numpy()).max() < 1e-4, name
        chosen = torch.arange(batch) % len(CLASS_NAMES)
        got, want = session(image.numpy(), chosen.numpy()), explainable(image, chosen)
        assert got.class_idx.tolist() == chosen.tolist()
        assert np.abs(got.cam - want.cam.numpy()).max() < 1e-4
    if fmt.fixed_size:
        with pytest.raises(InputError, match=rf"expects \({BATCH}, 3, 16, 16\)"):
            session(images(BATCH + 1, SHAPE).numpy())


def test_metadata(fmt: Format, artifact: Path) -> None:
    metadata = read_metadata(artifact)
    assert metadata == load(artifact, trusted=True).metadata
    assert (metadata.format, metadata.method, metadata.target_layers) == (fmt.name, "gradcam", ["2"])
    assert metadata.image_shape == [BATCH if fmt.fixed_size else None, *SHAPE]
    assert metadata.class_names == CLASS_NAMES
    assert set(fmt.packages) <= set(metadata.versions)
    assert metadata.reference is not None


def test_wrong_files(fmt: Format, artifact: Path, tmp_path: Path) -> None:
    for file in artifact.parent.iterdir():
        shutil.copy(file, tmp_path)
    path, whole = tmp_path / artifact.name, artifact.read_bytes()
    for content in (b"", b"not an artifact", whole[: len(whole) // 2], whole[:-40]):
        path.write_bytes(content)
        for read in (load, read_metadata):
            with pytest.raises(ArtifactError, match=r"damaged|cannot be loaded|not exported by explainable_model"):
                read(path)
    path.unlink()
    with pytest.raises(ArtifactError, match="There is no artifact"):
        load(path, trusted=True)


def test_the_checksum_covers_every_byte(fmt: Format, artifact: Path, tmp_path: Path) -> None:
    for file in artifact.parent.iterdir():
        shutil.copy(file, tmp_path)
    path = tmp_path / artifact.name
    checksum = load(path, check=True, trusted=fmt.machine_code).metadata.checksum
    assert checksum is not None
    assert checksum != UNWRITTEN
    for file in tmp_path.iterdir():
        whole = file.read_bytes()
        for at in (*range(0, len(whole), len(whole) // 25), len(whole) - 1):
            file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(ArtifactError):  # the structure or the record is damaged, or the checksum is another
                load(path, check=True, trusted=fmt.machine_code)
        file.write_bytes(whole)
    load(path, check=True, trusted=fmt.machine_code)


def test_precisions_of_the_table(fmt: Format, explainable: ExplainableModel, tmp_path: Path) -> None:
    path = tmp_path / f"net{fmt.suffixes[0]}"
    if fmt.precisions:
        assert read_metadata(export(explainable, path, images(1, SHAPE), precision="float16")).precision == "float16"
    else:
        with pytest.raises(InputError, match=rf"format {fmt.name} is written in the network's own precision only"):
            export(explainable, path, images(1, SHAPE), precision="float16")
