"""Write each result into the buffer of an operand whose last reader has run, for runtimes that do not plan memory.

A new buffer for every activation costs as much time as the activation itself. Networks therefore use
``ReLU(inplace=True)``, which ``torch.export`` replaces by ``ReLU()``.
"""

from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

aten = torch.ops.aten
# Operators that work element by element. Each has a form that writes into its first operand, ``add_`` for ``add``.
POINTWISE = (
    "add", "clamp", "clamp_min", "div", "elu", "exp", "floor", "gelu", "hardsigmoid", "hardswish", "hardtanh",
    "leaky_relu", "mul", "neg", "relu", "rsqrt", "sigmoid", "silu", "sqrt", "sub", "tanh",
)  # fmt: skip
# Operators whose result is a buffer of its own, never a view.
FRESH = frozenset(
    (
        *POINTWISE, *(f"{name}_" for name in POINTWISE), "addmm", "avg_pool2d", "batch_norm", "bmm", "cat", "conv1d",
        "conv2d", "conv3d", "conv_transpose2d", "convolution", "linear", "matmul", "max_pool2d", "mm",
    )
)  # fmt: skip


def write_in_place(graph: fx.Graph) -> None:
    """Let operators write into their first operand, where it has its own buffer, one reader and the result's shape."""
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
