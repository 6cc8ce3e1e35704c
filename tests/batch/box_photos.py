"""A detector whose boxes can be computed by hand, and photos with squares that it finds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

import explainable_model as xm
from tests.support.detectors import ColoredCells, colored_candidates

NAMES = ("red", "green")
SIZE = (64, 96)
SQUARE = 32  # pixels of the photo; a photo of 192 x 96 lies in the image at half its size, with a border of 8 rows
RED, GREEN, PALE = (230, 25, 0), (30, 220, 0), (15, 235, 0)
Squares = Sequence[tuple[tuple[int, int], tuple[int, int, int]]]
THREE: Squares = (((32, 16), RED), ((96, 48), GREEN), ((128, 16), PALE))


class PooledCells(ColoredCells):
    """The same detector with a layer of 4 x 6 cells."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(16)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        cells: torch.Tensor = self.pool(self.colors(image).relu())
        return cells


def make_preprocess(pad: float | None = 0.5) -> xm.Preprocess:
    """A letterbox, or a photo that fills the image."""
    return xm.Preprocess(SIZE, mean=(0.0,) * 3, std=(1.0,) * 3, resize=None, pad=pad)


def draw_squares(path: Path, squares: Squares = THREE, size: tuple[int, int] = (192, 96)) -> Path:
    """A gray photo with squares of 32 pixels at these corners."""
    photo = Image.new("RGB", size, (90, 90, 90))
    for corner, color in squares:
        photo.paste(color, (*corner, corner[0] + SQUARE, corner[1] + SQUARE))
    path.parent.mkdir(parents=True, exist_ok=True)
    photo.save(path)
    return path


def export_cells(path: Path, *, pad: float | None = 0.5, images: int = 1, **options: Any) -> Path:
    """The detector as an artifact that explains three of four boxes."""
    export = {name: options.pop(name) for name in ("dynamic_batch", "pixels") if name in options}
    network, layer = (PooledCells(), "pool") if "upsample" in options else (ColoredCells(), "colors")
    explainable = xm.ExplainableModel(
        network.eval(), layer, task="detection", candidates=colored_candidates, method="hirescam",
        top_k=3, max_boxes=4, **options,
    )  # fmt: skip
    preprocess = make_preprocess(pad)
    photo = Image.new("RGB", (192, 96), (90, 90, 90))
    for corner, color in THREE:
        photo.paste(color, (*corner, corner[0] + SQUARE, corner[1] + SQUARE))
    image = torch.from_numpy(preprocess(photo)).repeat(images, 1, 1, 1)
    return xm.export(explainable, path, image, preprocess=preprocess, class_names=NAMES, reference=image, **export)
