"""Thin wrappers around probabilities: exact in float32, eagerly and lowered, however sure the network is."""

import copy
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel, export, load, lower
from explainable_model.errors import ModelError, SaturationWarning

Ending = Callable[[Tensor], Tensor]
CLASSES = 4


def by_hand(logits: Tensor) -> Tensor:
    powers = (logits - logits.amax(1, keepdim=True)).exp()
    return powers / powers.sum(1, keepdim=True)


def by_hand_unsqueezed(logits: Tensor) -> Tensor:
    powers = torch.exp(logits - logits.max(1, keepdim=True).values)
    return powers / powers.sum(1).unsqueeze(1)


def without_maximum(logits: Tensor) -> Tensor:
    powers = logits.exp()
    return powers / powers.sum(1, keepdim=True)


def transposed(logits: Tensor) -> Tensor:
    powers = logits.exp()
    return (powers.T / powers.sum(1)).T


def times_reciprocal(logits: Tensor) -> Tensor:
    powers = logits.exp()
    return powers.sum(1, keepdim=True).reciprocal() * powers


def times_power(logits: Tensor) -> Tensor:
    powers = logits.exp()
    return powers * powers.sum(1, keepdim=True).pow(-1)


def two_way(logits: Tensor) -> Tensor:
    p = torch.sigmoid(logits[:, :1] - logits[:, 1:2])
    return torch.cat([1 - p, p], 1)


def renormalized(logits: Tensor) -> Tensor:
    p = logits.softmax(1)[:, :3]
    return p / p.sum(1, keepdim=True)


ENDINGS: dict[str, Ending] = {
    "log": lambda z: z.softmax(1).log(),
    "log-epsilon": lambda z: (z.softmax(1) + 1e-9).log(),
    "epsilon": lambda z: z.softmax(1) + 1e-7,
    "percent": lambda z: z.softmax(1) * 100,
    "flip": lambda z: z.softmax(1).flip(1),
    "reorder": lambda z: z.softmax(1)[:, [2, 0, 3, 1]],
    "index-select": lambda z: z.softmax(1).index_select(1, torch.tensor([1, 0, 2])),
    "twice": lambda z: z.softmax(1).softmax(1),
    "exp-of-log-softmax": lambda z: z.log_softmax(1).exp(),
    "minus-log-softmax": lambda z: -z.log_softmax(1),
    "log-softmax-doubled": lambda z: z.log_softmax(1) * 2,
    "by-hand": by_hand,
    "by-hand-unsqueezed": by_hand_unsqueezed,
    "renormalized": renormalized,
    "clamp-below": lambda z: z.softmax(1).clamp_min(1e-30),
    "complement": lambda z: 1 - z.softmax(1),
    "two-way-of-softmax": lambda z: torch.stack([1 - z.softmax(1)[:, 0], z.softmax(1)[:, 0]], 1),
    "two-way-of-sigmoid": two_way,
    "first-columns": lambda z: z.softmax(1)[:, :2] * 1,
    "mean-of-two": lambda z: (z.softmax(1) + (1.1 * z).softmax(1)) / 2,
    "temperature": lambda z: (z / 2).softmax(1) * 3,
    "square-root": lambda z: z.softmax(1).sqrt(),
    "square": lambda z: z.softmax(1) ** 2,
    "centered": lambda z: z.softmax(1) - z.softmax(1).mean(1, keepdim=True),
    "weighted": lambda z: z.softmax(1) * torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=z.dtype),
    "class-groups": lambda z: torch.stack([z.softmax(1)[:, :2].sum(1), z.softmax(1)[:, 2:].sum(1)], 1),
    "linear": lambda z: z.softmax(1) @ torch.arange(12.0, dtype=z.dtype).reshape(4, 3).cos(),
    "positions": lambda z: z.unsqueeze(2).expand(-1, -1, 3).softmax(1).mean(2),
    "tokens": lambda z: z.unsqueeze(1).expand(-1, 3, -1).softmax(-1).mean(1),
    "sigmoid-percent": lambda z: torch.sigmoid(z) * 100,
    "sigmoid-complement": lambda z: 1 - z.sigmoid(),
    "log-sigmoid-by-hand": lambda z: z.sigmoid().log(),
    "tanh": lambda z: torch.tanh(z / 2),
    "sigmoid-of-tanh": lambda z: 0.5 * (1 + torch.tanh(z / 2)),
    "sigmoid-by-hand": lambda z: 1 / (1 + torch.exp(-z)),
    "sigmoid-of-reciprocal": lambda z: (1 + (-z).exp()).reciprocal() * 100,
    "sigmoid-of-quotient": lambda z: z.exp() / (1 + z.exp()),
    "sigmoid-complement-by-hand": lambda z: 1 - 1 / (1 + z.exp()),
    "log-softmax-by-hand": lambda z: z - z.logsumexp(1, keepdim=True),
    "log-softmax-of-exp": lambda z: z - z.exp().sum(1, keepdim=True).log(),
    "exp-of-logsumexp": lambda z: (z - z.logsumexp(1).unsqueeze(1)).exp(),
    "without-maximum": without_maximum,
    "powers-computed-twice": lambda z: z.exp() / z.exp().sum(1, keepdim=True),
    "transposed": transposed,
    "times-reciprocal": times_reciprocal,
    "times-power": times_power,
    "normalized": lambda z: nn.functional.normalize(z.exp(), p=1, dim=1),
    "module": nn.Sequential(nn.Sigmoid(), nn.Flatten(), nn.Threshold(-1, 0)),
}


