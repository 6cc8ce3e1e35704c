"""A map of a network that crops, pads, mirrors or turns the image itself lies elsewhere, and a warning says where."""

import copy
import re
import warnings
from collections.abc import Callable
from contextlib import suppress

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from explainable_model import ExplainableModel
from explainable_model.errors import DoubtfulPlacesWarning, ExplainableModelError, LayerError, RepeatedLayerWarning
from tests.support.nets import images, seeded


class Prepares(nn.Module):
    """A classifier that prepares the image in its forward."""

    def __init__(self, prepare: Callable[[Tensor], Tensor], channels: int = 3, padding: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 8, 3, 2, padding), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, padding), nn.Tanh()
        )
        self.fc, self.prepare = nn.Linear(8, 5), prepare

    def forward(self, image: Tensor) -> Tensor:
        scores: Tensor = self.fc(self.body(self.prepare(image)).mean((2, 3)))
        return scores


def quarters(image: Tensor) -> Tensor:
    halves = [part for row in image.chunk(2, 2) for part in row.chunk(2, 3)]
    return torch.cat(halves, 1)


CROPPED = r"it shows the image from (8|9|1\d)% to 8\d% of the height and from (8|9|1\d)% to 8\d% of the width:"
MOVED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "half": (lambda x: x[..., 16:48, 16:48], "from 2[1-9]% to 7[1-9]% of the height and from 2[1-9]% to 7[1-9]% of"),
    "crop": (lambda x: x[..., 8:56, 8:56], CROPPED),
    "pad": (lambda x: functional.pad(x, (16,) * 4), "from -2[0-9]% to 12[0-9]% of the height and from -2[0-9]% to 12"),
    "flip": (lambda x: x.flip(-1), "from -?[0-5]% to (9[5-9]|10[0-5])% of the width, its width mirrored:"),
    "turn": (lambda x: torch.rot90(x, 1, (2, 3)), "its (height|width) mirrored, its rows as columns:"),
    "transpose": (lambda x: x.mT, "of the width and from -?[0-5]% to .* of the height, its rows as columns:"),
    "roll": (lambda x: x.roll(32, -1), "other cells than those of a place change with it:"),
}


def warnings_of(network: nn.Module, image: Tensor, **options: object) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        explainable = ExplainableModel(seeded(network), **options)  # type: ignore[arg-type]
        explainable(image)
        explainable(image)  # told once
    return [str(each.message) for each in caught if each.category is not RepeatedLayerWarning]


@pytest.mark.parametrize("name", MOVED)
def test_a_network_that_moves_the_image_is_told(name: str) -> None:
    prepare, words = MOVED[name]
    (message,) = warnings_of(Prepares(prepare), images(2, (3, 64, 64)))
    assert re.search(rf"The map of target_layer 'body' is drawn over the whole image, but .*{words}", message), message


def test_an_image_that_is_cut_up_is_told() -> None:
    (message,) = warnings_of(Prepares(quarters, 12), images(2, (3, 64, 64)))
    assert "other cells than those of a place change with it" in message


STAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "normalization": lambda x: (x - 0.4) / 0.2,
    "contrast": lambda x: (x - x.amin((2, 3), keepdim=True)).sqrt(),
    "colors": lambda x: x.flip(1),
    "another size": lambda x: functional.interpolate(x, (96, 80), mode="bilinear"),
    "a margin": lambda x: x[..., 1:63, 1:63],
    "blur": lambda x: functional.avg_pool2d(x, 3, 1, 1),
}


@pytest.mark.parametrize("name", STAYS)
@pytest.mark.parametrize("size", [(64, 64), (48, 96)])
def test_a_network_that_keeps_the_places_is_not_told(name: str, size: tuple[int, int]) -> None:
    if name != "a margin" or size == (64, 64):
        assert warnings_of(Prepares(STAYS[name]), images(2, (3, *size))) == []


def test_pixels_as_channels_and_convolutions_without_padding_keep_the_places() -> None:
    shuffled = Prepares(lambda x: functional.pixel_unshuffle(x, 2), 12)
    assert warnings_of(shuffled, images(2, (3, 64, 64))) == []
    assert warnings_of(Prepares(lambda x: x / 2, padding=0), images(2, (3, 64, 64))) == []


