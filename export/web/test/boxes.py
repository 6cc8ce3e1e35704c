"""Write a small detector for the page to open, photos for it, and the boxes and maps that Python finds in them."""

import json
import sys
from pathlib import Path

import onnx
import torch
from PIL import Image

import explainable_model as xm

sys.path.append(str(Path(__file__).parents[2]))

from cells import NAMES, Cells, draw_squares, find_candidates

METADATA_KEY = "explainable_model.json"
LETTERBOX = xm.Preprocess((64, 96), mean=(0.0,) * 3, std=(1.0,) * 3, resize=None, interpolation="nearest", pad=0.5)


def write_detector(folder: Path) -> Path:
    """Write the artifact ``cells.onnx``, and the photos ``squares.png`` and ``nothing.png``."""
    Image.new("RGB", (192, 96), (90, 90, 90)).save(folder / "nothing.png")
    squares = draw_squares()
    squares.save(folder / "squares.png")
    image = torch.from_numpy(LETTERBOX(squares))
    explainable = xm.ExplainableModel(
        Cells().eval(), "colors", task="detection", candidates=find_candidates, method="hirescam", top_k=3
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
