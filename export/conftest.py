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
from cells import NAMES, Cells, draw_squares, find_candidates

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


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    """A photo of 192 x 96 pixels with three squares of 32, which are cells of ``Cells`` in a letterbox."""
    draw_squares().save(tmp_path / "squares.png")
    return tmp_path / "squares.png"


@pytest.fixture
def cells(squares: Path, tmp_path: Path) -> Callable[..., Path]:
    """``cells(suffix, pad=None)``: an artifact of ``Cells`` that finds three boxes of four ranks."""

    def make(suffix: str, pad: float | None = None) -> Path:
        preprocess = Preprocess((64, 96), mean=(0.0,) * 3, std=(1.0,) * 3, resize=None, pad=pad)
        image = torch.from_numpy(preprocess(open_photo(squares)))
        explainable = ExplainableModel(
            Cells().eval(), "colors", task="detection", candidates=find_candidates, method="hirescam", top_k=3,
            max_boxes=4,
        )  # fmt: skip
        return export(
            explainable, tmp_path / f"cells{suffix}", image, preprocess=preprocess, class_names=NAMES, reference=image
        )

    return make