class OtherDimensions(nn.Module):
    """Signals and volumes that are prepared in the forward."""

    def __init__(self, convolution: nn.Module, prepare: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.fc, self.prepare = nn.Sequential(convolution, nn.Tanh()), nn.Linear(8, 5), prepare

    def forward(self, image: Tensor) -> Tensor:
        scores: Tensor = self.fc(self.body(self.prepare(image)).flatten(2).mean(2))
        return scores


def test_signals_and_volumes_that_are_moved() -> None:
    signal, volume = images(2, (2, 128)), images(2, (1, 16, 32, 32))
    (message,) = warnings_of(OtherDimensions(nn.Conv1d(2, 8, 5, 2, 2), lambda x: x.flip(-1)[..., 32:96]), signal)
    assert re.search(r"from 2\d% to 7\d% of the length, its length mirrored", message), message
    assert warnings_of(OtherDimensions(nn.Conv1d(2, 8, 5, 2, 2), lambda x: x - x.mean(2, keepdim=True)), signal) == []
    middle = OtherDimensions(nn.Conv3d(1, 8, 3, 1, 1), lambda x: x[:, :, 4:12, 8:24, 8:24])
    (message,) = warnings_of(middle, volume)
    assert re.search(r"from 2\d% to 7\d% of the depth and from 2\d% to 7\d% of the height and from 2\d% to", message)
    assert warnings_of(OtherDimensions(nn.Conv3d(1, 8, 3, 2, 1), lambda x: 2 * x), volume) == []


def test_a_signal_with_its_channels_last_is_refused() -> None:
    """(N, 128, 12): the twelve channels are taken for the length, and the network turns them round in its forward."""
    turned = seeded(OtherDimensions(nn.Conv1d(12, 8, 5, 2, 2), lambda x: x.mT))
    with pytest.raises(LayerError, match=r"'body' has no spatial map: its output has shape \(2, 8, 64\) for an image"):
        ExplainableModel(turned, "body")(images(2, (128, 12)))


def test_the_look_at_the_places_leaves_no_trace() -> None:
    class Counts(Prepares):
        def __init__(self) -> None:
            super().__init__(lambda x: x / 2)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, image: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(image)

    network, image = seeded(Counts()), images(2, (3, 64, 64))
    before = network.calls.clone()
    ExplainableModel(network, "body")(image)
    assert network.calls == before + 1


def test_the_first_calls_may_show_nothing() -> None:
    """A preparation, another size, an image of one color and a call that fails leave the look to a later call."""
    image = images(2, (3, 64, 64))
    network = seeded(Prepares(lambda x: x[..., :48, :48].flip(-1) if x.shape[-1] > 48 else x))
    for first in (
        lambda explainable: explainable.prepare(image),
        lambda explainable: explainable.attribute(image),
        lambda explainable: explainable(images(2, (3, 48, 48))),
        lambda explainable: explainable(image, 99),
    ):
        explainable = ExplainableModel(network, "body")
        with suppress(ExplainableModelError):
            first(explainable)
        explainable = copy.deepcopy(explainable)
        with pytest.warns(DoubtfulPlacesWarning, match="its width mirrored"):
            explainable(image)
    mirrored = ExplainableModel(seeded(Prepares(lambda x: x.flip(-1))), "body", example=torch.ones(1, 3, 64, 64))
    with pytest.warns(DoubtfulPlacesWarning, match="its width mirrored"):
        mirrored(image)


class Mirrored(Prepares):
    """Averages over the image and its mirror image, as at the test of a network."""

    def forward(self, image: Tensor) -> Tensor:
        return (super().forward(image) + super().forward(image.flip(-1))) / 2


def test_the_call_with_a_mirrored_copy_is_told() -> None:
    image = images(2, (3, 64, 64))
    (message,) = warnings_of(Mirrored(lambda x: x), image)
    assert "its width mirrored" in message
    assert "or choose another call of the layer with call=" in message
    assert warnings_of(Mirrored(lambda x: x), image, call=0) == []


def test_the_function_that_puts_a_mirrored_map_in_order() -> None:
    network, image = seeded(Prepares(lambda x: x.flip(-1))), images(2, (3, 64, 64))
    with pytest.warns(DoubtfulPlacesWarning):
        mirrored = ExplainableModel(network, "body")(image, 1).cam
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ordered = ExplainableModel(network, "body", reshape_transform=lambda maps: maps.flip(-1))(image, 1).cam
    torch.testing.assert_close(ordered, mirrored.flip(-1))
