"""Operators that write into their operand: where they may, and that nobody notices."""

import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel, lower
from explainable_model.exporters.torchscript import script
from explainable_model.lowering.passes.in_place import FRESH, POINTWISE, write_in_place
from tests.support.nets import TinyResNet, images, seeded


class Allowed(nn.Module):
    """Chains of fresh values, each read once; the second operand may be smaller."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).relu() + self.conv(x).mean((2, 3), keepdim=True)
        return torch.nn.functional.hardswish(y * 2) + x[:, :1, 1:-1, 1:-1].sigmoid()


class Forbidden(nn.Module):
    """The caller's image, views, weights, values that are read again, given back, or of another shape or dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4))
        self.exact = nn.Buffer(torch.randn(4, 1, 1, dtype=torch.float64))
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        image = x.relu()
        view = x.view(-1, 3, 64).exp()
        weight = self.weight * 2
        again = self.conv(x)
        read = again.sigmoid() * again
        given = self.conv(x)
        broadcast = self.conv(x[:, :, :1, :1]) + given
        double = self.conv(x) * self.exact
        flat = self.conv(x).flatten(2).exp()
        return image, view, weight, read, given, given.tanh(), broadcast, double, flat


def written(module: nn.Module, x: Tensor) -> tuple[torch.fx.GraphModule, list[str]]:
    program = torch.export.export(module.eval(), (x,))
    graph = program.module()
    assert isinstance(graph, torch.fx.GraphModule)
    write_in_place(graph.graph)
    graph.recompile()
    names = [str(node.target).split(".")[1] for node in graph.graph.nodes if str(node.target).startswith("aten.")]
    return graph, [name for name in names if name.endswith("_")]


def test_chains_of_fresh_values_are_written_over() -> None:
    module, x = Allowed(), torch.randn(2, 3, 8, 8)
    graph, found = written(module, x)
    assert found == ["relu_", "add_", "mul_", "hardswish_", "add_"]
    assert torch.equal(graph(x), module(x))


def test_nothing_else_is_written_over() -> None:
    module, x = Forbidden(), torch.randn(2, 3, 8, 8)
    before = x.clone()
    graph, found = written(module, x)
    assert found == ["mul_"]  # the sigmoid's own result
    for got, want in zip(graph(x), module(before), strict=True):
        assert torch.equal(got, want)
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", POINTWISE)
def test_every_pointwise_operator_has_a_form_in_place(name: str) -> None:
    functional, in_place = getattr(torch.ops.aten, name), getattr(torch.ops.aten, f"{name}_")
    of_tensors = [
        overload
        for overload in functional.overloads()
        if "out" not in overload and str(getattr(functional, overload)._schema.arguments[0].type) == "Tensor"
    ]
    assert of_tensors
    assert set(of_tensors) <= set(in_place.overloads())
    assert f"{name}_" in FRESH


@pytest.mark.parametrize("layer", ["layer1", "layer2"])
def test_a_scripted_explanation_can_be_called_again(layer: str) -> None:
    explainable = ExplainableModel(seeded(TinyResNet()), layer)
    lowered = lower(explainable, images(2))
    scripted = script(lowered)
    assert "aten::relu_(" in str(scripted.inlined_graph)
    fresh = images(3, seed=5)
    before = fresh.clone()
    with torch.no_grad():
        first, second = scripted(fresh), scripted(fresh)
        want = lowered(fresh)
    assert torch.equal(fresh, before)
    for a, b, c in zip(first, second, want, strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, c)
    assert not any("_." in str(node.target) for node in lowered.graph_module.graph.nodes), "the lowered graph stays"
