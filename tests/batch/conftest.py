"""A small artifact whose maps have layer resolution, the same with maps of image size, a detector, and photos."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import explainable_model as xm
from tests.batch.box_photos import GREEN, draw_squares, export_cells
from tests.support.cli_nets import CLASS_NAMES, PREPROCESS
from tests.support.nets import TinyResNet, seeded

PHOTOS = 7
BEFORE = Path(__file__).parents[1] / "data" / "before.onnx"


def export_net(path: Path, seed: int = 0, **options: object) -> Path:
    """The small network as an artifact of classes with names."""
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    explainable = xm.ExplainableModel(seeded(TinyResNet(len(CLASS_NAMES)), seed), "layer2", **options)
    return xm.export(explainable, path, image, preprocess=PREPROCESS, class_names=CLASS_NAMES)


def save_photo(path: Path, number: int) -> Path:
    """A photo of its own size, with coarse structure."""
    rng = np.random.default_rng(number)
    noise = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    noise.resize((64 + 4 * number, 48), Image.Resampling.BILINEAR).save(path)
    return path


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_net(tmp_path_factory.mktemp("artifact") / "small.onnx", upsample="none")


@pytest.fixture(scope="session")
def quick() -> Path:
    """An artifact that need not be exported first; its three classes are a, b and c."""
    return BEFORE


@pytest.fixture(scope="session")
def resized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_net(tmp_path_factory.mktemp("resized") / "resized.onnx")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two folders of photos, one of which is truncated; no test may change it."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    for number in range(PHOTOS):
        save_photo(folder / ("cats" if number < 4 else "dogs") / f"{number}.png", number)
    whole = (folder / "cats" / "1.png").read_bytes()
    (folder / "cats" / "broken.png").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture(scope="session")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_cells(tmp_path_factory.mktemp("detector") / "cells.onnx")


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of three squares, of none, of one in a tall photo, a broken one, and a copy of the first."""
    folder = tmp_path_factory.mktemp("squares")
    first = draw_squares(folder / "0-three.png")
    draw_squares(folder / "1-none.png", ())
    draw_squares(folder / "2-tall.png", [((16, 32), GREEN)], (96, 128))
    (folder / "3-broken.png").write_bytes(first.read_bytes()[:60])
    shutil.copy(first, folder / "4-copy.png")
    return folder
