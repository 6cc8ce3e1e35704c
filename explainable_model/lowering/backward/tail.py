"""The part of a graph that is differentiated: from the target layer to the score."""

import operator
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from explainable_model.attribution.final_activation import FINAL_ACTIVATIONS, REARRANGEMENTS
from explainable_model.attribution.plan import GRAPH_TAPS, Plan
from explainable_model.errors import LayerError, ModelError
from explainable_model.lowering.graph import TAP, layer_of, operator_name, output_nodes
from explainable_model.lowering.rules.call import Lowering

aten = torch.ops.aten

# The results of these have no gradient: the network stops it, or the operator reads only a shape.
WITHOUT_GRADIENT = frozenset(
    {aten.detach.default, aten.full_like.default, aten.zeros_like.default, aten.ones_like.default,
     aten.empty_like.default, aten.rand_like.default, aten.randn_like.default, aten.new_zeros.default,
     aten.new_ones.default, aten.new_full.default, aten.new_empty.default, aten.sign.default, aten.floor.default,
     aten.ceil.default, aten.round.default, aten.trunc.default}
)  # fmt: skip


@dataclass(frozen=True)
class Tail:
    """The part of the graph between the taps and the scores.

    Attributes:
        taps: the marks on the tapped layers' outputs; where a layer runs several times, on its last output.
        names: the tapped layer of each mark.
        output: the scores.
        logits: the prediction.
        path: every node through which the scores depend on a tap, in order.
    """

    taps: tuple[fx.Node, ...]
    names: tuple[str, ...]
    output: fx.Node
    logits: fx.Node
    path: tuple[fx.Node, ...]

    def missing(self, lowerings: Mapping[OpOverload, Lowering]) -> dict[OpOverload, str]:
        """Operators on the path without a lowering, each with the layer where it was first met."""
        missing: dict[OpOverload, str] = {}
        for node in self.path:
            target: Any = node.target
            known = target in lowerings or target in (TAP, operator.getitem) or node in self.skipped
            if not known:
                missing.setdefault(target, layer_of(node))
        return missing

    @property
    def skipped(self) -> frozenset[fx.Node]:
        """The final sigmoid or softmax, if the network ends in one: the score is the logit under it."""
        node = self.logits
        while operator_name(node) in REARRANGEMENTS and isinstance(node.args[0], fx.Node):
            node = node.args[0]
        return frozenset({node}) if operator_name(node) in FINAL_ACTIVATIONS else frozenset()


def find_tail(graph: fx.Graph, plan: Plan, *, required: bool = True) -> Tail:
    """Cut the graph at its taps.

    Args:
        graph: as from ``capture``, with the outputs ``(logits, class_idx, values, columns)``.
        plan: names the taps.
        required: refuse a layer that the scores do not depend on; otherwise its gradient is zero.

    Raises:
        LayerError: a layer did not run.
        ModelError: the prediction does not depend on one.
    """
    names, taps = _find_taps(graph, plan)
    logits, _, values, *_ = output_nodes(graph)
    reached: set[fx.Node] = set(taps)
    for node in graph.nodes:
        if node.op == "call_function" and carries_gradient(node) and reached.intersection(node.all_input_nodes):
            reached.add(node)
    used = set(_ancestors(values))
    path = tuple(node for node in graph.nodes if node in reached and node in used)
    for name, tap in zip(names, taps, strict=True):
        if required and (tap not in path or values not in path) and name in plan.layers:
            raise ModelError(
                f"The prediction does not depend on target_layer {name!r} through anything that can be "
                "differentiated. Choose a layer on the path to the output."
            )
    return Tail(tuple(taps), tuple(names), values, logits, path)


def dependent_nodes(tail: Tail, sources: Collection[fx.Node]) -> list[fx.Node]:
    """Every node through which the scores depend on other nodes, in order; masks and indices too, without a gradient.

    Args:
        tail: whose scores.
        sources: the other nodes, which are left out.
    """
    used, reached = set(_ancestors(tail.output)), set(sources)
    for node in tail.output.graph.nodes:
        if node.op == "call_function" and reached.intersection(node.all_input_nodes):
            reached.add(node)
    wanted = (reached & used).difference(sources)
    return [node for node in tail.output.graph.nodes if node in wanted]


def _find_taps(graph: fx.Graph, plan: Plan) -> tuple[list[str], list[fx.Node]]:
    marks: dict[str, list[fx.Node]] = {}
    for node in graph.nodes:
        if node.target is TAP:
            marks.setdefault(str(node.args[1]), []).append(node)
    names, taps = [], []
    for name in plan.tap_names:
        if name not in marks and name not in GRAPH_TAPS:
            raise LayerError(
                f"target_layer {name!r} did not run, or its output is not used. Containers such as ModuleList never "
                "run themselves: name a layer in them."
            )
        # A layer that runs several times is explained at its last call; every attention and bias counts.
        chosen = marks.get(name, []) if name in GRAPH_TAPS else marks[name][-1:]
        names += [name] * len(chosen)
        taps += chosen
    return names, taps


def carries_gradient(node: fx.Node) -> bool:
    """Whether a node has a floating point value through which a gradient can pass."""
    value = node.meta.get("val")
    values = value if isinstance(value, (tuple, list)) else [value]
    floating = any(isinstance(v, Tensor) and (v.is_floating_point() or v.is_complex()) for v in values)
    return floating and node.target not in WITHOUT_GRADIENT


def _ancestors(node: fx.Node) -> Iterator[fx.Node]:
    seen, stack = {node}, [node]
    while stack:
        current = stack.pop()
        yield current
        for source in current.all_input_nodes:
            if source not in seen:
                seen.add(source)
                stack.append(source)