IN_ONNX = ("log", "two-way-of-sigmoid", "exp-of-log-softmax", "tokens", "sigmoid-of-quotient", "log-softmax-by-hand")

# Beyond these gaps float32 cannot hold the square of a small probability, or of a large exponential.
LARGEST_GAPS = {
    "square": 40.0,
    "sigmoid-of-quotient": 40.0,
    "sigmoid-complement-by-hand": 40.0,
    "without-maximum": 40.0,
    "powers-computed-twice": 40.0,
    "transposed": 40.0,
    "times-reciprocal": 40.0,
    "times-power": 40.0,
    "normalized": 40.0,
}


class Ended(nn.Module):
    """A linear classifier of the pooled map, whose logits are ``gap, 0, ...`` for an image of ones."""

    def __init__(self, ending: Ending, gap: float) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, 3, 1, bias=False)
        self.fc = nn.Linear(3, CLASSES)
        self.ending = ending
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            self.features.weight.copy_(torch.rand(3, 1, 1, 1, generator=generator) + 0.5)
            self.fc.weight.copy_(torch.randn(CLASSES, 3, generator=generator))
            logits = torch.tensor([gap, 0.0, -gap / 8, 0.25])
            self.fc.bias.copy_(logits - self.fc.weight @ self.features.weight.flatten())

    def forward(self, image: Tensor) -> Tensor:
        return self.ending(self.fc(self.features(image).mean((2, 3))))


def maps(network: nn.Module, image: Tensor, *, lowered: bool = False) -> Tensor:
    """The maps of two columns of the output, before any scaling."""
    explainable = ExplainableModel(network.eval(), "features", normalize=False, signed=True, upsample="none", top_k=2)
    call = lower(explainable, image) if lowered else explainable
    cam: Tensor = call(image, torch.tensor([[0, 1]])).cam
    return cam.double()


def worst(got: Tensor, want: Tensor) -> float:
    """The largest difference of a map, relative to its largest value."""
    scale = want.abs().amax((2, 3), keepdim=True)
    assert (scale > 0).all(), "a map of zeros would prove nothing"
    return float(((got - want).abs() / scale).max())


IMAGE = torch.ones(1, 1, 2, 2) + torch.tensor([[[[0.0, 0.1], [-0.1, 0.0]]]])


@pytest.mark.parametrize("gap", [5.0, 16.0, 30.0, 60.0])
@pytest.mark.parametrize("name", ENDINGS)
def test_the_gradient_of_a_saturated_probability_is_exact(name: str, gap: float) -> None:
    gap = min(gap, LARGEST_GAPS.get(name, gap))
    network = Ended(ENDINGS[name], gap)
    got = maps(network, IMAGE)
    assert worst(got, maps(copy.deepcopy(network).double(), IMAGE.double())) < 1e-4


