"""In-place operators become functional ones exactly where nothing else can see what they write."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

from explainable_model.lowering.capture.functionalize import functionalize
from tests.support.nets import images

Forward = Callable[[Tensor, Tensor], Tensor]  # (image, its convolution) -> output


class Written(nn.Module):
    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.then = forward

    def forward(self, image: Tensor) -> Tensor:
        return self.then(image, self.conv(image))


def activation(image: Tensor, made: Tensor) -> Tensor:
    return made.relu_() + made  # both are the result


def read_before_and_after(image: Tensor, made: Tensor) -> Tensor:
    before = made * 2
    return functional.silu(made, inplace=True) + before * made


def chain(image: Tensor, made: Tensor) -> Tensor:
    written = made.add_(image.mean(1, keepdim=True)).relu_()
    return written * made + made.mul_(2).sigmoid()


def two_sources(image: Tensor, made: Tensor) -> Tensor:
    other = made.exp()
    other += made
    made += other
    return made * other


def without_effect(image: Tensor, made: Tensor) -> Tensor:
    return functional.dropout(made, 0.5, training=False).mul_(3) + functional.dropout(made, 0.5, False, inplace=True)


def view_before(image: Tensor, made: Tensor) -> Tensor:
    rows = made.flatten(2)
    made.relu_()
    return rows.sum(2, keepdim=True) + made.mean(2)


def view_written(image: Tensor, made: Tensor) -> Tensor:
    made[:, 1].relu_()
    return made * 2


def view_of_the_written(image: Tensor, made: Tensor) -> Tensor:
    first = made.relu_()
    rows = first.flatten(2)
    made.mul_(2)
    return rows + made.flatten(2)


def assignment(image: Tensor, made: Tensor) -> Tensor:
    made[..., 0] = 1
    return made


def image_written(image: Tensor, made: Tensor) -> Tensor:
    return image.clone(memory_format=torch.preserve_format).relu_() + made.sum(1, keepdim=True)


def half(image: Tensor, made: Tensor) -> Tensor:
    return made.half().add_(made).float()  # in the dtype of the written, not of the sum


def without_gradient(image: Tensor, made: Tensor) -> Tensor:
    with torch.no_grad():
        scale = made.amax().relu_()
    return made / scale


EXCHANGED = (activation, read_before_and_after, chain, two_sources, without_effect, image_written)
LEFT = (view_before, view_written, view_of_the_written, assignment, half, without_gradient)


def exported(forward: Forward) -> tuple[nn.Module, torch.fx.GraphModule]:
    torch.manual_seed(0)
    network = Written(forward).eval()
    program = torch.export.export(network, (images(2),), dynamic_shapes=({0: Dim("batch", min=1)},), strict=False)
    graph = program.module()
    assert isinstance(graph, torch.fx.GraphModule)
    return network, graph


def in_place(graph: torch.fx.GraphModule) -> list[str]:
    schemas = [getattr(node.target, "_schema", None) for node in graph.graph.nodes]
    return [schema.name for schema in schemas if schema is not None and schema.is_mutable]


@pytest.mark.parametrize("forward", EXCHANGED, ids=lambda forward: forward.__name__)
def test_exchanged_where_nothing_shares_the_memory(forward: Forward) -> None:
    network, graph = exported(forward)
    assert in_place(graph)
    assert functionalize(graph.graph)
    assert in_place(graph) == []
    graph.graph.lint()
    graph.recompile()
    for batch in (1, 3):
        assert torch.equal(graph(images(batch, seed=batch)), network(images(batch, seed=batch)))


@pytest.mark.parametrize("forward", LEFT, ids=lambda forward: forward.__name__)
def test_left_where_it_is_not_sure(forward: Forward) -> None:
    network, graph = exported(forward)
    before = in_place(graph)
    assert not functionalize(graph.graph)
    assert in_place(graph) == before
    graph.recompile()
    assert torch.equal(graph(images(2, seed=5)), network(images(2, seed=5)))
