"""A detector and a photo for the tests of the kits, whose boxes can be computed by hand."""

import torch
from PIL import Image
from torch import Tensor, nn

SQUARES = {(32, 16): (230, 25, 0), (96, 48): (30, 220, 0), (128, 16): (15, 235, 0)}  # corner, of 32 pixels, and color
NAMES = ("red", "green")


class Cells(nn.Module):
    """Finds red and green squares of 16 pixels in a grid of an image of 64 x 96."""

    def __init__(self) -> None:
        super().__init__()
        self.colors = nn.Conv2d(3, 2, 1, bias=False)
        weights = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]])
        self.colors.weight = nn.Parameter(weights.reshape(2, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(self.colors(image).relu(), 16)


def find_candidates(network: nn.Module, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, boxes and labels of all cells."""
    scores, labels = (8 * network(image) - 4).flatten(2).max(1)
    rows, columns = torch.meshgrid(torch.arange(4) * 16.0, torch.arange(6) * 16.0, indexing="ij")
    boxes = torch.stack([columns, rows, columns + 16, rows + 16], -1).reshape(1, -1, 4)
    return scores, boxes.expand(image.shape[0], -1, -1), labels


def draw_squares() -> Image.Image:
    """A photo of 192 x 96 pixels with three squares, which are cells in a letterbox of half the size."""
    photo = Image.new("RGB", (192, 96), (90, 90, 90))
    for corner, color in SQUARES.items():
        photo.paste(color, (*corner, corner[0] + 32, corner[1] + 32))
    return photo
