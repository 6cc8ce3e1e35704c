"""Where the program may write, and what it does with artifacts that lie."""

import os
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from kits import Kit
from PIL import Image
from siege import besiege, list_graphs, make_artifacts, run
from torch import nn

from explainable_model import ExplainableModel, Preprocess, export


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    path = tmp_path_factory.mktemp("small") / "net.onnx"
    return export(ExplainableModel(network.eval(), "1"), path, torch.randn(1, 3, 8, 8), preprocess=Preprocess((8, 8)))


@pytest.mark.parametrize("option", ["-o", "--npy"])
def test_what_is_no_file_is_refused(
    option: str, quick_kit: Kit, small: Path, photos: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "FIFO")
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "precious").chmod(0o444)
    (tmp_path / "link").symlink_to("FIFO")
    (tmp_path / "loop").symlink_to("loop")
    reasons = {
        "directory": "it is a directory", "FIFO": "it is a FIFO", "link": "it is a FIFO",
        "precious": "the file is read-only", "loop": "Too many levels of symbolic links",
        "none/a.png": "No such file or directory", "n" * 300: "File name too long",
    }  # fmt: skip
    if os.geteuid() == 0:
        os.mknod(tmp_path / "device", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        reasons["device"] = "it is a device"
    before = sorted(os.listdir(tmp_path))
    for name, reason in reasons.items():
        assert f"cannot be written: {reason}." in quick_kit.refuses(photos[0], small, option, tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == before
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert stat.S_ISFIFO((tmp_path / "FIFO").stat().st_mode)


def test_links_are_followed_and_mode_and_owner_stay(
    quick_kit: Kit, small: Path, photos: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "overlay.png").symlink_to("store/a.png")
    for _ in range(2):
        quick_kit.explain(photos[0], small, "-o", tmp_path / "overlay.png", "--npy", tmp_path / "cam.npy")
    real = tmp_path / "store" / "a.png"
    real.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(real, 12345, 54321)
    before = real.stat()
    real.write_bytes(b"old")
    quick_kit.explain(photos[0], small, "-o", tmp_path / "overlay.png")
    after = real.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    with Image.open(real) as drawn, Image.open(photos[0]) as photo:
        assert drawn.size == photo.size
    assert (tmp_path / "overlay.png").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["cam.npy", "overlay.png", "store"]
    assert os.listdir(tmp_path / "store") == ["a.png"]
    assert np.load(tmp_path / "cam.npy").shape == (8, 8)


def test_a_graph_that_its_record_does_not_describe_is_refused(
    quick_kit: Kit, photos: list[Path], tmp_path: Path
) -> None:
    Image.open(photos[0]).resize((40, 30)).save(tmp_path / "photo.png")
    graphs = list(list_graphs(next(make_artifacts(tmp_path))))
    total = {"answered": 0, "refused": 0, "failed": 0, "crashes": 0, "messages": []}
    assert run(quick_kit.build / "siege", tmp_path, graphs, total) == len(graphs)
    # No lies are the artifact itself, its classes as int64, which they are, or flat, and larger logits and maps.
    assert total == {"answered": 5, "refused": len(graphs) - 5, "failed": 0, "crashes": 0, "messages": []}


def test_artifacts_that_lie_are_explained_or_refused(quick_kit: Kit) -> None:
    figures = besiege(quick_kit.build / "siege", 400, seed=0)
    assert (figures["failed"], figures["crashes"], figures["messages"]) == (0, 0, [])
    assert figures["answered"] > 10
    assert figures["refused"] > 200
