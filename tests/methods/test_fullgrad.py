"""FullGrad on whole networks: its map, and completeness: all shares add up to the score."""

import copy
from collections.abc import Callable, Sequence
from functools import partial

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from explainable_model import ExplainableModel
from explainable_model.demo import efficientnet_lite0
from explainable_model.errors import ModelError
from explainable_model.methods import input_gradient
from tests.methods.oracle import (
    CLASSES,
    SIZE,
    assert_equal,
    batch,
    each,
    enlarged,
    range_scaled,
    raw,
    small,
)
from tests.support.nets import SmallNet, TinyViT, images, seeded


def bias_shares(network: SmallNet, image: Tensor, class_idx: int) -> tuple[Tensor, list[Tensor]]:
    """``x g`` of the image, and the gradient at each layer with a bias times that bias; one image."""
    biased = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d, nn.Linear))]
    outputs: list[tuple[nn.Module, Tensor]] = []
    # In-place ReLUs must not touch what is kept.
    handles = [
        module.register_forward_hook(lambda module, inputs, out: outputs.append((module, out)) or out.clone())  # type: ignore[func-returns-value]
        for module in biased
    ]
    leaf = image.clone().requires_grad_()
    logits = network(leaf)
    for handle in handles:
        handle.remove()
    gradients = torch.autograd.grad(logits[0, class_idx], [leaf, *(out for _, out in outputs)])
    shares = []
    for (module, _), gradient in zip(outputs, gradients[1:], strict=True):
        if isinstance(module, nn.BatchNorm2d):
            still = torch.zeros(1, module.num_features, 1, 1, dtype=torch.float64)
            with torch.no_grad():
                bias = module(still)[0, :, 0, 0]
        elif module.bias is None:
            continue
        else:
            bias = module.bias.detach()
        shares.append(gradient[0] * bias.reshape(-1, *[1] * (gradient.ndim - 2)))
    return leaf.detach()[0] * gradients[0][0], shares


def test_fullgrad() -> None:
    network, image = small(), batch()

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        own, shares = bias_shares(network, image, class_idx)
        cam = sum((range_scaled(channel.abs()) for channel in own), torch.zeros(SIZE[1:], dtype=torch.float64))
        for share in shares:
            if share.ndim == 3:
                for channel in share:
                    cam = cam + enlarged(range_scaled(channel.abs()), SIZE[1:])
        return cam

    assert_equal(raw(network, None, "fullgrad", image), each(oracle, image))


# Completeness: the image times its gradient and all biases times theirs add up to the score.


class GroupNet(nn.Module):
    """Group norm, a functional convolution, a constant that is added, and a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.GroupNorm(2, 8), nn.ReLU())
        self.weight, self.bias = nn.Parameter(torch.ones(8, 8, 3, 3)), nn.Parameter(torch.ones(8))
        self.norm = nn.GroupNorm(8, 8, affine=False)
        self.gate = nn.Conv2d(8, 8, 1)
        self.fc = nn.Linear(8, 5)

    def forward(self, image: Tensor) -> Tensor:
        activations = self.norm(functional.conv2d(self.stem(image), self.weight, self.bias)) + 0.25
        activations = activations * torch.sigmoid(self.gate(activations.mean((2, 3), keepdim=True)))
        return self.fc(activations.amax((2, 3))) / 2 - 1


class SmoothActivations(nn.Module):
    """Every activation of the table, one after the other, and layer norm over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.activations = nn.ModuleList(
            [nn.SiLU(), nn.GELU(), nn.GELU("tanh"), nn.Tanh(), nn.Hardswish(), nn.Hardsigmoid(), nn.ELU(), nn.ReLU6(),
             nn.Hardtanh(-0.5, 0.5), nn.LeakyReLU(), nn.Sigmoid(), nn.RReLU(), nn.Hardshrink()]
        )  # fmt: skip
        self.convolutions = nn.ModuleList([nn.Conv2d(3, 3, 3, padding=1) for _ in self.activations])
        self.norm = nn.LayerNorm(3)
        self.fc = nn.Linear(3, 5)

    def forward(self, image: Tensor) -> Tensor:
        tensor = image
        for convolution, activation in zip(self.convolutions, self.activations, strict=True):
            tensor = tensor + activation(4 * convolution(tensor))
        tensor = self.norm(tensor.movedim(1, -1)).movedim(-1, 1)
        return self.fc(functional.pad(tensor, (1, 1), value=0.5).mean((2, 3)))


