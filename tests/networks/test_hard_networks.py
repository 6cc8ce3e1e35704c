"""Networks with traits that break explainers: lowered and in every format as the eager module explains them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel, export, load, lower
from explainable_model.artifact.tolerances import TOLERANCES
from explainable_model.errors import ModelError
from explainable_model.exporters.describe import describe
from tests.support.nets import QUICK_FORMATS, images, seeded
from tests.test_model_input import Cut
from tests.test_model_networks import InPlaceAfter, NoGradLayer, PassThrough, Recurrent


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def classify(self, activations: Tensor) -> Tensor:
        return self.fc(torch.tanh(activations).mean((2, 3)))

    def forward(self, image: Tensor) -> Tensor:
        return self.classify(self.second(torch.tanh(self.first(image))))


class Heads(Plain):
    """Two heads and the features: the entry named logits is explained."""

    def __init__(self) -> None:
        super().__init__()
        self.coarse = nn.Linear(4, 2)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        features = torch.tanh(self.second(torch.tanh(self.first(image)))).mean((2, 3))
        return {"coarse": self.coarse(features), "logits": self.fc(features), "features": features}


class Aliases(Plain):
    """The same tensor twice, a view of it, and a feature map; the logits are a slice that is written to."""

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        activations = torch.tanh(self.first(image))
        both = torch.cat([self.classify(activations), activations.mean((2, 3))], 1)
        logits = both[:, :3]
        logits.mul_(2).add_(both[:, 3:6])
        return logits, logits, logits.view(-1, 3, 1), activations


class SharedLayer(Plain):
    """One layer in two places, both before the score: the last call is explained."""

    def forward(self, image: Tensor) -> Tensor:
        left = torch.tanh(self.second(torch.tanh(self.first(image))))
        right = torch.sigmoid(self.second(torch.tanh(self.first(image.flip(-1)))))
        return self.classify(left * right)


class SharedWeights(Plain):
    """Two layers with one weight, each with a batch norm of its own to be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.third = nn.Conv2d(4, 4, 3, padding=1)
        self.third.weight = self.second.weight
        self.norm2, self.norm3 = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, image: Tensor) -> Tensor:
        activations = torch.tanh(self.norm2(self.second(torch.tanh(self.first(image)))))
        return self.classify(self.norm3(self.third(activations)))


class RunningMean(Plain):
    """A buffer that is updated in place, one that is assigned, and a counter."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, 4, 1, 1))
        self.register_buffer("largest", torch.ones(1, 4, 1, 1))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, image: Tensor) -> Tensor:
        activations = self.first(image)
        self.calls += 1
        self.mean.mul_(0.9).add_(0.1 * activations.detach().mean((0, 2, 3), keepdim=True))
        self.largest = torch.maximum(self.largest, activations.detach().amax((0, 2, 3), keepdim=True))
        return self.classify(self.second((activations - self.mean) / self.largest))


class WritesToItsImage(Plain):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image.sub_(0.5).mul_(2))


class NoGradAfter(Plain):
    """A gate that the network computes without a gradient, with in-place operations and two results."""

    @torch.no_grad()
    def gate(self, activations: Tensor) -> tuple[Tensor, Tensor]:
        gate = self.second(activations).mul_(2)
        return torch.sigmoid(gate), activations.mean()

    def forward(self, image: Tensor) -> Tensor:
        activations = torch.tanh(self.first(image))
        gate, scale = self.gate(activations)
        return self.classify(activations * gate * scale)


class NoGradAround(Plain):
    """The layer and what follows it are in the network's no_grad, with blocks in the block."""

    def forward(self, image: Tensor) -> Tensor:
        with torch.no_grad():
            activations = torch.tanh(self.first(image) * 2)
            with torch.enable_grad():
                grown = activations * activations.exp()
            with torch.no_grad():
                gate = torch.sigmoid(grown)
        return self.classify(grown * gate)


class WithoutGradAtAll(Plain):
    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image)


class DetachedGate(Plain):
    def forward(self, image: Tensor) -> Tensor:
        activations = torch.tanh(self.first(image))
        return self.classify(activations * torch.sigmoid(self.second(activations)).detach())