@pytest.mark.parametrize("gap", [5.0, 16.0])
@pytest.mark.parametrize("name", ENDINGS)
def test_the_gradient_is_that_of_plain_autograd_in_float64(name: str, gap: float) -> None:
    network = Ended(ENDINGS[name], gap).double()
    activations = network.features(IMAGE.double()).detach().requires_grad_()
    logits = network.fc(activations.mean((2, 3)))
    scores = logits.softmax(1) if name == "twice" else network.ending(logits)  # the last softmax is not differentiated
    expected = []
    for column in range(2):
        (gradient,) = torch.autograd.grad(scores[0, column], [activations], retain_graph=True)
        expected.append((gradient.mean((2, 3), keepdim=True) * activations.detach()).sum(1))
    assert worst(maps(network, IMAGE.double()), torch.stack(expected, 1)) < 1e-6


@pytest.mark.parametrize("name", ENDINGS)
def test_lowered_it_is_as_exact(name: str) -> None:
    network = Ended(ENDINGS[name], 30.0)
    got = maps(network, IMAGE, lowered=True)
    assert worst(got, maps(copy.deepcopy(network).double(), IMAGE.double())) < 1e-4


@pytest.mark.parametrize("name", IN_ONNX)
def test_in_onnx_runtime_it_is_as_exact(name: str, tmp_path: Path) -> None:
    network = Ended(ENDINGS[name], 30.0).eval()
    explainable = ExplainableModel(network, "features", normalize=False, signed=True, upsample="none", top_k=2)
    session = load(export(explainable, tmp_path / "net.onnx", IMAGE))
    got = torch.from_numpy(session(IMAGE, torch.tensor([[0, 1]])).cam).double()
    assert worst(got, maps(copy.deepcopy(network).double(), IMAGE.double())) < 1e-4


def logit_again(logits: Tensor) -> Tensor:
    return torch.logit(logits.sigmoid(), eps=1e-7)


LOST: dict[str, tuple[Ending, str]] = {
    "logit of sigmoid": (logit_again, "logit takes the distance of a probability to one"),
    "log1p": (lambda z: torch.log1p(-z.softmax(1)), "log1p takes the distance"),
    "noisy or": (lambda z: 1 - (1 - z.sigmoid()).prod(1, keepdim=True).expand(-1, 2), "prod takes the distance"),
    "log of the complement": (lambda z: -(1 - z.sigmoid()).log(), "log takes the distance"),
    "overflow": (lambda z: without_maximum(2.5 * z), "sum of exponentials that is too large"),
    "overflow, reciprocal": (lambda z: times_reciprocal(2.5 * z), "sum of exponentials that is too large"),
    "overflow, power": (lambda z: times_power(2.5 * z), "sum of exponentials that is too large"),
    "overflow, transposed": (lambda z: transposed(2.5 * z), "sum of exponentials that is too large"),
    "overflow, norm": (lambda z: ENDINGS["normalized"](2.5 * z), "sum of exponentials that is too large"),
    "overflow, sigmoid": (lambda z: 1 - (1 + (2.5 * z).exp()).reciprocal(), "sum of exponentials that is too large"),
}


@pytest.mark.parametrize("name", LOST)
def test_digits_that_are_lost_are_told(name: str) -> None:
    ending, reason = LOST[name]
    network = Ended(ending, 16.0 if "overflow" not in name else 30.0).eval()
    with pytest.warns(SaturationWarning, match=f"The output is saturated, so the map may be wrong: .*{reason}"):
        ExplainableModel(network, "features")(IMAGE, torch.tensor([0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error", SaturationWarning)
        ExplainableModel(Ended(ending, 3.0).eval(), "features")(IMAGE, torch.tensor([1]))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_a_saturated_sigmoid_of_a_scripted_part_is_told() -> None:
    part = torch.jit.script(nn.Sequential(nn.Sigmoid(), nn.Flatten()))  # type: ignore[no-untyped-call]
    network = Ended(lambda z: part(z) * 100, 16.0).eval()
    with pytest.warns(SaturationWarning, match="a sigmoid or tanh of a scripted module is saturated"):
        ExplainableModel(network, "features")(IMAGE, torch.tensor([0]))


@pytest.mark.filterwarnings("ignore::explainable_model.errors.SaturationWarning")
def test_a_map_that_is_no_number_is_refused() -> None:
    network = Ended(lambda z: torch.log1p(-z.softmax(1)), 30.0).eval()
    with pytest.raises(ModelError, match="map of class 0 is NaN"):
        ExplainableModel(network, "features")(IMAGE, torch.tensor([0]))
