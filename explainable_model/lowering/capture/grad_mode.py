"""Inline the ``no_grad`` blocks of a network; values from them have no gradient, as in autograd."""

from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

aten = torch.ops.aten
WRAPPED: Any = torch.ops.higher_order.wrap_with_set_grad_enabled


def inline_grad_mode(module: torch.nn.Module, graph: fx.Graph, tap: OpOverload) -> None:
    """Put the operators of each ``no_grad`` block in its place, and a ``detach`` behind what it returns.

    The block with the target layer is the exception: the eager module starts its gradient there, inside
    the block, and follows it to the end.

    Args:
        module: holds the blocks as graph modules.
        graph: where they are called, changed in place.
        tap: the mark on the target layer's output.
    """
    for call in [node for node in graph.nodes if node.target is WRAPPED]:
        arguments: Any = call.args
        enabled, where, *inputs = arguments
        block = module.get_submodule(where.target)
        assert isinstance(block, fx.GraphModule)
        inline_grad_mode(block, block.graph, tap)
        has_tap = any(node.target is tap for node in block.graph.nodes)
        placeholders = [node for node in block.graph.nodes if node.op == "placeholder"]
        with graph.inserting_before(call):
            outputs: Any = graph.graph_copy(block.graph, dict(zip(placeholders, inputs, strict=True)))
            if not enabled and not has_tap:
                outputs = [_detached(graph, output) for output in outputs]
        for part in list(call.users):  # each takes one output
            index: Any = part.args[1]
            part.replace_all_uses_with(outputs[index])
            graph.erase_node(part)
        graph.erase_node(call)
        if not where.users:
            graph.erase_node(where)


def _detached(graph: fx.Graph, output: Any) -> Any:
    value = output.meta.get("val") if isinstance(output, fx.Node) else None
    if not isinstance(value, Tensor):
        return output
    detached = graph.call_function(aten.detach.default, (output,))
    detached.meta.update(output.meta)
    return detached