class Lstm(Plain):
    """A layer that is recurrent inside, read along the width."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 4, batch_first=True)

    def forward(self, image: Tensor) -> Tensor:
        columns = torch.tanh(self.first(image)).mean(2).transpose(1, 2)
        return self.fc(self.lstm(columns)[0][:, -1])


def signal() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(3, 4, 5, 2), nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.MaxPool1d(2), nn.Conv1d(4, 4, 3),
        nn.Tanh(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip


def volume() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(3, 4, 3), nn.BatchNorm3d(4), nn.ReLU(inplace=True), nn.AvgPool3d(2), nn.Conv3d(4, 4, 2),
        nn.Tanh(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip


# What else the explanation of these networks needs.
ARGUMENTS: dict[Any, dict[str, Any]] = {Aliases: {"output": 0}, SharedLayer: {"call": -1}, Recurrent: {"call": -1}}

# Network, layer, size of the image
CASES: list[tuple[Callable[[], nn.Module], str, tuple[int, ...]]] = [
    (signal, "0", (3, 40)),
    (volume, "0", (3, 9, 10, 11)),
    (Heads, "first", (3, 16, 16)),
    (Aliases, "first", (3, 16, 16)),
    (SharedLayer, "second", (3, 16, 16)),
    (SharedLayer, "first", (3, 16, 16)),
    (SharedWeights, "first", (3, 16, 16)),
    (SharedWeights, "second", (3, 16, 16)),
    (RunningMean, "first", (3, 16, 16)),
    (WritesToItsImage, "first", (3, 16, 16)),
    (NoGradLayer, "conv", (3, 16, 16)),
    (NoGradAfter, "first", (3, 16, 16)),
    (NoGradAround, "first", (3, 16, 16)),
    (WithoutGradAtAll, "first", (3, 16, 16)),
    (DetachedGate, "first", (3, 16, 16)),
    (Lstm, "first", (3, 16, 16)),
    (Recurrent, "again", (3, 16, 16)),
    (InPlaceAfter, "conv", (3, 16, 16)),
    (PassThrough, "same", (3, 16, 16)),
]


@pytest.mark.parametrize(("build", "layer", "size"), CASES, ids=lambda value: getattr(value, "__name__", str(value)))
def test_lowered_and_every_format(
    build: Callable[[], nn.Module], layer: str, size: tuple[int, ...], tmp_path: Path
) -> None:
    network = seeded(build())
    state = {name: value.clone() for name, value in network.state_dict().items()}
    explainable = ExplainableModel(network, layer, **ARGUMENTS.get(build, {}))
    lowered = lower(explainable, images(2, size))
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    mutable = [n.target for n in lowered.graph_module.graph.nodes if getattr(n.target, "_schema", None)]
    assert not [target for target in mutable if target._schema.is_mutable], "the graph has no state"
    image, classes = images(3, size, seed=5), torch.tensor([0, 2, 1])
    want = explainable(image.clone(), classes)
    assert want.cam.flatten(1).amax(1).max() > 0.5, "a map of zeros would prove nothing"
    runners = [lowered]
    for fmt in QUICK_FORMATS:
        path = tmp_path / f"net{fmt.suffixes[0]}"
        fmt.write(lowered, path, describe(lowered, fmt.name, None, None).to_json())
        runners.append(load(path))
    for run in runners:
        for _ in range(2):  # the second answer is the first one
            got = run(image.clone(), classes)
            assert abs(torch.as_tensor(got.cam) - want.cam).max() <= TOLERANCES["float32"].cam
            assert abs(torch.as_tensor(got.logits) - want.logits).max() <= 1e-4 * want.logits.abs().max()
    if isinstance(network, RunningMean):
        assert network.calls == 1, "the eager call is the network's own, and counts"


def test_a_network_with_state_is_compared_as_it_was_lowered(tmp_path: Path) -> None:
    network = seeded(RunningMean())
    explainable = ExplainableModel(network, "first")
    for _ in range(3):
        explainable(images(2))
    mean = network.mean.clone()
    session = load(export(explainable, tmp_path / "net.ts", images(2)))
    assert network.calls == 3
    assert torch.equal(network.mean, mean)
    assert abs(session(images(2, seed=9)).cam - explainable(images(2, seed=9)).cam.numpy()).max() < 1e-4


@pytest.mark.parametrize("layer", ["conv", "side"])
def test_a_layer_frozen_by_detach_is_said_to_be(layer: str, tmp_path: Path) -> None:
    for suffix in (fmt.suffixes[0] for fmt in QUICK_FORMATS):
        with pytest.raises(ModelError, match=f"does not depend on target_layer '{layer}'.*detach"):
            export(ExplainableModel(seeded(Cut()), layer), tmp_path / f"net{suffix}", images(1))
    assert list(tmp_path.iterdir()) == []


class OwnGradient(torch.autograd.Function):
    """A network's own backward, which is not the derivative of its forward."""

    @staticmethod
    def forward(ctx, activations):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(activations)
        return activations.clamp(-0.5, 0.5)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        (activations,) = ctx.saved_tensors
        return grad * activations.cos()


class StraightThrough(Plain):
    def forward(self, image: Tensor) -> Tensor:
        return self.classify(self.second(OwnGradient.apply(self.first(image))))


def test_a_gradient_of_the_networks_own_is_noticed(tmp_path: Path) -> None:
    from explainable_model.errors import LoweringError

    with pytest.raises(LoweringError, match="differs from the map of StraightThrough.*autograd.Function OwnGradient"):
        export(ExplainableModel(seeded(StraightThrough()), "first"), tmp_path / "net.ts", images(1))
    assert list(tmp_path.iterdir()) == []
