"""Columns of a map have as many values as its patches: a sequence of them is no grid of tokens."""

import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel
from explainable_model.eager.find_layer import default_layer
from tests.support.nets import TransformerBlock, images, seeded


class TextLine(nn.Module):
    """A recurrent network reads the columns of a map, ``(N, W, K * H)``: 16 columns look like a grid of 4 x 4."""

    def __init__(self, *, rows: bool = False) -> None:
        super().__init__()
        self.cnn = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Tanh())
        self.rnn, self.head, self.rows = nn.LSTM(128, 12, batch_first=True), nn.Linear(12, 5), rows

    def forward(self, image: Tensor) -> Tensor:
        features = self.cnn(image)
        features = features.mT if self.rows else features
        return self.head(self.rnn(features.flatten(1, 2).mT)[0].mean(1))


class ManyPatches(nn.Module):
    """As many patches of the image, cut out by reshaping, as it has columns."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.block, self.head = nn.Linear(48, 16), TransformerBlock(16, 2), nn.Linear(16, 4)

    def forward(self, image: Tensor) -> Tensor:
        cut = image.unflatten(3, (4, 4)).unflatten(2, (4, 4)).permute(0, 2, 4, 3, 5, 1)
        return self.head(self.block(self.embed(cut.reshape(len(image), 16, 48))).mean(1))


@pytest.mark.parametrize("rows", [False, True])
def test_columns_and_rows_are_no_patches(rows: bool) -> None:
    network, image = seeded(TextLine(rows=rows)), images(2, (3, 32, 32))
    assert default_layer(network, image) == "cnn"
    assert ExplainableModel(network)(image).cam.amax() > 0.5


def test_as_many_patches_as_columns_are_patches() -> None:
    network, image = seeded(ManyPatches()), images(2, (3, 16, 16))
    assert default_layer(network, image) == "block"
    changed = image.clone()
    changed[:, :, 8:12, 4:8] += 1  # the patch in row 2, column 1
    explainable = ExplainableModel(network, "embed")
    moved = (explainable.attribute(changed).activations - explainable.attribute(image).activations).abs().sum((0, 1))
    assert torch.nonzero(moved).tolist() == [[2, 1]]
