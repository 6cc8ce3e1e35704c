"""An artifact of two files in the ONNX Runtime kit: halves of two exports are refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from kits import Kit
from torch import nn

from explainable_model import ExplainableModel, Preprocess, export, read_metadata


def export_in_two(folder: Path, seed: int) -> Path:
    """Export a network whose weights lie beside the graph, as those of 2 GiB do."""
    folder.mkdir()
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 300)
    ).eval()
    image = torch.rand(1, 3, 24, 32)
    return export(ExplainableModel(network, "0"), folder / "net.onnx", image, preprocess=Preprocess((24, 32)))


def test_halves_of_two_exports(
    quick_kit: Kit, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("explainable_model.exporters.onnx.PROTOBUF_LIMIT", 0)
    old, new = export_in_two(tmp_path / "old", 0), export_in_two(tmp_path / "new", 1)
    assert quick_kit.explain(photos[0], new)["class_idx"] >= 0
    shutil.copy(tmp_path / "old" / "net.onnx.data", tmp_path / "new")
    message = quick_kit.refuses(photos[0], new)
    assert "net.onnx, or net.onnx.data beside it, is damaged, or was changed after the export" in message
    assert f"recorded is {read_metadata(new).checksum}. Export it again." in message
    assert quick_kit.explain(photos[0], old)["class_idx"] >= 0


@pytest.mark.parametrize(
    ("edit", "refused"),
    [
        (lambda graph: graph.replace(b'"checksum": "sha256:', b'"checksum": "sha255:'), False),  # none is recorded
        (lambda graph: graph.replace(b'"class_names"', b'"class_namez"'), True),
        (lambda graph: graph + b'"checksum": "sha256:', True),  # another one that is cut off
    ],
)
def test_a_graph_that_was_changed(
    quick_kit: Kit,
    photos: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    edit: Callable[[bytes], bytes],
    *,
    refused: bool,
) -> None:
    monkeypatch.setattr("explainable_model.exporters.onnx.PROTOBUF_LIMIT", 0)
    path = export_in_two(tmp_path / "net", 0)
    changed = edit(path.read_bytes())
    assert changed != path.read_bytes()
    path.write_bytes(changed)
    if refused:
        assert "is damaged, or was changed after the export" in quick_kit.refuses(photos[0], path)
    else:
        assert quick_kit.explain(photos[0], path)["class_idx"] >= 0