class Constants(nn.Module):
    """Constants beside values of the image: coordinates, bounds, and a learned row that takes the shape of an input."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.fc = nn.Conv2d(3, 4, 3, 2), nn.Conv2d(6, 4, 3, padding=1), nn.Linear(4, 5)
        self.coordinates, self.bound = nn.Parameter(torch.ones(1, 2, 7, 7)), nn.Parameter(torch.ones(1, 4, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        stem = self.stem(image)
        activations = torch.cat([stem, self.coordinates.expand(image.shape[0], -1, -1, -1)], 1)
        activations = torch.minimum(self.bound + 1, torch.maximum(self.conv(activations), self.bound - 1)) + stem
        return self.fc(torch.stack([activations, self.bound.expand_as(activations)]).mean(0).mean((2, 3)))


class ParametersFirst(nn.Module):
    """Parameters are the first operand of sums, differences, joins and bounds."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.body = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.place, self.fc = nn.Parameter(torch.randn(1, 6, 1, 1)), nn.Linear(12, 5)

    def forward(self, image: Tensor) -> Tensor:
        activations = (self.place + self.conv(image)).relu()
        gate = torch.sigmoid(self.fc.weight.mean() + self.body(activations))
        activations = torch.maximum(self.place, self.place - activations * gate)
        joined = torch.cat([self.place.expand_as(activations), activations], 1)
        scores: Tensor = self.fc(joined.mean((2, 3)))
        return scores


def sum_of_shares(network: nn.Module, image: Tensor, monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, Tensor]:
    """The sum of the full gradient and the score, for each image; the map is made by the public call."""
    sums: list[Tensor] = []
    make_map = input_gradient.fullgrad

    def fullgrad(image: Tensor, gradients: Tensor, shares: Sequence[Tensor]) -> Tensor:
        sums.append(sum((share.flatten(1).sum(1) for share in shares), (image * gradients).flatten(1).sum(1)))
        return make_map(image, gradients, shares)

    monkeypatch.setattr(input_gradient, "fullgrad", fullgrad)
    class_idx = torch.tensor(CLASSES)
    explanation = ExplainableModel(network, None, "fullgrad")(image, class_idx)
    return sums[0], explanation.logits.gather(1, class_idx.unsqueeze(1)).squeeze(1)


@pytest.mark.parametrize(
    ("build", "size"),
    [
        (SmallNet, SIZE),
        (GroupNet, (3, 24, 24)),
        (SmoothActivations, (3, 8, 8)),
        (Constants, (3, 16, 16)),
        (ParametersFirst, (3, 12, 12)),
        (partial(torchvision.models.resnet18, num_classes=5), (3, 64, 64)),
        (partial(timm.create_model, "regnety_002", num_classes=5), (3, 64, 64)),
    ],
    ids=["small", "group norm", "activations", "constants", "parameters first", "resnet18", "regnety_002"],
)
def test_the_full_gradient_adds_up_to_the_score(
    build: Callable[[], nn.Module], size: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    total, score = sum_of_shares(seeded(build()).double(), images(2, size, seed=4).double(), monkeypatch)
    assert (total - score).abs().max() < 1e-9 * max(1.0, float(score.abs().max()))


def test_the_full_gradient_of_trained_weights_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    # Batch norm and activation are one module here, and the activation is a ReLU6.
    network = copy.deepcopy(efficientnet_lite0().model).double()
    total, score = sum_of_shares(network, images(2, (3, 64, 64), seed=4).double(), monkeypatch)
    assert (total - score).abs().max() < 1e-9


def test_attention_is_refused() -> None:
    with pytest.raises(
        ModelError, match="the bias of aten.scaled_dot_product_attention.default .from blocks.0. is not"
    ):
        raw(seeded(TinyViT()).double(), None, "fullgrad", images(2).double())
