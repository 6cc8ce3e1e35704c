"""Walk a forward graph backwards from the score to the target layer, in forward operations."""

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.fx.traceback import preserve_node_meta, set_current_meta

from explainable_model.errors import LayerError, LoweringError, ModelError
from explainable_model.lowering.call import Call, Lowering, bind, gradient_for, schema_arguments
from explainable_model.lowering.capture import TAP, layer_of
from explainable_model.lowering.fold import get_attribute
from explainable_model.lowering.one_hot import OneHot, dense
from explainable_model.lowering.rules import SAVING_FORWARDS

aten = torch.ops.aten

# Where the network ends in one of these, the score is the logit under it.
FINAL_ACTIVATIONS = frozenset(
    {aten.sigmoid.default, aten.softmax.int, aten._softmax.default, aten.log_softmax.int,
     aten._log_softmax.default, aten.log_sigmoid.default}
)  # fmt: skip
# Operations between a final activation and the output that only rearrange or copy.
REARRANGEMENTS = frozenset(
    {aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.flatten.using_ints,
     aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims, aten.unsqueeze.default, aten.alias.default,
     aten.clone.default, aten.permute.default, aten.transpose.int, aten.t.default, aten._to_copy.default,
     aten.to.dtype, aten.dropout.default, aten.contiguous.default, aten.unflatten.int}
)  # fmt: skip
# A folded batch norm may change strides, so that a strict view of the first trace fails.
RELAXED = {aten.view.default: aten.reshape.default, aten._unsafe_view.default: aten.reshape.default}
# Nothing differentiable comes out of these: the network stops the gradient itself, or only a shape is read.
WITHOUT_GRADIENT = frozenset(
    {aten.detach.default, aten.full_like.default, aten.zeros_like.default, aten.ones_like.default,
     aten.empty_like.default, aten.rand_like.default, aten.randn_like.default, aten.new_zeros.default,
     aten.new_ones.default, aten.new_full.default, aten.new_empty.default, aten.sign.default, aten.floor.default,
     aten.ceil.default, aten.round.default, aten.trunc.default}
)  # fmt: skip

Environment = dict[fx.Node, Any]


@dataclass(frozen=True)
class Tail:
    """The part of the graph between the target layer and the logits.

    Attributes:
        tap: the mark on the target layer's output (the last, where the layer runs several times).
        output: the logits.
        path: every node through which the logits depend on the tap, in order.
    """

    tap: fx.Node
    output: fx.Node
    path: tuple[fx.Node, ...]

    def missing(self, lowerings: Mapping[OpOverload, Lowering]) -> dict[OpOverload, str]:
        """Operators on the path without a lowering, each with the layer where it was first met."""
        found: dict[OpOverload, str] = {}
        for node in self.path:
            target: Any = node.target
            known = target in lowerings or target in (TAP, operator.getitem) or node in self.skipped
            if not known:
                found.setdefault(target, layer_of(node))
        return found

    @property
    def skipped(self) -> frozenset[fx.Node]:
        """The final sigmoid or softmax, if the network ends in one."""
        node = self.output
        while node.target in REARRANGEMENTS and isinstance(node.args[0], fx.Node):
            node = node.args[0]
        return frozenset({node}) if node.target in FINAL_ACTIVATIONS else frozenset()


def find_tail(graph: fx.Graph, layer: str) -> Tail:
    """Cut the graph at the target layer.

    Raises:
        LayerError: the layer did not run.
        ModelError: the prediction does not depend on it.
    """
    taps = [node for node in graph.nodes if node.target is TAP]
    if not taps:
        raise LayerError(
            f"target_layer {layer!r} did not run, or its output is not used. Containers such as ModuleList never "
            "run themselves: name a layer in them."
        )
    (logits,) = next(node for node in reversed(graph.nodes) if node.op == "output").args
    output = logits if isinstance(logits, fx.Node) else logits[0]
    reached = {taps[-1]}
    for node in graph.nodes:
        if node.op == "call_function" and _carries_gradient(node) and reached.intersection(node.all_input_nodes):
            reached.add(node)
    used = set(_ancestors(output))
    path = tuple(node for node in graph.nodes if node in reached and node in used)
    if output not in path:
        raise ModelError(
            f"The prediction does not depend on target_layer {layer!r} through anything that can be differentiated. "
            "Choose a layer on the path to the output."
        )
    return Tail(taps[-1], output, path)


def _carries_gradient(node: fx.Node) -> bool:
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


