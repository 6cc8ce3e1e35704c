"""What is read from an FX graph: its outputs, values, operators, constants and layers."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import SymInt, Tensor, fx, nn
from torch._ops import OpOverload

# The mark is an operator of its own: unlike the layer's name in a node's metadata it survives
# functionalization, in-place operations after the layer, and layers that return their input.
_library: Any = torch.library.Library("explainable_model", "DEF")  # type: ignore[no-untyped-call]
_library.define("tap(Tensor activations, str layer) -> Tensor")
_library.impl("tap", lambda activations, layer: activations.clone(), "CompositeExplicitAutograd")
TAP: OpOverload = torch.ops.explainable_model.tap.default


def output_nodes(graph: fx.Graph) -> Sequence[fx.Node]:
    """The nodes that the graph returns."""
    outputs: Any = next(node for node in reversed(graph.nodes) if node.op == "output").args[0]
    return list(outputs)


def operator_name(node: fx.Node) -> str:
    """The name of a node's ATen operator without overload and leading underscore; empty for any other node."""
    return node.target._schema.name.partition("::")[2].lstrip("_") if isinstance(node.target, OpOverload) else ""


def value_of(node: Any) -> Tensor | None:
    """The traced value of a node; ``None`` of anything but a node that stands for one tensor."""
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return value if isinstance(value, Tensor) else None


def shape_text(node: Any) -> tuple[str, ...]:
    """The shape as text: open lengths are equal where their expressions are, without a guard."""
    value = value_of(node)
    if value is None:
        return (f"of {node}",)
    return tuple(str(length.node.expr) if isinstance(length, SymInt) else str(length) for length in value.shape)


def get_attribute(module: nn.Module, node: fx.Node | None) -> Tensor | None:
    """The tensor that a ``get_attr`` node stands for; ``None`` for any other node."""
    if node is None or node.op != "get_attr":
        return None
    value: Any = module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value if isinstance(value, Tensor) else None


def add_constant(module: fx.GraphModule, name: str, value: Tensor) -> fx.Node:
    """Register a constant (under a free name like this one) and return the node that reads it."""
    parent, _, leaf = name.rpartition(".")
    owner, stem, count = module.get_submodule(parent), leaf, 0
    while hasattr(owner, leaf):
        count += 1
        leaf = f"{stem}_{count}"
    owner.register_buffer(leaf, value.detach().contiguous())
    node = module.graph.get_attr(f"{parent}.{leaf}".lstrip("."))
    node.meta["val"] = value
    return node


def insert_like(graph: fx.Graph, like: fx.Node, target: Any, *args: Any) -> fx.Node:
    """Insert a call in the layer of another node, with the shape of its result recorded."""
    node = graph.call_function(target, args)
    node.meta.update({key: value for key, value in like.meta.items() if key != "val"})
    mode = like.meta["val"].fake_mode

    def fake(argument: fx.Node) -> Any:
        value = argument.meta["val"]
        return mode.from_tensor(value) if type(value) in (Tensor, nn.Parameter) else value  # a constant

    values = fx.node.map_arg(args, fake)
    with mode:
        node.meta["val"] = target(*values)
    return node


def drop_unused_attributes(module: fx.GraphModule) -> None:
    """Forget parameters and buffers that no node reads, so that no weight is stored twice."""
    used = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    names = [name for name, _ in (*module.named_parameters(), *module.named_buffers())]
    for name in names:
        if name not in used:
            parent, _, leaf = name.rpartition(".")
            delattr(module.get_submodule(parent), leaf)
    module.delete_all_unused_submodules()


def layer_of(node: fx.Node) -> str:
    """Name of the layer that a node came from, or an empty string."""
    stack: Mapping[str, tuple[str, Any]] = node.meta.get("nn_module_stack") or {}
    path = list(stack.values())[-1][0] if stack else ""
    for prefix in ("L['self']", "model"):
        path = path.removeprefix(prefix).removeprefix(".")
    return path
