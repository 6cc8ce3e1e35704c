"""Average a gradient over the positions of the layer before the last products, not after them.

Grad-CAM reads the mean of the gradient over all positions. Behind ``flatten -> linear`` the gradient is ``g W`` with
``W (outputs, channels * positions)``; its mean is ``g`` times the mean of ``W``, which is a constant with one column
for each channel. The weight is not read a second time. Behind a convolution, the mean over positions is a weighted sum
of ``g`` for each place of the kernel, and one product with the kernel.
"""

import math
from typing import Any

import torch
from torch import fx

from explainable_model.lowering.graph import drop_unused_attributes, output_nodes
from explainable_model.lowering.passes.position_rules import RULES
from explainable_model.lowering.passes.position_sums import PositionSums, has_fixed_positions

aten = torch.ops.aten


def average_early(module: fx.GraphModule) -> int:
    """Move each mean over positions up, past linear operators of which nothing else is read.

    Returns:
        How many means were moved.
    """
    moved = 0
    prediction = _ancestors(output_nodes(module.graph)[0])  # it stays the network's own, to the last bit
    for node in list(module.graph.nodes):
        gradient = _averaged(node)
        if gradient is None or node in prediction:
            continue
        with module.graph.inserting_before(node):
            positions = gradient.meta["val"].shape[2:]
            share = torch.full(tuple(positions), 1.0 / math.prod(positions), dtype=torch.float64)
            build = PositionSums(module, node, RULES).find(gradient, share)
            if build is not None:
                node.replace_all_uses_with(build())
                moved += 1
    if moved:
        module.graph.eliminate_dead_code()
        drop_unused_attributes(module)
        module.recompile()
    return moved


def _ancestors(node: fx.Node) -> set[fx.Node]:
    found, pending = {node}, [node]
    while pending:
        new = [source for source in pending.pop().all_input_nodes if source not in found]
        found.update(new)
        pending += new
    return found


def _averaged(node: fx.Node) -> fx.Node | None:
    """``X (N, channels, *positions)`` of a node ``X.flatten(2).mean(2)``; ``None`` for any other node."""
    if node.target is not aten.mean.dim or node.kwargs or len(node.args) != 2 or node.args[1] not in ([2], [-1]):
        return None
    flat: Any = node.args[0]
    if flat.target is aten.flatten.using_ints and flat.args[1:] in ((2,), (2, -1)) and len(flat.users) == 1:
        return flat.args[0] if has_fixed_positions(flat.args[0]) else None
    is_line = has_fixed_positions(flat) and flat.meta["val"].ndim == 3  # one spatial dimension needs no flatten
    return flat if is_line else None
