"""Gradients that a function of the user's turns round are refused; straight-through ones are taken, for any image."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel, lower
from explainable_model.errors import ModelError
from tests.eager.test_custom_functions import Copy, Net, Swish
from tests.support.nets import images, seeded


class Reversed(Copy):
    """Gradient reversal, as domain adaptation has it."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return -grad


class Tenth(Reversed):
    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return -0.1 * grad


class Tenfold(Reversed):
    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return -10 * grad


class EveryOther(Reversed):
    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return torch.cat([grad[:, n : n + 1] * (-1) ** n for n in range(grad.shape[1])], 1)


class FirstHalf(Reversed):
    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        first, second = grad.chunk(2, 1)
        return torch.cat([-first, second], 1)


class Sign(torch.autograd.Function):
    """Straight-through where the values are small."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(values)
        return torch.where(values >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (values,) = ctx.saved_tensors
        return grad * (values.abs() <= 1)


class Round(torch.autograd.Function):
    """Straight-through, in quarters."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # type: ignore[override]
        return torch.round(values * 4) / 4

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return grad


class Apply(nn.Module):
    def __init__(self, function: type[torch.autograd.Function]) -> None:
        super().__init__()
        self.function = function

    def forward(self, values: Tensor) -> Tensor:
        return self.function.apply(values)


def make_steps(function: type[torch.autograd.Function], width: int = 12) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 2, 1), Apply(function)]
    for _ in range(3):
        layers += [nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width), Apply(function)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4))


def make_photos(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noise with a square, whose color is the class."""
    classes = torch.randint(0, 4, (count,), generator=generator)
    photos = torch.randn(count, 3, 16, 16, generator=generator) * 0.3
    for photo, label in zip(photos, classes.tolist(), strict=True):
        photo[label % 3, 4:12, 4:12] += 1.5 if label < 3 else -1.5
    return photos, classes


@pytest.mark.parametrize(
    ("function", "layer", "method"),
    [
        (Reversed, "body", "gradcam"),
        (Reversed, "body", "layercam"),
        (Reversed, None, "saliency"),
        (Tenth, "body", "gradcam"),
        (Tenfold, "body", "gradcam"),
        (EveryOther, "head", "gradcam"),
        (FirstHalf, "head", "gradcam"),
    ],
)
def test_a_gradient_that_is_turned_round_is_refused(
    function: type[torch.autograd.Function], layer: str | None, method: str
) -> None:
    """Its map would show what speaks against the class."""
    explainable = ExplainableModel(seeded(Net(function)), layer, method)
    refused = rf"gradient of Net points against the change of its score: .*Function {function.__name__}.*scorecam"
    with pytest.raises(ModelError, match=refused):
        explainable(images(2))
    with pytest.raises(ModelError, match=refused):
        lower(explainable, images(2))
    scored = ExplainableModel(seeded(Net(function)), "body", method="scorecam")
    assert scored(images(1)).cam.max() > 0.5, "a method without gradients"


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_it_is_refused_in_other_precision(dtype: torch.dtype) -> None:
    with pytest.raises(ModelError, match="points against"):
        ExplainableModel(seeded(Net(Reversed)).to(dtype), "body")(images(1).to(dtype))


def test_a_trained_binary_network_is_taken_for_every_image() -> None:
    generator, network = torch.Generator().manual_seed(0), seeded(make_steps(Sign, 8)).train()
    for _ in range(25):
        photos, classes = make_photos(16, generator)
        loss = nn.functional.cross_entropy(network(photos), classes)
        weights = list(network.parameters())
        with torch.no_grad():
            for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight -= 0.02 * gradient.sign()
    network.eval()
    photos, classes = make_photos(24, generator)
    assert (network(photos).argmax(1) == classes).float().mean() > 0.9
    for count, layer, method in ((24, "1", "gradcam"), (8, None, "saliency")):
        for photo in photos[:count].split(1):
            fresh = ExplainableModel(network, layer, method)
            assert fresh(photo).cam.isfinite().all()


@pytest.mark.parametrize("function", [Sign, Round])
def test_an_untrained_step_function_is_taken(function: type[torch.autograd.Function]) -> None:
    for seed in range(12):
        torch.manual_seed(seed)
        network, photo = make_steps(function).eval(), torch.randn(1, 3, 16, 16)
        assert ExplainableModel(network, "2")(photo).cam.isfinite().all()


def count_runs(network: nn.Module) -> list[int]:
    """The number of runs from now on, in a list of one."""
    runs = [0]

    def count(*_: Any) -> None:
        runs[0] += 1

    network.register_forward_pre_hook(count)
    return runs


def test_a_network_that_has_passed_runs_once() -> None:
    network = seeded(Net(Swish))
    explainable, runs = ExplainableModel(network, "body"), count_runs(network)
    explainable(images(1))
    first, runs[0] = runs[0], 0
    assert first > 1, "the score is looked at beside the image"
    explainable(images(2))
    assert runs[0] == 1
    for other in (copy.deepcopy(explainable), pickle.loads(pickle.dumps(ExplainableModel(seeded(Net(Swish)), "body")))):
        again = count_runs(other.model)
        other(images(1))
        assert again[0] > 1, "a copy looks for itself"


def test_what_has_passed_is_looked_at_again_when_the_network_changes() -> None:
    network = seeded(Net(Swish))
    explainable = ExplainableModel(network, "body")
    explainable(images(1))
    network.function = Reversed
    with pytest.raises(ModelError, match="points against"):
        explainable(images(1))
    network.function = Swish
    explainable(images(1))
    runs = count_runs(network)
    with torch.no_grad():
        network.fc.weight.mul_(2)
    explainable(images(1))
    assert runs[0] > 1, "other weights"