def run_forward(module: fx.GraphModule, tail: Tail, image: Tensor) -> tuple[Environment, Environment]:
    """Every node's value, and what the forward of some saved for their gradient."""
    values: Environment = {}
    saved: Environment = {}
    on_path = frozenset(tail.path)
    for node in module.graph.nodes:
        if node.op == "placeholder":
            values[node] = image
        elif node.op == "get_attr":
            values[node] = get_attribute(module, node)
        elif node.target is TAP:
            values[node] = values[node.args[0]]
        elif node.op == "call_function":
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: values[n])
            with set_current_meta(node):
                if node in on_path and node.target in SAVING_FORWARDS:
                    values[node], saved[node] = SAVING_FORWARDS[node.target](*args, **kwargs)
                else:
                    values[node] = RELAXED.get(node.target, node.target)(*args, **kwargs)
    return values, saved


def run_backward(
    tail: Tail,
    values: Environment,
    saved: Environment,
    seed: Tensor | OneHot,
    lowerings: Mapping[OpOverload, Lowering],
) -> Tensor:
    """Gradient of the score with respect to the target layer's output.

    Args:
        tail: the part of the graph to differentiate.
        values: the value of each node, from ``run_forward``.
        saved: what the forward kept, from ``run_forward``.
        seed: gradient of the score with respect to the logits.
        lowerings: the vector-Jacobian product of each operator.
    """
    gradients: dict[fx.Node, Any] = {tail.output: seed}
    on_path, skipped = frozenset(tail.path), tail.skipped
    for node in reversed(tail.path):
        grad = gradients.pop(node, None)
        if grad is None:
            continue
        if node is tail.tap:
            return dense(grad)
        if node.target is TAP:  # an earlier call of the same layer
            continue
        with set_current_meta(node):
            if node.target is operator.getitem:
                _add_part(gradients, node, grad, values)
            elif node in skipped:
                _add(gradients, node.args[0], grad)
            else:
                _differentiate_node(node, grad, values, saved.get(node, {}), on_path, lowerings, gradients)
    return torch.zeros_like(values[tail.tap])


def _differentiate_node(
    node: fx.Node,
    grad: Any,
    values: Environment,
    saved: Mapping[str, Tensor],
    on_path: frozenset[fx.Node],
    lowerings: Mapping[OpOverload, Lowering],
    gradients: dict[fx.Node, Any],
) -> None:
    op: Any = node.target
    needed = _needed(node, on_path)
    if not needed:
        return
    lowering = lowerings.get(op)
    if lowering is None:
        raise missing_lowering({op: layer_of(node)})
    if not getattr(lowering, "takes_one_hot", False):
        grad = dense(grad)
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: values[n])
    call = Call(op, values[node], frozenset(needed), saved)
    try:
        result = lowering(call, grad, **bind(lowering, op, args, kwargs))
    except LoweringError as error:
        raise LoweringError(f"In layer {layer_of(node)!r}: {error}") from error
    for name, source in needed.items():
        if isinstance(source, fx.Node):
            _add(gradients, source, gradient_for(call, result, name))


def _needed(node: fx.Node, on_path: frozenset[fx.Node]) -> dict[str, Any]:
    """Argument name -> node, for each argument through which the gradient passes."""
    needed: dict[str, Any] = {}
    op: Any = node.target
    for argument, value in schema_arguments(op, node.args, node.kwargs):
        if isinstance(value, fx.Node) and value in on_path:
            needed[argument.name] = value
        elif isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                if isinstance(item, fx.Node) and item in on_path:
                    needed[f"{argument.name}[{index}]"] = item
                    needed[argument.name] = None
    return needed


def _add(gradients: dict[fx.Node, Any], node: Any, grad: Any) -> None:
    if grad is None:
        return
    before = gradients.get(node)
    gradients[node] = grad if before is None else dense(before) + dense(grad)


def _add_part(gradients: dict[fx.Node, Any], node: fx.Node, grad: Any, values: Environment) -> None:
    """Gradient of one output of an operator that has several."""
    source, index = node.args
    assert isinstance(source, fx.Node)
    assert isinstance(index, int)
    parts = gradients.setdefault(source, [None] * len(values[source]))
    grad = dense(grad)
    parts[index] = grad if parts[index] is None else parts[index] + grad


def missing_lowering(missing: Mapping[OpOverload, str]) -> LoweringError:
    """The error that names every operator without a lowering and a layer where it is met."""
    named = ", ".join(f"{op} (from {layer or 'the network itself'})" for op, layer in missing.items())
    return LoweringError(
        f"Cannot lower {named}: add a row to LOWERINGS in lowering/rules, or pass "
        f"lowerings={{operator: vector-Jacobian product}}."
    )


__all__ = ["OneHot", "Tail", "find_tail", "missing_lowering", "preserve_node_meta", "run_backward", "run_forward"]
