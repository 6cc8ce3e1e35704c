"""A weighted sum over the positions of a map, in a graph, and its parts."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from explainable_model.lowering.graph import add_constant, get_attribute, insert_like, value_of

aten = torch.ops.aten

ROWS = 256
EXACT = (torch.float32, torch.float64)  # elsewhere a rounded mean of weights is coarser than a mean of rounded products

Build: TypeAlias = Callable[[], fx.Node]
"""Inserts the nodes of a weighted sum over positions, ``(N, channels)``, and returns the last one."""
Rule: TypeAlias = Callable[["PositionSums", Any, Tensor], Build | None]
"""Of the sums, a node ``(N, channels, *positions)`` and the weight of each position."""


def has_fixed_positions(node: Any) -> bool:
    """Whether a node is ``(N, channels, *positions)`` of known sizes, but for N, and in an exact precision."""
    value = value_of(node)
    fixed = value is not None and value.ndim > 2 and all(isinstance(length, int) for length in value.shape[1:])
    return fixed and value is not None and value.dtype in EXACT


class PositionSums:
    """Finds the cheapest form of a weighted sum over the positions of a node.

    Args:
        module: the graph.
        like: the node whose place the sum takes; new nodes get its layer.
        rules: how an operator is passed.
    """

    def __init__(self, module: fx.GraphModule, like: fx.Node, rules: Mapping[OpOverload, Rule]) -> None:
        self._module, self._graph, self._like, self._rules = module, module.graph, like, rules

    def find(self, node: Any, weight: Tensor) -> Build | None:
        """The sum of ``node[:, :, p] * weight[p]`` over positions p, if some product is spared.

        Args:
            node: ``(N, channels, *positions)``.
            weight: of each position, float64.
        """
        if not isinstance(node, fx.Node) or not isinstance(node.target, OpOverload) or node.target not in self._rules:
            return None
        if len(node.users) > 1 or not has_fixed_positions(node) or node.kwargs:
            return None
        return self._rules[node.target](self, node, weight)

    def sum(self, node: fx.Node, weight: Tensor) -> fx.Node:
        """The sum as it stands: over all positions."""
        flat = self.insert(aten.flatten.using_ints, node, 2)
        even, tolerance = float(weight.mean()), 4 * torch.finfo(node.meta["val"].dtype).eps
        if bool(((weight - even).abs() <= tolerance * abs(even)).all()):
            mean = self.insert(aten.mean.dim, flat, [2])
            factor = even * weight.numel()
            return mean if abs(factor - 1) <= tolerance else self.insert(aten.mul.Tensor, mean, factor)
        column = self.constant("position_weight", weight.reshape(-1, 1), node)
        return self.insert(aten.flatten.using_ints, self.insert(aten.matmul.default, flat, column), 1)

    def constant(self, name: str, value: Tensor, like: fx.Node) -> fx.Node:
        """A constant with the dtype and on the device of a node's value."""
        fake: Any = like.meta["val"]
        return add_constant(self._module, name, value.to(fake.dtype))

    def insert(self, target: Any, *args: Any) -> fx.Node:
        """A call in the layer of the mean."""
        return insert_like(self._graph, self._like, target, *args)

    def weight_of(self, node: Any) -> Tensor | None:
        """The value of a constant."""
        return get_attribute(self._module, node) if isinstance(node, fx.Node) else None

    def mean_of_columns(self, weight: fx.Node, share: Tensor, like: fx.Node) -> fx.Node:
        """``(rows, channels)`` of a constant ``(rows, channels * positions)``, summed in float64."""
        value = get_attribute(self._module, weight)
        assert value is not None
        columns = share.flatten().to(value.device)
        with torch.no_grad():  # some rows at a time, for in float64 the weight takes twice its memory
            parts = value.detach().unflatten(1, (-1, len(columns))).split(ROWS)  # type: ignore[no-untyped-call]
            means = torch.cat([part.double() @ columns for part in parts])
        return self.constant(f"{weight.target}_mean", means, like)

    def shared_kernel(self, kernel: Tensor) -> fx.Node | None:
        """The network's own weight of a single place whose transpose a kernel is."""
        wanted = kernel.transpose(0, 1)
        for node in self._graph.nodes:
            value = get_attribute(self._module, node)
            if value is not None and value.shape == wanted.shape and torch.equal(value, wanted):
                return node  # type: ignore[no-any-return]
        return None
