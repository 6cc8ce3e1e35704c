"""A pass for runtimes that keep no plan of their memory: results go where an operand lay that nobody reads again.

A fresh block of memory for every activation costs as much as the activation itself; networks are therefore trained
with ``ReLU(inplace=True)``, which ``torch.export`` takes out.
"""

from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

aten = torch.ops.aten
# Element by element; each has a form that writes into its first operand, called the same but for an underscore.
POINTWISE = (
    "add", "clamp", "clamp_min", "div", "elu", "exp", "floor", "gelu", "hardsigmoid", "hardswish", "hardtanh",
    "leaky_relu", "mul", "neg", "relu", "rsqrt", "sigmoid", "silu", "sqrt", "sub", "tanh",
)  # fmt: skip
# What gives memory of its own, never a view.
FRESH = frozenset(
    (
        *POINTWISE, *(f"{name}_" for name in POINTWISE), "addmm", "avg_pool2d", "batch_norm", "bmm", "cat", "conv1d",
        "conv2d", "conv3d", "conv_transpose2d", "convolution", "linear", "matmul", "max_pool2d", "mm",
    )
)  # fmt: skip


def write_in_place(graph: fx.Graph) -> None:
    """Let operators write into their first operand where that is fresh, read once, and like the result."""
    for node in graph.nodes:
        name = _name(node)
        if name in POINTWISE and _may_be_written(node.args[0], node):
            node.target = getattr(getattr(aten, f"{name}_"), node.target._overloadname)


def _may_be_written(operand: Any, node: fx.Node) -> bool:
    if not isinstance(operand, fx.Node) or _name(operand) not in FRESH or len(operand.users) > 1:
        return False
    before, after = operand.meta.get("val"), node.meta.get("val")
    if not isinstance(before, Tensor) or not isinstance(after, Tensor) or before.dtype != after.dtype:
        return False
    return [str(n) for n in before.shape] == [str(n) for n in after.shape]  # as text: no guard on an open length


def _name(node: fx.Node) -> str:
    return str(node.target).split(".")[1] if isinstance(node.target, OpOverload) else ""
