"""AOTInductor packages: compiled once, a middle layer, against the eager network; and what is refused."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from explainable_model import ExplainableModel, Preprocess, export, load, read_metadata
from explainable_model.artifact.metadata import METADATA_KEY
from explainable_model.artifact.tolerances import TOLERANCES
from explainable_model.errors import ArtifactError, InputError, MissingRuntimeError
from explainable_model.lowering.capture.export import quiet_export
from tests.support.nets import SmallNet, images, seeded

SIZE = (3, 16, 16)
pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None and not os.environ.get("CI"), reason="needs a C++ compiler, which CI must have"
)


@pytest.fixture(scope="module")
def explainable() -> ExplainableModel:
    return ExplainableModel(seeded(SmallNet()), "stem")


@pytest.fixture(scope="module")
def package(explainable: ExplainableModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("package") / "net.aoti.pt2"
    export(explainable, path, images(1, SIZE), preprocess=Preprocess(size=(16, 16)))
    assert [p.name for p in path.parent.iterdir()] == ["net.aoti.pt2"]
    return path


def test_a_package_equals_eager_at_every_batch_size(package: Path, explainable: ExplainableModel) -> None:
    session = load(package, threads=1, trusted=True)
    for batch in (1, 2, 7, 16):
        image, asked = images(batch, SIZE, seed=batch), torch.arange(batch) % 4 - 1
        for class_idx in (None, asked):
            want, got = explainable(image, class_idx), session(image, class_idx)
            assert np.array_equal(got.class_idx, want.class_idx)
            assert np.abs(got.logits - want.logits.numpy()).max() < 1e-4 * want.logits.abs().max()
            assert np.abs(got.cam - want.cam.numpy()).max() < TOLERANCES["float32"].cam
            assert want.cam.max() > 0.5, "a map of zeros would prove nothing"


def test_it_says_what_it_is_without_being_run(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(package, trusted=True).metadata
    monkeypatch.delattr("torch._inductor.aoti_load_package")
    metadata = read_metadata(package)
    assert metadata == loaded
    assert (metadata.format, metadata.target_layer) == ("aotinductor", "stem")
    assert metadata.preprocess == Preprocess(size=(16, 16))


def test_inputs_are_checked_by_us(package: Path) -> None:
    session, image = load(package, trusted=True), images(2, SIZE).numpy()
    for wrong, message in (
        (image[:, :, :8], r"expects \(N, 3, 16, 16\)"),
        (image.astype(np.float64), "image is float64"),
        (image * np.nan, "NaN"),
    ):
        with pytest.raises(InputError, match=message):
            session(wrong)
    with pytest.raises(InputError, match="class_idx 5 is out of range"):
        session(image, np.array([0, 5]))


def test_files_that_are_no_package(package: Path, tmp_path: Path) -> None:
    path, whole = tmp_path / "net.aoti.pt2", package.read_bytes()
    for content in (b"", b"this is no package", whole[: len(whole) // 2]):
        path.write_bytes(content)
        for function in (load, read_metadata):
            with pytest.raises(ArtifactError, match="damaged or not an (AOTInductor package|archive of this format)"):
                function(path)
    with quiet_export():
        torch.export.save(torch.export.export(seeded(SmallNet()), (images(2, SIZE),)), path)
    with pytest.raises(ArtifactError, match="was not exported by explainable_model"):
        load(path, trusted=True)
    with zipfile.ZipFile(package) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            if name.endswith("_metadata.json"):
                target.writestr(name, json.dumps({METADATA_KEY: json.loads(source.read(name))[METADATA_KEY]}))
    with pytest.raises(ArtifactError, match="cannot be loaded.*export it again here"):
        load(path, trusted=True)


def test_a_missing_compiler_is_named(tmp_path: Path) -> None:
    from torch._inductor import config

    missing = config.patch({"cpp.cxx": (None, "/nonexistent/g++")})  # monkeypatch leaves the option hidden
    with missing, pytest.raises(MissingRuntimeError, match="needs a C.. compiler.*apt-get install"):
        export(ExplainableModel(seeded(SmallNet()), "block"), tmp_path / "net.aoti.pt2", images(1, SIZE))
    assert list(tmp_path.iterdir()) == []
