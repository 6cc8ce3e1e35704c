"""Passes that leave out what changes nothing: the values stay, the nodes go."""

from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel, lower
from explainable_model.lowering.passes.simplify import simplify
from tests.support.nets import seeded


class Reshapes(nn.Module):
    """Back and forth, and one reshape that stays."""

    def forward(self, x: Tensor) -> Tensor:
        back = x.reshape(-1, 1, 4, 3, 3).flatten(0, 1).unsqueeze(1).flatten(0, 1).relu()
        return back.flatten(1).reshape(-1, 4, 9)


class Means(nn.Module):
    """Of equal values, and of values that differ: in one dimension, or because copies were only part of it."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pooled = x.mean((2, 3), keepdim=True)
        equal = pooled.expand(-1, -1, 3, 3).flatten(2).mean(2)
        rows = x.mean(3, keepdim=True).expand(-1, -1, 3, 3).flatten(2).mean(2)
        channels = pooled.expand(-1, -1, 3, 3).flatten(1).mean(1)
        return equal, rows, channels


def simplified(module: nn.Module) -> tuple[nn.Module, Counter[str]]:
    image = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    batch = torch.export.Dim("batch", min=1)
    graph = torch.export.export(module, (image,), dynamic_shapes=({0: batch},)).module()
    simplify(graph.graph)
    graph.recompile()
    return graph, Counter(str(n.target).split(".")[1] for n in graph.graph.nodes if n.op == "call_function")


@pytest.mark.parametrize("module", [Reshapes(), Means()])
def test_values_stay(module: nn.Module) -> None:
    graph, _ = simplified(module)
    for batch in (1, 5):
        image = torch.randn(batch, 4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(batch))
        for got, want in zip(graph(image), module(image), strict=True):
            assert torch.allclose(got, want, rtol=1e-14, atol=1e-15)
            assert got.shape == want.shape


def test_reshapes_that_lead_back_go() -> None:
    _, counts = simplified(Reshapes())
    assert counts == {"relu": 1, "flatten": 1, "reshape": 1}


def test_means_of_equal_values_go() -> None:
    _, counts = simplified(Means())
    assert counts["mean"] == 4  # of six: the pooled one is not asked for again
    assert counts["expand"] == 2


def test_no_gradient_is_spread_behind_pooling() -> None:
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6), nn.SiLU(), nn.Linear(6, 3))
    network = seeded(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), head))
    lowered = lower(ExplainableModel(network, "1"), torch.randn(2, 3, 8, 8))
    names = {str(node.target) for node in lowered.graph_module.graph.nodes}
    assert not names & {"aten.expand.default", "aten.mean.dim"}
