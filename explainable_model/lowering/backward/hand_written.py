"""Exact gradients, in a graph, of a softmax, log-softmax or sigmoid that is written by hand.

``eager.hand_written`` recognizes the same forms in autograd's graph.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from explainable_model.attribution.saturation import log_softmax_gradient, shifted
from explainable_model.lowering.graph import value_of

aten = torch.ops.aten

VIEWS = (
    aten.unsqueeze.default, aten.view.default, aten.reshape.default, aten.expand.default, aten.expand_as.default,
    aten.clamp_min.default, aten.clamp.default,
)  # fmt: skip
TRANSPOSES = (aten.t.default, aten.numpy_T.default, aten.permute.default, aten.transpose.int)


def shifted_by_hand(node: fx.Node, grad: Any, values: Mapping[fx.Node, Any]) -> Any:
    """The gradient of ``a / sum(a)``, less its entry at the largest quotient; any other gradient as it is."""
    if node.target not in (aten.div.Tensor, aten.mul.Tensor) or not isinstance(grad, Tensor):
        return grad
    pairs = [node.args[:2]] if node.target is aten.div.Tensor else [node.args[:2], node.args[1::-1]]
    for part, total in pairs:
        dims = _total_dims(total, part, inverted=node.target is aten.mul.Tensor)
        if dims is not None:
            return shifted(grad, values[node], dims)
    return grad


def gradients_by_hand(node: fx.Node, grad: Any, values: Mapping[fx.Node, Any]) -> Mapping[str, Tensor] | None:
    """The gradients of ``x - logsumexp(x)`` and of ``a / (a + 1)``, all through ``x`` and ``a``; else ``None``."""
    if not isinstance(grad, Tensor) or len(node.args) < 2:
        return None
    one: Any = node.args[0]
    other: Any = node.args[1]
    if node.target is aten.sub.Tensor and not node.kwargs:
        dim = _log_sum_dim(other, one)
        if dim is not None:
            return {"self": log_softmax_gradient(grad, values[node], dim), "other": torch.zeros_like(values[other])}
    if node.target is aten.div.Tensor:
        constant = _added_constant(other, one)
        if constant is not None:
            whole = values[other]
            return {"self": grad / whole * (constant / whole), "other": torch.zeros_like(whole)}
    return None


def _behind(node: Any, targets: tuple[Any, ...]) -> Any:
    while isinstance(node, fx.Node) and node.target in targets:
        node = node.args[0]
    return node


def _total_dims(node: Any, summed: Any, *, inverted: bool) -> list[int] | None:
    node = _behind(node, VIEWS)
    if inverted:
        is_power = _is(node, aten.pow.Tensor_Scalar) and node.args[1] == -1
        if not is_power and not _is(node, aten.reciprocal.default):
            return None
        node = _behind(node.args[0], VIEWS)
    is_norm = _is(node, aten.linalg_vector_norm.default) and node.args[1] == 1
    position = 2 if is_norm else 1
    if not (is_norm or _is(node, aten.sum.dim_IntList)) or len(node.args) <= position:
        return None
    dims, source = list(node.args[position]), node.args[0]
    if _is_same(source, summed):
        return dims
    value = value_of(summed) if isinstance(summed, fx.Node) else None
    if value is not None and value.ndim == 2 and summed.target in TRANSPOSES and _is_same(source, summed.args[0]):
        return [1 - dim % 2 for dim in dims]
    return None


def _added_constant(node: Any, part: Any) -> Any:
    if not _is(node, aten.add.Tensor) or node.kwargs:
        return None
    one, other = node.args
    if _is_same(one, part) and isinstance(other, (int, float)):
        return other
    return one if _is_same(other, part) and isinstance(one, (int, float)) else None


def _log_sum_dim(node: Any, source: Any) -> int | None:
    node = _behind(node, VIEWS)
    if _is(node, aten.log.default):
        total = node.args[0]
        if not _is(total, aten.sum.dim_IntList) or not _is(total.args[0], aten.exp.default):
            return None
        dims, summed = total.args[1], total.args[0].args[0]
    elif _is(node, aten.logsumexp.default):
        dims, summed = node.args[1], node.args[0]
    else:
        return None
    dims = [dims] if isinstance(dims, int) else dims
    return int(dims[0]) if len(dims) == 1 and _is_same(summed, source) else None


def _is(node: Any, target: Any) -> bool:
    return isinstance(node, fx.Node) and node.target is target


def _is_same(one: Any, other: Any) -> bool:
    """Whether two nodes are one value: the same node, or the same operator of the same values."""
    if one is other or not isinstance(one, fx.Node) or not isinstance(other, fx.Node):
        return one is other
    if one.target is not other.target or one.op != "call_function" or len(one.args) != len(other.args):
        return False
    if value_of(one) is None or one.kwargs != other.kwargs:
        return False
    pairs = zip(one.args, other.args, strict=True)
    return all(_is_same(a, b) if isinstance(a, fx.Node) else a == b for a, b in pairs)
