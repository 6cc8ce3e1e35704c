"""Walk a forward graph backwards from the score to the target layer, in forward operations."""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.fx.traceback import set_current_meta

from explainable_model.attribution.plan import ATTENTION_LAYERS, Plan
from explainable_model.errors import LayerError, LoweringError, ModelError
from explainable_model.lowering.graph import TAP, get_attribute, layer_of, output_nodes
from explainable_model.lowering.rules import PORTABLE_FORWARDS, SAVING_FORWARDS
from explainable_model.lowering.rules.call import Call, Lowering, bind, gradient_for, schema_arguments
from explainable_model.lowering.rules.one_hot import OneHot, dense

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
RELAXED: Mapping[Any, Any] = {
    aten.view.default: aten.reshape.default,
    aten._unsafe_view.default: aten.reshape.default,
    **PORTABLE_FORWARDS,
}
# Nothing differentiable comes out of these: the network stops the gradient itself, or only a shape is read.
WITHOUT_GRADIENT = frozenset(
    {aten.detach.default, aten.full_like.default, aten.zeros_like.default, aten.ones_like.default,
     aten.empty_like.default, aten.rand_like.default, aten.randn_like.default, aten.new_zeros.default,
     aten.new_ones.default, aten.new_full.default, aten.new_empty.default, aten.sign.default, aten.floor.default,
     aten.ceil.default, aten.round.default, aten.trunc.default}
)  # fmt: skip

Environment: TypeAlias = dict[fx.Node, Any]
Kernel: TypeAlias = Callable[..., Any]
Listener: TypeAlias = Callable[[fx.Node, Tensor], Tensor]


@dataclass(frozen=True)
class Tail:
    """The part of the graph between the taps and the scores.

    Attributes:
        taps: the marks on what is listened to (the last one, where a layer runs several times).
        names: what each of them marks.
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
        found: dict[OpOverload, str] = {}
        for node in self.path:
            target: Any = node.target
            known = target in lowerings or target in (TAP, operator.getitem) or node in self.skipped
            if not known:
                found.setdefault(target, layer_of(node))
        return found

    @property
    def skipped(self) -> frozenset[fx.Node]:
        """The final sigmoid or softmax, if the network ends in one: the score is the logit under it."""
        node = self.logits
        while node.target in REARRANGEMENTS and isinstance(node.args[0], fx.Node):
            node = node.args[0]
        return frozenset({node}) if node.target in FINAL_ACTIVATIONS else frozenset()


def find_tail(graph: fx.Graph, plan: Plan, *, required: bool = True) -> Tail:
    """Cut the graph at its taps.

    Args:
        graph: as from ``capture``, with the outputs ``(logits, class_idx, values, columns)``.
        plan: names the taps.
        required: refuse a layer that the scores do not depend on; else its gradient is zero.

    Raises:
        LayerError: a layer did not run.
        ModelError: the prediction does not depend on one.
    """
    names, taps = _find_taps(graph, plan)
    logits, _, values, *_ = output_nodes(graph)
    reached: set[fx.Node] = set(taps)
    for node in graph.nodes:
        if node.op == "call_function" and _carries_gradient(node) and reached.intersection(node.all_input_nodes):
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


def _find_taps(graph: fx.Graph, plan: Plan) -> tuple[list[str], list[fx.Node]]:
    marks: dict[str, list[fx.Node]] = {}
    for node in graph.nodes:
        if node.target is TAP:
            marks.setdefault(str(node.args[1]), []).append(node)
    names, taps = [], []
    for name in plan.tap_names:
        if name not in marks:
            raise LayerError(
                f"target_layer {name!r} did not run, or its output is not used. Containers such as ModuleList never "
                "run themselves: name a layer in them."
            )
        # A layer that runs several times is explained at its last call; every attention counts.
        found = marks[name] if name == ATTENTION_LAYERS else marks[name][-1:]
        names += [name] * len(found)
        taps += found
    return names, taps


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


def run_forward(
    module: fx.GraphModule,
    tail: Tail,
    arguments: Sequence[Tensor],
    *,
    kernels: Mapping[Any, Kernel] | None = None,
    listen: Listener | None = None,
) -> tuple[Environment, Environment]:
    """Every node's value, and what the forward of some saved for their gradient.

    Args:
        module: the graph.
        tail: the part of it that is to be differentiated.
        arguments: one for each input.
        kernels: what to call instead of some operators.
        listen: is shown the value at each of the tail's taps, and may exchange it.
    """
    values: Environment = {}
    saved: Environment = {}
    on_path = frozenset(tail.path)
    given = iter(arguments)
    for node in module.graph.nodes:
        if node.op == "placeholder":
            values[node] = next(given)
        elif node.op == "get_attr":
            values[node] = get_attribute(module, node)
        elif node.op == "call_function":
            values[node] = run_node(node, values, saved if node in on_path else None, kernels or {})
            if listen is not None and node in tail.taps:
                values[node] = listen(node, values[node])
    return values, saved


def run_node(
    node: fx.Node, values: Mapping[fx.Node, Any], saved: Environment | None, kernels: Mapping[Any, Kernel]
) -> Any:
    """One node's value; what its forward saves goes into ``saved``, where there is one."""
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: values[n])
    target: Any = node.target
    with set_current_meta(node):
        if target in kernels:
            return kernels[target](*args, **kwargs)
        if target is TAP:
            return args[0]
        if saved is not None and target in SAVING_FORWARDS:
            result, saved[node] = SAVING_FORWARDS[target](*args, **kwargs)
            return result
        return RELAXED.get(target, target)(*args, **kwargs)


def run_backward(
    tail: Tail,
    values: Mapping[fx.Node, Any],
    saved: Environment,
    seed: Tensor | OneHot,
    lowerings: Mapping[OpOverload, Lowering],
    *,
    through_final: bool = False,
) -> list[Tensor]:
    """Gradient of the scores with respect to the output of each tap.

    Args:
        tail: the part of the graph to differentiate.
        values: the value of each node, from ``run_forward``.
        saved: what the forward kept, from ``run_forward``.
        seed: gradient with respect to the scores.
        lowerings: the vector-Jacobian product of each operator.
        through_final: differentiate a final sigmoid or softmax as well.
    """
    gradients: dict[fx.Node, Any] = {tail.output: seed}
    found: dict[fx.Node, Tensor] = {}
    on_path, skipped = frozenset(tail.path), frozenset() if through_final else tail.skipped
    for node in reversed(tail.path):
        grad = gradients.pop(node, None)
        if grad is None:
            continue
        with set_current_meta(node):
            if node.target is TAP:
                if node in tail.taps:
                    grad = found[node] = dense(grad)
                if len(found) == len(tail.taps):
                    break
                if node.args[0] in on_path:
                    _add(gradients, node.args[0], grad)
            elif node.target is operator.getitem:
                _add_part(gradients, node, grad, values)
            elif node in skipped:
                _add(gradients, node.args[0], grad)
            else:
                _differentiate_node(node, grad, values, saved.get(node, {}), on_path, lowerings, gradients)
    return [found[tap] if tap in found else torch.zeros_like(values[tap]) for tap in tail.taps]


def _differentiate_node(
    node: fx.Node,
    grad: Any,
    values: Mapping[fx.Node, Any],
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


def _add_part(gradients: dict[fx.Node, Any], node: fx.Node, grad: Any, values: Mapping[fx.Node, Any]) -> None:
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
