"""A network that keeps tensors between its calls can be copied and lowered after it was explained."""

import copy
from collections import deque
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel, lower
from explainable_model.eager.kept_tensors import find_graphs, graphs_put_aside
from tests.support.nets import images, seeded


class Pair(NamedTuple):
    first: Tensor
    second: Tensor


class Keeper(nn.Module):
    """A table made of a parameter is added to the features; ``keep`` stores it, and the features, in some container."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.conv, self.body = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1)
        self.bias, self.head = nn.Parameter(torch.randn(4, 8)), nn.Linear(8, 4)
        self.register_buffer("seen", torch.zeros(1), persistent=False)
        self.store: Any = {"dict": {}, "list": [], "deque": deque(maxlen=1), "object": SimpleNamespace()}.get(kind)

    def table(self) -> Tensor:
        """Made at the first call in evaluation mode, and kept."""
        if self.kind == "dict" and "table" in self.store:
            kept: Tensor = self.store["table"]
            return kept
        return self.bias[torch.arange(8) % 4]

    def keep(self, table: Tensor, features: Tensor) -> None:
        if self.kind == "dict":
            self.store.update(table=table, nested={"features": [features]})
        elif self.kind in ("list", "deque"):
            self.store.append(features)
        elif self.kind == "attribute":
            self.last_features = features
        elif self.kind == "tuple":
            self.last = (table, (1, features))
        elif self.kind == "namedtuple":
            self.last = Pair(table, features)  # type: ignore[assignment]
        elif self.kind == "object":
            self.store.features = features
        elif self.kind == "buffer":
            self.seen = features

    def forward(self, image: Tensor) -> Tensor:
        features = self.body(self.conv(image).relu())
        table = self.table()
        self.keep(table, features)
        scores: Tensor = self.head(features.mean((2, 3)) + table.mean(0))
        return scores


class Skips(nn.Module):
    """Hooks keep features for the skip connection, as fastai's U-Nets do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(16, 4, 1)
        self.kept = Saved()
        self.first.register_forward_hook(self.kept.hook)

    def forward(self, image: Tensor) -> Tensor:
        features = self.second(self.first(image).relu()).relu()
        scores: Tensor = self.head(torch.cat([features, self.kept.stored], 1))
        return scores.mean((2, 3))


class Saved:
    """What a forward hook saw."""

    stored: Tensor

    def hook(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.stored = output


KINDS = ["dict", "list", "deque", "attribute", "tuple", "namedtuple", "object", "buffer"]


def build(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return seeded(Skips() if kind == "hook" else Keeper(kind))


@pytest.mark.parametrize("layer", ["body", "conv"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_graph_stays_after_an_explanation(kind: str, layer: str) -> None:
    network, image = build(kind), images(2)
    explanation = ExplainableModel(network, layer)(image)
    assert explanation.cam.amax() > 0.5
    assert not list(find_graphs(network))
    copy.deepcopy(network)
    assert torch.equal(explanation.cam, ExplainableModel(build(kind), layer)(image).cam)


@pytest.mark.parametrize("kind", ["dict", "attribute", "tuple"])
def test_the_network_is_lowered_after_calls_with_gradients(kind: str) -> None:
    network, image = build(kind).double(), images(2).double()
    network(image)  # the user's own call
    kept = {id(place.get()) for place in find_graphs(network)}
    assert kept
    explainable = ExplainableModel(network, "conv")
    lowered = lower(explainable, image)
    assert (lowered(image).cam - explainable(image).cam).abs().max() < 1e-9


def test_what_a_hook_keeps_is_found() -> None:
    network, image = build("hook"), images(2)
    explainable = ExplainableModel(network, "first")
    wanted = ExplainableModel(build("hook"), "first").attribute(image).gradients
    assert torch.equal(explainable.attribute(image).gradients, wanted)
    assert not list(find_graphs(network))
    copy.deepcopy(network)


def test_a_graph_of_the_user_comes_back() -> None:
    network, image = build("attribute"), images(1)
    network(image)
    features = network.last_features
    with graphs_put_aside(network):
        assert not network.last_features.requires_grad
    assert network.last_features is features
    assert features.requires_grad
