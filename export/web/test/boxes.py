"""Write a small detector for the page to open, photos for it, and the boxes and maps that Python finds in them."""

import json
from pathlib import Path

import onnx
import torch
from PIL import Image
from torch import Tensor, nn

import explainable_model as xm

METADATA_KEY = "explainable_model.json"
LETTERBOX = xm.Preprocess((64, 96), mean=(0.0,) * 3, std=(1.0,) * 3, resize=None, interpolation="nearest", pad=0.5)
NAMES = ("red", "green")
SQUARES = {(32, 16): (230, 25, 0), (96, 48): (30, 220, 0), (128, 16): (15, 235, 0)}  # corner, of 32 pixels, and color


class Cells(nn.Module):
    """Finds red and green squares of 16 pixels in a grid."""

    def __init__(self) -> None:
        super().__init__()
        self.colors = nn.Conv2d(3, 2, 1, bias=False)
        weights = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]])
        self.colors.weight = nn.Parameter(weights.reshape(2, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(self.colors(image).relu(), 16)


def candidates(network: nn.Module, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, boxes and labels of all cells."""
    grid = network(image)
    scores, labels = (8 * grid - 4).flatten(2).max(1)
    rows, columns = torch.meshgrid(torch.arange(4) * 16.0, torch.arange(6) * 16.0, indexing="ij")
    boxes = torch.stack([columns, rows, columns + 16, rows + 16], -1).reshape(1, -1, 4)
    return scores, boxes.expand(image.shape[0], -1, -1), labels


def write_detector(folder: Path) -> Path:
    """Write the artifact ``cells.onnx``, and the photos ``squares.png`` and ``nothing.png``."""
    squares = Image.new("RGB", (192, 96), (90, 90, 90))
    squares.save(folder / "nothing.png")
    for corner, color in SQUARES.items():
        squares.paste(color, (*corner, corner[0] + 32, corner[1] + 32))
    squares.save(folder / "squares.png")
    image = torch.from_numpy(LETTERBOX(squares))
    explainable = xm.ExplainableModel(
        Cells().eval(), "colors", task="detection", candidates=candidates, method="hirescam", top_k=3
    )
    path = xm.export(
        explainable, folder / "cells.onnx", image, preprocess=LETTERBOX, class_names=NAMES, reference=image
    )
    _move_recorded(path, folder / "moved.onnx")
    return path


def _move_recorded(artifact: Path, target: Path) -> None:
    """Copy an artifact whose record says that the boxes lie elsewhere."""
    model = onnx.load(artifact)
    (entry,) = (entry for entry in model.metadata_props if entry.key == METADATA_KEY)
    record = json.loads(entry.value)
    record["reference"]["logits"] = [[value + 0.1 for value in values] for values in record["reference"]["logits"]]
    entry.value = json.dumps(record)
    onnx.save(model, target)


def expect_boxes(artifact: Path, folder: Path, photo: str) -> list[dict[str, object]]:
    """Write the map of each box to a file of little-endian float32, and return the boxes."""
    found = xm.explain(folder / photo, artifact)
    rows = []
    for rank, row in enumerate(found.list_boxes()):
        file = f"{artifact.stem}-{photo}-{rank}.f32"
        found.cam[rank].astype("float32").tofile(folder / file)
        rows.append({**row, "map": file, "size": list(found.cam[rank].shape)})
    return rows
