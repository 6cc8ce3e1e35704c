"""Outputs whose shape fits channels first and channels last; the type of the layer and whole strides decide."""

import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel, find_layers
from explainable_model.attribution.layout import find_layout, find_order

RAW = {"normalize": "none", "upsample": "none", "signed": True}


class ChannelsLast(nn.Module):
    """Layers on channels last, as many as the grid has rows and columns."""

    def __init__(self, width: int = 16, stride: int = 1, wide: int = 16) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, width, 3, stride, 1), nn.LayerNorm(width)
        self.wide, self.activation, self.head = nn.Linear(width, wide), nn.Tanh(), nn.Linear(wide, 4)

    def forward(self, image: Tensor) -> Tensor:
        maps = self.activation(self.wide(self.norm(self.stem(image).movedim(1, -1))))
        return self.head(maps.square().mean((1, 2)))


class Table(nn.Module):
    """A learned vector for each brightness of a pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(8, 16), nn.Linear(16, 4)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.table((image[:, 0].sigmoid() * 8).long()).tanh().mean((1, 2)))


def elementwise(network: nn.Module, layer: str, image: Tensor, class_idx: int) -> Tensor:
    """``sum_k (a_k g_k)`` of channels last, with hooks and autograd alone."""
    kept: list[Tensor] = []
    handle = network.get_submodule(layer).register_forward_hook(lambda *call: kept.append(call[2]))
    score = network(image)[:, class_idx].sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(score, kept[0])
    return (kept[0] * gradient).sum(-1).detach()


@pytest.mark.parametrize(
    ("network", "layer", "size"),
    [
        (ChannelsLast(), "wide", (16, 16)),
        (ChannelsLast(), "norm", (16, 16)),
        (Table(), "table", (16, 16)),
        (ChannelsLast(10, 2, 20), "wide", (20, 28)),
        (ChannelsLast(10, 2, 20), "activation", (20, 28)),  # (N, 10, 14, 20): cells of two pixels, or of 1.4
    ],
    ids=["linear", "layer norm", "embedding", "linear of whole strides", "activation of whole strides"],
)
def test_map_of_channels_last_whose_shape_fits_both_orders(network: nn.Module, layer: str, size: tuple[int, int]):
    torch.manual_seed(0)
    network, image = network.double().eval(), torch.randn(2, 3, *size).double()
    found = {row.name: row.layout.kind for row in find_layers(network, image)}
    assert found[layer] == "channels_last"

    got = ExplainableModel(network, layer, "hirescam", **RAW)(image, torch.tensor([1, 1])).cam

    torch.testing.assert_close(got, elementwise(network, layer, image, 1))


def test_channels_are_first_where_nothing_tells():
    assert find_layout((2, 16, 16, 16), (2, 3, 16, 16)).kind == "channels_first"
    assert find_layout((2, 16, 16, 16), (2, 3, 16, 16), order="last").kind == "channels_last"
    assert find_layout((2, 64, 8, 8), (2, 3, 16, 16), order="last").kind == "channels_first"  # fits one alone


class FirstNorm(nn.LayerNorm):
    """A norm of channels first, as those of ConvNeXt in torchvision."""


def test_norms_of_more_dimensions_and_of_subclasses_tell_nothing():
    told = [nn.Linear(4, 4), nn.LayerNorm(4), nn.RMSNorm(4), nn.Embedding(4, 4)]
    assert {find_order(layer) for layer in told} == {"last"}
    assert {find_order(layer) for layer in (FirstNorm(4), nn.LayerNorm((4, 8, 8)), nn.ReLU())} == {None}


class Listening(nn.Module):
    """A spectrogram, pooled in time eight times as much as in frequency: ``(N, 16, 16, 2)`` of 16 by 16."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.pool = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.MaxPool2d((1, 8))
        self.last, self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(16, 16, 1)), nn.Linear(16, 4)

    def forward(self, sound: Tensor) -> Tensor:
        return self.head(self.last(self.pool(self.norm(self.conv(sound)))).square().mean((2, 3)))


@pytest.mark.parametrize("layer", ["pool", "last", "last.1"])
def test_layers_of_channels_first_are_read_so_whatever_their_strides(layer: str):
    """Channels last would be a grid of 16 by 16, with one stride in both directions."""
    torch.manual_seed(0)
    network, sound = Listening().double().eval(), torch.randn(2, 1, 16, 16).double()
    found = {row.name: (row.layout.kind, row.layout.grid) for row in find_layers(network, sound)}
    assert found.get(layer, ("channels_first", (16, 2))) == ("channels_first", (16, 2))
    got = ExplainableModel(network, layer, "hirescam", **RAW)(sound, torch.tensor([1, 1])).cam
    kept: list[Tensor] = []
    handle = network.get_submodule(layer).register_forward_hook(lambda *call: kept.append(call[2]))
    score = network(sound)[:, 1].sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(score, kept[0])
    torch.testing.assert_close(got, (kept[0] * gradient).sum(1).detach())


def test_a_sequence_that_ends_in_an_activation():
    """(N, 8, 16, 16) of a wide image that was padded to a square has its proportions with channels last."""
    convolution, linear = nn.Conv2d(3, 8, 3), nn.Linear(8, 16)
    assert find_order(nn.Sequential(convolution, nn.ReLU(), nn.Dropout(), nn.Tanh())) == "first"
    assert find_order(nn.Sequential(nn.Sequential(convolution, nn.GELU()), nn.Identity())) == "first"
    assert find_order(nn.Sequential(convolution, linear, nn.GELU())) == "last"
    assert find_order(nn.Sequential(convolution, nn.Flatten(), nn.Tanh())) is None
    assert find_order(nn.Sequential(nn.Tanh())) is find_order(nn.Sequential()) is None

    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.Tanh())
            self.head = nn.Linear(8, 4)

        def forward(self, image: Tensor) -> Tensor:
            return self.head(self.body(nn.functional.pad(image, (0, 0, 16, 16))).mean((2, 3)))

    (row,) = (row for row in find_layers(Padded().eval(), torch.randn(1, 3, 32, 64)) if row.name == "body")
    assert (row.layout.kind, row.layout.grid) == ("channels_first", (16, 16))
