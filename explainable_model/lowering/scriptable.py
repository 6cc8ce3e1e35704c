"""The lowered graph as a module that TorchScript compiles."""

import copy
import math
from typing import TYPE_CHECKING, Any

from explainable_model.artifact.shapes import SizeRange, spatial
from explainable_model.errors import InputError

if TYPE_CHECKING:
    from torch import fx, nn

    from explainable_model.lowering.lowered import LoweredModel


def scriptable(lowered: "LoweredModel") -> "nn.Module":
    """A module that ``torch.jit.script`` compiles: ``(image, class_idx=None) -> (logits, class_idx, cam)``.

    Raises:
        InputError: the network or the target takes extra inputs.
    """
    from explainable_model.lowering.scripted import ScriptedExplanation

    if lowered.example_inputs:
        raise InputError("Networks with extra inputs cannot be given to torch.jit.script: use export(..., 'net.ts').")
    return ScriptedExplanation(*scripted_parts(lowered)).eval()


def scripted_parts(lowered: "LoweredModel") -> tuple["nn.Module", list[int], list[int], list[int], int]:
    """The arguments of ``ScriptedParts``, with the graph in TorchScript's operators."""
    import torch
    from torch import fx

    from explainable_model.lowering.passes.in_place import write_in_place

    graph = copy.deepcopy(lowered.graph_module.graph)
    write_in_place(graph)
    _write_out_non_finite(graph)
    for node in graph.nodes:
        if node.target is torch.ops.aten.sym_size.int:
            node.target = torch.ops.aten.size.int
        if node.target is torch.sym_min:
            node.target = min
        if isinstance(node.target, torch._ops.OpOverload):
            node.target = node.target.overloadpacket  # TorchScript chooses the overload itself
    open_dims = spatial(range(lowered.example.ndim), lowered.pixels)
    allowed = dict(zip(open_dims, lowered.sizes, strict=True)) if lowered.sizes else {}
    ranges = [allowed.get(n, SizeRange(1)) for n in range(lowered.example.ndim)]
    return (
        fx.GraphModule(lowered.graph_module, graph),
        [-1 if n is None else n for n in lowered.image_shape],
        [size.minimum for size in ranges],
        [size.multiple for size in ranges],
        lowered.plan.top_k or 0,
    )


def _write_out_non_finite(graph: "fx.Graph") -> None:
    """``float("nan")`` for ``nan``, which ``torch.fx`` writes as a global name, and TorchScript knows none."""
    from torch.fx.node import map_aggregate

    for node in list(graph.nodes):

        def written(value: Any, node: Any = node) -> Any:
            if not isinstance(value, float) or math.isfinite(value):
                return value
            with graph.inserting_before(node):
                return graph.call_function(float, (str(value),))

        node.args, node.kwargs = map_aggregate(node.args, written), map_aggregate(node.kwargs, written)
