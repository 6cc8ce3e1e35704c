"""Maps that a network rearranges: columns are no patches, and merged cells of a video are a map."""

import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel
from explainable_model.eager.find_layer import default_layer
from explainable_model.errors import LayerError
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


class MergedVideo(nn.Module):
    """Tubes of 2 x 4 x 4 with channels last, whose height and width a layer halves: strides 2 x 8 x 8."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.merge = nn.Conv3d(3, 40, (2, 4, 4), (2, 4, 4)), MergeCells(40)
        self.first, self.second, self.head = nn.LayerNorm(40), nn.LayerNorm(80), nn.Linear(80, 4)

    def forward(self, video: Tensor) -> Tensor:
        cells = self.first(self.patch(video).movedim(1, -1))
        return self.head(self.second(self.merge(cells).tanh()).mean((1, 2, 3)))


class MergeCells(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(4 * width, 2 * width)

    def forward(self, cells: Tensor) -> Tensor:
        corners = [cells[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1)]
        return self.reduce(torch.cat(corners, -1))


class ShiftedPatches(nn.Module):
    """Patches of the image and of a shifted copy together: nothing in the run shows their grid."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.block, self.head = nn.Linear(96, 16), TransformerBlock(16, 2), nn.Linear(16, 4)

    def forward(self, image: Tensor) -> Tensor:
        stacked = torch.cat([image, image.roll(2, 3)], 1)
        cut = stacked.unflatten(3, (4, 4)).unflatten(2, (4, 4)).permute(0, 2, 4, 3, 5, 1)
        return self.head(self.block(self.embed(cut.reshape(len(image), 16, 96))).mean(1))


def test_tokens_whose_grid_nothing_shows_are_named() -> None:
    network, image = seeded(ShiftedPatches()), images(2, (3, 16, 16))
    with pytest.raises(LayerError, match="'block' returns 16 tokens, and no layer shows .* a grid of 4 x 4"):
        default_layer(network, image)
    assert ExplainableModel(network, "block")(image).cam.amax() > 0.5


def test_merged_cells_of_a_video_are_a_map() -> None:
    network, video = seeded(MergedVideo()), images(2, (3, 8, 32, 32))
    explainable = ExplainableModel(network)
    assert explainable(video).cam.amax() > 0.5
    assert explainable.target_layer == "second"
    assert explainable.attribute(video).activations.shape == (2, 80, 4, 4, 4)


def test_a_few_channels_last_of_a_video_are_no_direction() -> None:
    network = seeded(nn.Sequential(nn.Conv3d(3, 16, (2, 8, 8), (2, 8, 8)), ChannelsLast(), Mean(), nn.Linear(16, 4)))
    explainable = ExplainableModel(network, "1")
    assert explainable.attribute(images(2, (3, 8, 32, 32))).activations.shape == (2, 16, 4, 4, 4)


class ChannelsLast(nn.Module):
    def forward(self, activations: Tensor) -> Tensor:
        return activations.movedim(1, -1).tanh()


class Mean(nn.Module):
    def forward(self, cells: Tensor) -> Tensor:
        return cells.mean((1, 2, 3))


class SignalPatches(nn.Module):
    """Patches of a signal, cut by reshaping: 17 tokens of width 16 are no 17 channels of 16 steps."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.block, self.head = nn.Linear(24, 16), TransformerBlock(16, 2), nn.Linear(16, 4)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 16))

    def forward(self, signal: Tensor) -> Tensor:
        tokens = self.embed(signal.unflatten(2, (16, 8)).transpose(1, 2).flatten(2))
        return self.head(self.block(torch.cat([self.cls_token.expand(len(signal), -1, -1), tokens], 1))[:, 0])


def test_tokens_of_a_signal_are_no_channels() -> None:
    network, signal = seeded(SignalPatches()), images(2, (3, 128))
    with pytest.raises(LayerError, match="No layer of SignalPatches"):
        default_layer(network, signal)
    with pytest.raises(LayerError, match="'block' has no spatial map"):
        ExplainableModel(network, "block")(signal)
    named = ExplainableModel(network, "block.norm1", reshape_transform=lambda tokens: tokens[:, 1:].mT)
    assert named(signal).cam.amax() > 0.5
