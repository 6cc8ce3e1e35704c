"""Methods of one layer, on a whole network, against hooks and plain autograd that share no code with the package."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from explainable_model.errors import ModelError
from tests.methods.oracle import (
    LAYER,
    activations_of,
    assert_equal,
    batch,
    each,
    layer_gradient,
    noisy,
    raw,
    small,
)
from tests.support.nets import images, seeded


class SmoothNet(nn.Module):
    """A tail that is not piecewise linear, and ReLUs of both kinds, module and function."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 4, 1), nn.ReLU())
        self.conv = nn.Conv2d(4, 5, 3, 1, 1)
        self.fc1 = nn.Linear(5, 6)
        self.fc2 = nn.Linear(6, 4)

    def tail(self, activations: Tensor) -> Tensor:
        hidden = functional.gelu(self.conv(activations)).mean((2, 3))
        logits: Tensor = self.fc2(torch.tanh(self.fc1(hidden)))
        return logits

    def forward(self, image: Tensor) -> Tensor:
        return self.tail(self.stem(image))


def test_smoothgradcam_plus_plus() -> None:
    network = small()

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        activations = activations_of(network, LAYER, image)[0]
        gradients = [
            layer_gradient(network, LAYER, copy, lambda logits: logits[class_idx])
            for copy in noisy(image, 4, 0.3, seed=0)
        ]
        first, second, third = (torch.stack([g**power for g in gradients]).mean(0) for power in (1, 2, 3))
        denominator = 2 * second + activations.sum((1, 2), keepdim=True) * third
        alpha = torch.where(denominator > 1e-6 * second, second / denominator, 0.0)
        return ((alpha * first.clamp(min=0)).sum((1, 2))[:, None, None] * activations).sum(0)

    assert_equal(raw(network, LAYER, "smoothgradcam++", batch(), samples=4, noise=0.3), each(oracle, batch()), 1e-8)


def test_shapleycam() -> None:
    network = seeded(SmoothNet()).double()
    assert isinstance(network, SmoothNet)
    image = images(2, (3, 12, 12), seed=4).double()

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        activations = activations_of(network, "stem", image)

        def score(flat: Tensor) -> Tensor:
            return network.tail(flat.reshape(activations.shape))[0, class_idx]

        flat = activations.flatten()
        gradient = torch.autograd.functional.jacobian(score, flat)
        hessian = torch.autograd.functional.hessian(score, flat)
        assert (hessian @ flat).abs().max() > 0.01 * gradient.abs().max(), "the second order must count"
        weights = (gradient - hessian @ flat / 2).reshape(activations.shape)[0].mean((1, 2))
        return (weights[:, None, None] * activations[0]).sum(0)

    assert_equal(raw(network, "stem", "shapleycam", image), each(oracle, image))


@pytest.mark.parametrize("references", [1, 2])
def test_finercam(references: int) -> None:
    network = small()

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        logits = network(image)[0].detach()
        others = sorted(
            (c for c in range(5) if c != class_idx), key=lambda c: float((logits[c] - logits[class_idx]).abs())
        )

        def score(logits: Tensor) -> Tensor:
            return logits[class_idx] - 0.5 * torch.stack([logits[c] for c in others[:references]]).mean()

        gradients = layer_gradient(network, LAYER, image, score)
        activations = activations_of(network, LAYER, image)[0]
        return (gradients.mean((1, 2))[:, None, None] * activations).sum(0)

    assert_equal(raw(network, LAYER, "finercam", batch(), gamma=0.5, references=references), each(oracle, batch()))


def test_cam() -> None:
    network = small()

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        return torch.einsum(
            "k,khw->hw", network.fc.weight[class_idx].detach(), activations_of(network, LAYER, image)[0]
        )

    assert_equal(raw(network, LAYER, "cam", batch()), each(oracle, batch()))
    with pytest.raises(
        ModelError, match="'cam' needs average pooling and a linear classifier behind .*'stem'.*Use 'gradcam'"
    ):
        raw(network, "stem", "cam", batch())


class AlmostPooled(nn.Module):
    """Pooling in which one place counts less than the others, by a share."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, stride=3), nn.Linear(4, 5)
        self.register_buffer("weight", torch.ones(5, 5))
        self.get_buffer("weight")[2, 3] -= share

    def forward(self, image: Tensor) -> Tensor:
        return self.fc((self.conv(image) * self.weight).mean((2, 3)))


def test_cam_takes_rounding_for_pooling_and_nothing_more() -> None:
    assert raw(seeded(AlmostPooled(5e-4)).double(), "conv", "cam", batch()).any()
    with pytest.raises(ModelError, match="the gradient differs from place to place"):
        raw(seeded(AlmostPooled(1.5e-3)).double(), "conv", "cam", batch())
