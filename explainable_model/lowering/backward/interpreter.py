"""Walk a forward graph backwards from the score to the target layer, in forward operations."""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.fx.traceback import set_current_meta

from explainable_model.errors import LoweringError
from explainable_model.lowering.backward.hand_written import gradients_by_hand, shifted_by_hand
from explainable_model.lowering.backward.tail import Tail
from explainable_model.lowering.graph import TAP, get_attribute, layer_of
from explainable_model.lowering.rules import LOWERINGS, PORTABLE_FORWARDS, SAVING_FORWARDS
from explainable_model.lowering.rules.call import Call, Lowering, bind, gradient_for, schema_arguments
from explainable_model.lowering.rules.fourier import refuse_complex
from explainable_model.lowering.rules.missing import missing_lowering
from explainable_model.lowering.rules.one_hot import OneHot, dense

aten = torch.ops.aten

# A folded batch norm may change strides, so that a strict view of the first trace fails.
RELAXED: Mapping[Any, Any] = {
    aten.view.default: aten.reshape.default,
    aten._unsafe_view.default: aten.reshape.default,
    **PORTABLE_FORWARDS,
}

Environment: TypeAlias = dict[fx.Node, Any]
Kernel: TypeAlias = Callable[..., Any]
Listener: TypeAlias = Callable[[fx.Node, Tensor], Tensor]


def run_forward(
    module: fx.GraphModule,
    tail: Tail,
    arguments: Sequence[Tensor],
    *,
    kernels: Mapping[Any, Kernel] | None = None,
    listen: Listener | None = None,
) -> tuple[Environment, Environment]:
    """Every node's value, and what some nodes saved for their gradient.

    Args:
        module: the graph.
        tail: the part of it that is to be differentiated.
        arguments: one for each input.
        kernels: what to call instead of some operators.
        listen: is called with the value at each of the tail's taps, and returns the value that replaces it.
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
    """One node's value. Where ``saved`` is given, it receives what the node saves for its gradient."""
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
        saved: what nodes saved for their gradient, from ``run_forward``.
        seed: gradient with respect to the scores.
        lowerings: the vector-Jacobian product of each operator.
        through_final: differentiate a final sigmoid or softmax instead of skipping it.
    """
    gradients: dict[fx.Node, Any] = {tail.output: seed}
    at_taps: dict[fx.Node, Tensor] = {}
    on_path, skipped = frozenset(tail.path), frozenset() if through_final else tail.skipped
    for node in reversed(tail.path):
        grad = gradients.pop(node, None)
        if grad is None:
            continue
        with set_current_meta(node):
            if node in tail.taps:
                at_taps[node] = grad = dense(grad)
                if len(at_taps) == len(tail.taps):
                    break
            if node.target is operator.getitem:
                _add_part(gradients, node, grad, values)
            elif node.target is TAP or node in skipped:
                _add(gradients, node.args[0], grad)
            else:
                _differentiate_node(node, grad, values, saved.get(node, {}), on_path, lowerings, gradients)
    return [at_taps[tap] if tap in at_taps else torch.zeros_like(values[tap]) for tap in tail.taps]


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
    grad = shifted_by_hand(node, grad, values)
    try:
        if op in LOWERINGS and lowering is LOWERINGS[op]:
            refuse_complex(op, {argument.name: value for argument, value in schema_arguments(op, args, kwargs)})
        result = gradients_by_hand(node, grad, values) or lowering(call, grad, **bind(lowering, op, args, kwargs))
        for name, source in needed.items():
            if isinstance(source, fx.Node):
                _add(gradients, source, gradient_for(call, result, name, values[source]))
    except LoweringError as error:
        raise LoweringError(f"In layer {layer_of(node)!r}: {error}") from error


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
