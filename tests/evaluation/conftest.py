"""Photos with masks, a small network and its artifact."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import explainable_model as xm
from explainable_model.networks.named import NamedModel
from tests.support import cli_nets


def run_without_torch(code: str) -> "subprocess.CompletedProcess[str]":
    """Run code that evaluates, in a process that has no PyTorch."""
    script = f"import sys; sys.modules['torch'] = None\nfrom explainable_model.evaluation import evaluate\n{code}"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six photos with bright squares, their masks, and a file that is no photo."""
    made = tmp_path_factory.mktemp("photos")
    (made / "masks").mkdir()
    for number in range(6):
        rng = np.random.default_rng(number)
        pixels = rng.integers(0, 90, (48, 64, 3), dtype=np.uint8)
        mask = np.zeros((48, 64), np.uint8)
        row, column = rng.integers(10, 20, 2)
        mask[row : row + 14, column + 8 : column + 22] = 255
        pixels[mask > 0] = rng.integers(150, 255, 3)
        Image.fromarray(pixels).save(made / f"photo{number}.png")
        Image.fromarray(mask).save(made / "masks" / f"photo{number}.png")
    return made


@pytest.fixture(scope="package")
def photos(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.png"))


@pytest.fixture(scope="package")
def named() -> NamedModel:
    return cli_nets.named()


@pytest.fixture(scope="package")
def artifact(named: NamedModel, folder: Path) -> Path:
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    explainable = xm.ExplainableModel(named.model, "layer2", upsample="bicubic")
    return xm.export(explainable, folder / "net.onnx", image, preprocess=named.preprocess)
