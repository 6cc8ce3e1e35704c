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

from explainable_model import ExplainableModel, Explanation
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
