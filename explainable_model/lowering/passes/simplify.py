"""Remove nodes from a graph that do not change its values."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx

from explainable_model.lowering.graph import shape_text

aten = torch.ops.aten
IDENTITIES = (
    aten.lift_fresh_copy.default, aten.detach_.default, aten.detach.default, aten.alias.default, aten.clone.default,
)  # fmt: skip
# Operators that give the same values, in the same order, another shape.
RESHAPES = (
    aten.reshape.default,
    aten.view.default,
    aten.flatten.using_ints,
    aten.unflatten.int,
    aten.unsqueeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
)


def simplify(graph: fx.Graph) -> None:
    """Remove copies, reshapes that cancel, differences of a value and itself, and means of equal values."""
    drop_identities(graph)
    drop_zero_differences(graph)
    drop_reshapes(graph)
    drop_means_of_copies(graph)


def drop_identities(graph: fx.Graph) -> None:
    """Remove copies, for no operator of a lowered graph writes to its input."""
    for node in list(graph.nodes):
        if node.op == "call_function" and node.target in IDENTITIES and not node.kwargs:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def drop_zero_differences(graph: fx.Graph) -> None:
    """Replace ``y + (b - b)``, which the mark on a bias leaves behind, by ``y``."""
    for node in list(graph.nodes):
        terms = _called(node, aten.add.Tensor, 2)
        difference = _called(terms and terms[1], aten.sub.Tensor, 2)
        if terms and difference and difference[0] is difference[1] and shape_text(terms[0]) == shape_text(node):
            node.replace_all_uses_with(terms[0])
    graph.eliminate_dead_code()


def drop_reshapes(graph: fx.Graph) -> None:
    """Remove reshapes that restore a shape which the values had before."""
    for node in list(graph.nodes):
        if node.target in RESHAPES:
            same = [source for source in _before_reshapes(node) if shape_text(source) == shape_text(node)]
            if same:
                node.replace_all_uses_with(same[-1])
    graph.eliminate_dead_code()


def drop_means_of_copies(graph: fx.Graph) -> None:
    """Replace the mean of equal values by one of them.

    The gradient before global average pooling is the same at every position, so the mean over positions, which Grad-CAM
    takes, equals the value at one position. Neither the copies nor the mean are computed.
    """
    for node in list(graph.nodes):
        mean = _called(node, aten.mean.dim, 2)
        flat = _called(mean and mean[0], aten.flatten.using_ints, 2)
        copies = _called(flat and flat[0], aten.expand.default, 2)
        if mean is None or flat is None or copies is None:
            continue
        value, start = copies[0], flat[1]
        shape = shape_text(value)
        if mean[1] == [start] and len(shape) == len(copies[1]) and start > 0 and set(shape[start:]) == {"1"}:
            with graph.inserting_before(node):
                one = graph.call_function(aten.flatten.using_ints, (value, start - 1))
            one.meta = dict(node.meta)
            node.replace_all_uses_with(one)
    graph.eliminate_dead_code()


def _called(node: Any, target: Any, count: int) -> tuple[Any, ...] | None:
    """The arguments of a node that calls this operator with this number of arguments; ``None`` for any other node."""
    if isinstance(node, fx.Node) and node.target is target and len(node.args) == count and not node.kwargs:
        return node.args
    return None


def _before_reshapes(node: fx.Node) -> Iterator[fx.Node]:
    while node.target in RESHAPES:
        source = node.args[0]
        assert isinstance(source, fx.Node)
        yield source
        node = source
