"""Remove devices from a graph, so that it runs where its weights and its image are."""

import math
import operator
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload

from explainable_model.errors import LoweringError
from explainable_model.lowering.graph import add_constant, layer_of

aten = torch.ops.aten
CONVERSIONS = (aten.to.dtype_layout, aten.to.device, aten._to_copy.default)
# Operators that make a tensor of numbers alone.
FACTORIES = frozenset(
    {aten.full.default, aten.zeros.default, aten.ones.default, aten.empty.memory_format, aten.scalar_tensor.default,
     aten.arange.default, aten.arange.start, aten.arange.start_step, aten.eye.default, aten.eye.m,
     aten.linspace.default}
)  # fmt: skip


def free_of_devices(module: fx.GraphModule) -> None:
    """Remove every device from a graph.

    A tensor of fixed size and numbers becomes a constant, which moves with the module. A tensor of open size is made on
    the image's device. A conversion keeps its dtype alone.
    """
    image = next(node for node in module.graph.nodes if node.op == "placeholder")
    for node in list(module.graph.nodes):
        if node.op != "call_function" or not isinstance(node.target, OpOverload):
            continue
        if node.target in FACTORIES:
            is_fixed = not node.all_input_nodes
            with module.graph.inserting_before(node):
                made = node.target(*node.args, **node.kwargs) if is_fixed else None
                _replace(node, _make_on(image, node) if made is None else add_constant(module, "constant", made))
        elif node.target in CONVERSIONS:
            _keep_dtype(node)
        elif "device" in node.kwargs:
            node.kwargs = {name: value for name, value in node.kwargs.items() if name != "device"}


def _replace(node: fx.Node, new: fx.Node) -> None:
    new.meta.update(node.meta)
    node.replace_all_uses_with(new)
    node.graph.erase_node(node)


def _make_on(image: fx.Node, node: fx.Node) -> fx.Node:
    """The same tensor of open size, made on the image's device."""
    call, dtype, target = node.graph.call_function, node.meta["val"].dtype, node.target
    args: Any = node.args
    if target is aten.full.default:
        return call(aten.new_full.default, (image, args[0], args[1]), {"dtype": dtype})
    if target is aten.scalar_tensor.default:
        return call(aten.new_full.default, (image, [], args[0]), {"dtype": dtype})
    if target in (aten.zeros.default, aten.empty.memory_format):
        return call(aten.new_zeros.default, (image, args[0]), {"dtype": dtype})
    if target is aten.ones.default:
        return call(aten.new_ones.default, (image, args[0]), {"dtype": dtype})
    if target in (aten.eye.default, aten.eye.m):
        rows, columns = (_positions(image, n, dtype) for n in (args[0], args[-1]))
        same = call(aten.eq.Tensor, (call(aten.unsqueeze.default, (rows, 1)), columns))
        return call(aten.to.dtype, (same, dtype))
    start, end = (0, args[0]) if target is aten.arange.default else args[:2]
    whole = isinstance(end.meta["val"] if isinstance(end, fx.Node) else end, (int, torch.SymInt))
    if target is aten.linspace.default or args[2:3] not in ((), (1,)) or not whole:
        raise LoweringError(
            f"Cannot lower {target} with an open size (from {layer_of(node)}) so that it runs on any device. Lower the "
            "network with dynamic_size=False, or write it with torch.arange(end)."
        )
    if start == 0:
        return _positions(image, end, dtype)
    first = start if isinstance(start, fx.Node) else math.floor(start)  # 0.5, 1.5, ... are as many as 0, 1, ...
    return call(aten.add.Tensor, (_positions(image, call(operator.sub, (end, first)), dtype), start))


def _positions(image: fx.Node, length: Any, dtype: torch.dtype) -> fx.Node:
    """``0, 1, 2, ...``"""
    call = image.graph.call_function
    ones = call(aten.new_ones.default, (image, [length]), {"dtype": dtype})
    return call(aten.add.Tensor, (call(aten.cumsum.default, (ones, 0)), -1))


def _keep_dtype(node: fx.Node) -> None:
    """``to(device, dtype, ...)`` -> ``to(dtype)``, or nothing where it has that dtype."""
    source: Any = node.args[0]
    new, old = node.meta["val"].dtype, source.meta["val"].dtype
    if node.target is aten._to_copy.default and "device" not in node.kwargs:
        return
    if new == old:
        node.replace_all_uses_with(source)
        node.graph.erase_node(node)
    else:
        node.target, node.args, node.kwargs = aten.to.dtype, (source, new), {}
