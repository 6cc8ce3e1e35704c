"""What the tests of the kits share: tools that CI must have, artifacts of the kits' recipes, eager's answers."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # the same with and without a GPU
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch

from explainable_model import ExplainableModel, Explanation
from explainable_model.demo import demo_photos, efficientnet_lite0
from explainable_model.imaging.preprocess import open_photo
from explainable_model.networks.named import NamedModel

EXPORT = Path(__file__).parent


@pytest.fixture(scope="session")
def need() -> Callable[..., None]:
    """Skips where a program is not installed; in CI that is a failure."""

    def check(*programs: str) -> None:
        missing = [program for program in programs if shutil.which(program) is None]
        if missing and os.environ.get("CI"):
            pytest.fail(f"{', '.join(missing)} must be installed in CI")
        if missing:
            pytest.skip(f"{', '.join(missing)} not installed")

    return check


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """``artifact(kit, suffix)``: what the kit's recipe makes, once."""
    made: dict[str, Path] = {}

    def make(kit: str, suffix: str) -> Path:
        if kit not in made:
            made[kit] = tmp_path_factory.mktemp(kit) / f"efficientnet_lite0{suffix}"
            recipe = EXPORT / kit / "recipe.py"
            environment = {**os.environ, "PYTHONPATH": str(EXPORT.parent)}  # this copy, whatever is installed
            subprocess.run([sys.executable, recipe, made[kit]], check=True, env=environment)
        return made[kit]

    return make


@pytest.fixture(scope="session")
def photos() -> list[Path]:
    return demo_photos()[:2]  # in colour


@pytest.fixture(scope="session")
def network() -> NamedModel:
    return efficientnet_lite0()


@pytest.fixture(scope="session")
def eager(network: NamedModel) -> Callable[..., Explanation[np.ndarray]]:
    """``eager(photo, class_idx=-1)``: the answer of the network with autograd."""
    explainable = ExplainableModel(network.model, "bn2")
    torch.set_num_threads(1)

    def explain(photo: Path, class_idx: int = -1) -> Explanation[np.ndarray]:
        image = torch.from_numpy(network.preprocess(open_photo(photo)))
        return Explanation(*(part.detach().numpy() for part in explainable(image, torch.tensor([class_idx]))))

    return explain
