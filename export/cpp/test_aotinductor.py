"""AOTInductor packages in the libtorch kit."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from kits import Kit, compute_softmax
from torch import nn

from explainable_model import ExplainableModel, Preprocess, export
from explainable_model.imaging.preprocess import open_photo

METADATA_KEY = "explainable_model.json"
PREPROCESS = Preprocess((24, 32), resize=30)


class Small(nn.Module):
    """Three channels in, five classes out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(image).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def explainable() -> ExplainableModel:
    return ExplainableModel(Small().eval(), "features")


@pytest.fixture(scope="module")
def package(explainable: ExplainableModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("package") / "small.aoti.pt2"
    return export(explainable, path, torch.rand(1, 3, 24, 32), preprocess=PREPROCESS)


@pytest.fixture
def libtorch(built) -> Kit:
    return built("libtorch")


def test_a_package_gives_eagers_answer(
    libtorch: Kit, package: Path, explainable: ExplainableModel, photos: list[Path], tmp_path: Path
) -> None:
    for photo, class_idx in ((photos[0], 1), (photos[1], 3)):
        found = libtorch.explain(photo, package, "--class", class_idx, "--npy", tmp_path / "cam.npy", "--trusted")
        image = torch.from_numpy(PREPROCESS(open_photo(photo)))
        logits, _, cam = explainable(image, torch.tensor([class_idx]))
        assert found["class_idx"] == class_idx
        assert found["probability"] == pytest.approx(compute_softmax(logits.detach().numpy())[class_idx], abs=1e-5)
        assert np.abs(np.load(tmp_path / "cam.npy") - cam[0].numpy()).max() < 1e-5
        assert cam.max() == 1


def test_a_package_needs_trust(libtorch: Kit, package: Path, photos: list[Path]) -> None:
    assert "may hold machine code, which runs once it is opened" in libtorch.refuses(photos[0], package)


def test_threads_and_refusals(libtorch: Kit, package: Path, photos: list[Path]) -> None:
    libtorch.check("threads", package, *photos)
    libtorch.check("refusals", package)


def test_files_that_are_no_package(libtorch: Kit, package: Path, photos: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "artifact.pt2"
    whole = package.read_bytes()
    program = torch.export.export(nn.ReLU(), (torch.rand(2),))
    torch.export.save(program, tmp_path / "program.pt2")
    for content in (b"", b"this is no package", whole[: len(whole) // 2], (tmp_path / "program.pt2").read_bytes()):
        path.write_bytes(content)
        assert "cannot be loaded as an AOTInductor package" in libtorch.refuses(photos[0], path, "--trusted")
    assert "was not exported by explainable_model" in libtorch.refuses(
        photos[0], relabel(package, path, None), "--trusted"
    )
    newer = relabel(package, path, '{"schema_version": 99}')
    assert "is of schema 99, this program reads up to 1" in libtorch.refuses(photos[0], newer, "--trusted")


def relabel(package: Path, path: Path, record: str | None) -> Path:
    """Copy the package with other metadata, or without any."""
    with zipfile.ZipFile(package) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("_metadata.json"):
                labels = json.loads(content)
                del labels[METADATA_KEY]
                labels |= {} if record is None else {METADATA_KEY: record}
                content = json.dumps(labels).encode()
            target.writestr(name, content)
    return path
