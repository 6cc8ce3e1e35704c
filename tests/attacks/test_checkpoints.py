"""Checkpoints and arrays that hold whole Python objects: none is unpickled."""

import io
import pickle
import re
import shlex
import subprocess
import sys
import zipfile
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from explainable_model import ExplainableModel
from explainable_model.errors import ExplainableModelError, ModelError
from explainable_model.networks.checkpoint import load_checkpoint, read_state_dict
from tests.support.hostile import Payload


@pytest.mark.parametrize("modern", [True, False])
@pytest.mark.parametrize("name", ["net.pth", "net.pt", "net.ckpt"])
def test_a_checkpoint_that_is_a_pickle(tmp_path: Path, name: str, modern: bool) -> None:
    marker, path = tmp_path / "it-ran", tmp_path / name
    torch.save({"state_dict": {"weight": Payload(marker)}}, path, _use_new_zipfile_serialization=modern)
    with pytest.raises(ModelError, match=f"{name} cannot be read as tensors alone"):
        read_state_dict(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists(), "the attack is none"


def test_a_plain_pickle(tmp_path: Path) -> None:
    marker = tmp_path / "it-ran"
    for name in ("net.pth", "net.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Payload(marker)))
        with pytest.raises(ModelError, match=name):
            read_state_dict(tmp_path / name)
    assert not marker.exists()


def test_a_checkpoint_of_lightning_is_refused_with_the_command_that_extracts_the_weights(tmp_path: Path) -> None:
    network, path = nn.Linear(3, 2), tmp_path / "last epoch.ckpt"
    content = {f"model.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": content, "hyper_parameters": Namespace(lr=0.1), "epoch": 3}, path)
    with pytest.raises(ModelError, match=r"such as argparse\.Namespace") as caught:
        load_checkpoint(nn.Linear(3, 2), path)
    command = shlex.split(str(caught.value)[str(caught.value).index("python -c") :])
    subprocess.run([sys.executable, *command[1:]], check=True)
    other = nn.Linear(3, 2)
    load_checkpoint(other, tmp_path / "last epoch.weights.pth")
    assert torch.equal(other.weight, network.weight)


def test_arrays_of_objects(tmp_path: Path) -> None:
    """Arrays come from the caller, as arrays: a path to pickled arrays is no photo."""
    marker = tmp_path / "it-ran"
    np.save(tmp_path / "images.npy", np.array([Payload(marker)], dtype=object), allow_pickle=True)
    buffer = io.BytesIO()
    np.save(buffer, np.array([Payload(marker)], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "images.npz", "w") as archive:
        archive.writestr("images.npy", buffer.getvalue())
    explainable = ExplainableModel(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval(), "0")
    for name in ("images.npy", "images.npz"):
        with pytest.raises((ExplainableModelError, ValueError, TypeError)):
            explainable(str(tmp_path / name))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="allow_pickle"):
            np.load(tmp_path / name)["images" if name.endswith("z") else 0]
    assert not marker.exists()


def test_no_code_of_the_project_unpickles() -> None:
    """Every reader of pickles in the library and the kits says that it reads data alone."""
    root = Path(__file__).parents[2]
    for folder in ("explainable_model", "export", "benchmarks"):
        for path in (root / folder).rglob("*.py"):
            text = path.read_text()
            assert not re.search(r"allow_pickle\s*=\s*True|\bpickle\.loads?\(|\bUnpickler\b|joblib", text), path
            for call in re.findall(r"(?<!\()torch\.load\((.*)\)", text):
                assert "weights_only=True" in call or "{source}" in call, f"{path}: torch.load({call})"
