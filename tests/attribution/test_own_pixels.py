"""Segmentation by the pixels that are predicted to be of the class."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel
from explainable_model.attribution.targets import Segmentation
from explainable_model.errors import ModelError
from explainable_model.model import lower
from tests.attribution.test_targets import pictures
from tests.support.nets import seeded


class PixelNet(nn.Module):
    """A segmentation network that ends in a function of its logits."""

    def __init__(self, channels: int, end: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.classify, self.end = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, channels, 1), end

    def forward(self, image: Tensor) -> Tensor:
        return self.end(self.classify(torch.tanh(self.conv(image))))


def map_by_hand(network: PixelNet, image: Tensor, pixels: Tensor, channel: Tensor) -> Tensor:
    leaf = network.conv(image).detach().requires_grad_()
    logits = network.classify(torch.tanh(leaf))
    score = (logits.gather(1, channel.reshape(-1, 1, 1, 1).expand(-1, 1, 16, 16))[:, 0] * pixels).sum()
    (gradient,) = torch.autograd.grad(score, leaf)
    return (gradient.mean((2, 3), keepdim=True) * leaf).sum(1).detach()


@pytest.mark.parametrize(("end", "threshold"), [(lambda logits: logits, 0.0), (torch.sigmoid, 0.5)])
def test_own_pixels_of_one_channel_are_the_foreground(end: Callable[[Tensor], Tensor], threshold: float) -> None:
    network, image = seeded(PixelNet(1, end)).double(), pictures(2, seed=3)
    with torch.no_grad():
        foreground = (network(image)[:, 0] > threshold).double()
    assert 0.1 < foreground.mean() < 0.9
    options = {"normalize": False, "upsample": False, "signed": True}
    target = Segmentation("own", threshold=threshold)
    explainable = ExplainableModel(network, "conv", target=target, **options)
    expected = map_by_hand(network, image, foreground, torch.zeros(2, dtype=torch.int64))
    for run in (explainable, lower(explainable, pictures(2, seed=5))):
        assert (run(image).cam - expected).abs().max() < 1e-9 * expected.abs().max()


def test_own_pixels_of_two_channels_are_those_that_the_class_wins() -> None:
    network, image = seeded(PixelNet(2, lambda logits: logits)).double(), pictures(1, seed=3)
    options = {"normalize": False, "upsample": False, "signed": True}
    for class_idx in (0, 1):
        with torch.no_grad():
            won = (network(image).argmax(1) == class_idx).double()
        assert 0.05 < won.mean() < 0.95
        explainable = ExplainableModel(network, "conv", target=Segmentation("own"), **options)
        expected = map_by_hand(network, image, won, torch.tensor([class_idx]))
        found = explainable(image, torch.tensor([class_idx])).cam
        assert (found - expected).abs().max() < 1e-9 * expected.abs().max()


def test_own_pixels_of_a_probability_need_a_threshold() -> None:
    with pytest.raises(ModelError, match=r"as after a sigmoid. Write Segmentation\('own', threshold=0.5\)"):
        ExplainableModel(seeded(PixelNet(1, torch.sigmoid)).double(), "conv", target=Segmentation("own"))(
            pictures(1, seed=3)
        )


def by_hand(logits: Tensor) -> Tensor:
    return 255 / (1 + torch.exp(-logits))


MULTIPLES: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "percent": (lambda logits: logits.sigmoid() * 100, 50.0),
    "bytes": (lambda logits: (logits.sigmoid() * 255).clamp(0, 255), 127.5),
    "by hand": (by_hand, 127.5),
    "one of two classes": (lambda logits: torch.cat([-logits, logits], 1).softmax(1)[:, 1:] * 100, 50.0),
    "resized": (lambda logits: nn.functional.interpolate(logits.sigmoid(), size=(16, 16), mode="bilinear") * 10, 5.0),
}


@pytest.mark.parametrize("name", MULTIPLES)
def test_own_pixels_of_a_multiple_of_probabilities_need_a_threshold(name: str) -> None:
    end, half = MULTIPLES[name]
    network, image = seeded(PixelNet(1, end)).double(), pictures(1, seed=3)
    with pytest.raises(ModelError, match=r"ends in a multiple of (a sigmoid|a softmax|an exponential), .*50 for perc"):
        ExplainableModel(network, "conv", target=Segmentation("own"))(image)
    with torch.no_grad():
        foreground = (network(image)[:, 0] > half).double()
    assert 0.1 < foreground.mean() < 0.9
    target = Segmentation("own", threshold=half)
    got = ExplainableModel(network, "conv", target=target, normalize=False, upsample=False, signed=True)(image).cam
    expected = map_by_hand_of_output(network, image, foreground)
    assert (got - expected).abs().max() < 1e-9 * expected.abs().max()


def map_by_hand_of_output(network: PixelNet, image: Tensor, pixels: Tensor) -> Tensor:
    leaf = network.conv(image).detach().requires_grad_()
    score = (network.end(network.classify(torch.tanh(leaf)))[:, 0] * pixels).sum()
    (gradient,) = torch.autograd.grad(score, leaf)
    return (gradient.mean((2, 3), keepdim=True) * leaf).sum(1).detach()


def test_logits_that_are_all_positive_are_all_foreground() -> None:
    network = seeded(PixelNet(1, lambda logits: logits + 100)).double()
    assert ExplainableModel(network, "conv", target=Segmentation("own"))(pictures(1, seed=3)).cam.amax() > 0.5


@pytest.mark.parametrize("end", [lambda logits: logits, lambda logits: logits.log_softmax(1)])
def test_the_class_of_own_pixels_wins_most_of_them(end: Callable[[Tensor], Tensor]) -> None:
    network, image = seeded(PixelNet(4, end)).double(), pictures(2, seed=3)
    with torch.no_grad():
        network.classify.bias[2] -= 20  # a class that wins no pixel
        winners = network(image).argmax(1)
    expected = torch.stack([torch.bincount(image_winners.flatten(), minlength=4) for image_winners in winners])
    assert (expected[:, 2] == 0).all()
    explainable = ExplainableModel(network, "conv", target=Segmentation("own"), normalize=False, upsample=False)
    explanation = explainable(image)
    assert torch.equal(explanation.class_idx, expected.argmax(1))
    assert torch.equal(lower(explainable, pictures(2, seed=5))(image).class_idx, expected.argmax(1))
    assert explanation.cam.amax() > 0
