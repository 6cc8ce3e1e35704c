"""Fixtures of the kits' tests: programs that CI must have, the kits' artifacts, and the eager network's answers."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # the tests give the same answers with and without a GPU
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from explainable_model import ExplainableModel, Explanation, Preprocess, export
from explainable_model.demo import demo_photos, efficientnet_lite0
from explainable_model.imaging.preprocess import open_photo

EXPORT = Path(__file__).parent


@pytest.fixture(scope="session")
def need() -> Callable[..., None]:
    """``need(*programs)`` skips the test where a program is not installed; in CI the test fails."""

    def check(*programs: str) -> None:
        missing = [program for program in programs if shutil.which(program) is None]
        if missing and os.environ.get("CI"):
            pytest.fail(f"{', '.join(missing)} must be installed in CI")
        if missing:
            pytest.skip(f"{', '.join(missing)} not installed")

    return check


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """``artifact(kit, suffix)``: the artifact that the kit's ``make.py`` writes, made once."""
    made: dict[str, Path] = {}

    def make(kit: str, suffix: str) -> Path:
        if kit not in made:
            made[kit] = tmp_path_factory.mktemp(kit) / f"efficientnet_lite0{suffix}"
            environment = {**os.environ, "PYTHONPATH": str(EXPORT.parent)}  # this copy, also where another is installed
            subprocess.run([sys.executable, EXPORT / kit / "make.py", made[kit]], check=True, env=environment)
        return made[kit]

    return make


@pytest.fixture(scope="session")
def photos() -> list[Path]:
    """The demo's two color photos."""
    return demo_photos()[:2]


@pytest.fixture(scope="session")
def network() -> Any:
    """The demo's network, with its preprocessing and class names."""
    return efficientnet_lite0()


@pytest.fixture(scope="session")
def eager(network: Any) -> Callable[..., Explanation[np.ndarray]]:
    """``eager(photo, class_idx=-1)``: the eager network's answer, explained with autograd."""
    explainable = ExplainableModel(network.model, "bn2")
    torch.set_num_threads(1)

    def explain(photo: Path, class_idx: int = -1) -> Explanation[np.ndarray]:
        image = torch.from_numpy(network.preprocess(open_photo(photo)))
        return Explanation(*(part.detach().numpy() for part in explainable(image, torch.tensor([class_idx]))))

    return explain


class Cells(nn.Module):
    """Finds red and green squares of 16 pixels in a grid of an image of 64 x 96."""

    def __init__(self) -> None:
        super().__init__()
        self.colors = nn.Conv2d(3, 2, 1, bias=False)
        weights = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]])
        self.colors.weight = nn.Parameter(weights.reshape(2, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(self.colors(image).relu(), 16)

    @staticmethod
    def find_candidates(network: nn.Module, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, boxes and labels of all cells."""
        scores, labels = (8 * network(image) - 4).flatten(2).max(1)
        rows, columns = torch.meshgrid(torch.arange(4) * 16.0, torch.arange(6) * 16.0, indexing="ij")
        boxes = torch.stack([columns, rows, columns + 16, rows + 16], -1).reshape(1, -1, 4)
        return scores, boxes.expand(image.shape[0], -1, -1), labels


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    """A photo of 192 x 96 pixels with three squares of 32, which are cells of ``Cells`` in a letterbox."""
    photo = Image.new("RGB", (192, 96), (90, 90, 90))
    for corner, color in {(32, 16): (230, 25, 0), (96, 48): (30, 220, 0), (128, 16): (15, 235, 0)}.items():
        photo.paste(color, (*corner, corner[0] + 32, corner[1] + 32))
    photo.save(tmp_path / "squares.png")
    return tmp_path / "squares.png"


@pytest.fixture
def cells(squares: Path, tmp_path: Path) -> Callable[..., Path]:
    """``cells(suffix, pad=None)``: an artifact of ``Cells`` that finds three boxes of four ranks."""

    def make(suffix: str, pad: float | None = None) -> Path:
        preprocess = Preprocess((64, 96), mean=(0.0,) * 3, std=(1.0,) * 3, resize=None, pad=pad)
        image = torch.from_numpy(preprocess(open_photo(squares)))
        explainable = ExplainableModel(
            Cells().eval(), "colors", task="detection", candidates=Cells.find_candidates, method="hirescam", top_k=3,
            max_boxes=4,
        )  # fmt: skip
        names = ["red", "green"]
        return export(
            explainable, tmp_path / f"cells{suffix}", image, preprocess=preprocess, class_names=names, reference=image
        )

    return make
