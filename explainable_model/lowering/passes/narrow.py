"""Compute one position alone where the network reads no other.

A transformer with a class token classifies by one of its tokens. After the last attention that token depends on no
other token, so the last layers and their gradients are computed for a single row.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import fx
from torch._ops import OpOverload

from explainable_model.lowering.graph import shape_text, value_of

aten = torch.ops.aten

Rule: TypeAlias = Callable[[Any, int], "Needs | None"]  # of a node, and a dimension of its result
RESHAPES = (aten.reshape.default, aten.view.default, aten._unsafe_view.default)
# Element by element, without PyTorch's tag that says so.
UNTAGGED = (
    aten.contiguous.default, aten.alias.default, aten.dropout.default, aten.to.dtype, aten._to_copy.default,
    aten.hardswish.default,
)  # fmt: skip


class Cut(NamedTuple):
    """The one position that is read, of a dimension."""

    dim: int
    position: int


class Needs(NamedTuple):
    """What an operator needs for one position of its result.

    Attributes:
        dims: by number of the argument, the dimension in which the same position of it is enough.
        changed: other arguments that differ.
    """

    dims: Mapping[int, int]
    changed: Mapping[int, Any] = {}


def narrow_early(graph: fx.Graph) -> None:
    """Move the selection of a single position up, past operators that treat each position by itself.

    An operator stays as it is where more of its result is read, such as by the mark of a target layer: what is
    explained does not change.
    """
    pending: list[Any] = [node.args[0] for node in graph.nodes if _cut(node) is not None]
    cuts: set[fx.Node] = set()
    while pending:
        moved = _narrow(graph, pending.pop(), cuts)
        cuts |= moved
        pending += [cut.args[0] for cut in moved]
    graph.eliminate_dead_code()


def _narrow(graph: fx.Graph, producer: Any, made_here: set[fx.Node]) -> set[fx.Node]:
    """Compute one position of a node alone if no other is read; returns the new cuts of its arguments.

    The network's own selections stay and read the one position that is left, for the operators between a final
    activation and the output decide which scores are explained. Cuts that this pass has made are removed.
    """
    read = {_cut(user) for user in producer.users}
    cut = read.pop() if len(read) == 1 else None
    if cut is None or not isinstance(producer.target, OpOverload):
        return set()
    producer = _with_leading_dims(graph, producer)
    target = producer.target
    needs = _needs(producer, cut.dim)
    if needs is None or not needs.dims:
        return set()
    args: list[Any] = list(producer.args)
    with graph.inserting_before(producer):
        for number, value in needs.changed.items():
            args[number] = value
        for number, dim in needs.dims.items():
            part = graph.call_function(aten.slice.Tensor, (args[number], dim, cut.position, cut.position + 1))
            part.meta = _one_position(args[number], Cut(dim, cut.position), named_like=producer)
            args[number] = part
        one = graph.call_function(target, tuple(args), dict(producer.kwargs))
        one.meta = _one_position(producer, cut, named_like=producer)
        for user in list(producer.users):
            if user in made_here:
                user.replace_all_uses_with(one)
                graph.erase_node(user)
            else:
                user.args = (one, cut.dim, 0) if user.target is aten.select.int else (one, cut.dim, 0, 1)
    graph.erase_node(producer)
    return {args[number] for number in needs.dims}


def _cut(node: Any) -> Cut | None:
    """The position that a node reads; ``None`` for a node that reads several, or one of an open number."""
    if node.target not in (aten.select.int, aten.slice.Tensor) or node.kwargs:
        return None
    source, dim, *where = node.args
    value = value_of(source)
    if value is None or not isinstance(dim, int):
        return None
    dim %= value.ndim
    length = value.shape[dim]
    if not isinstance(length, int) or length < 2 or not where or not all(isinstance(bound, int) for bound in where):
        return None
    if node.target is aten.select.int:
        return Cut(dim, where[0] % length)
    positions = range(length)[slice(*where)]
    return Cut(dim, positions[0]) if len(positions) == 1 else None


def _with_leading_dims(graph: fx.Graph, node: Any) -> Any:
    """``linear(x.reshape(rows, features)).reshape(*leading, out)`` as ``linear(x.reshape(*leading, features))``.

    ``nn.MultiheadAttention`` projects its tokens so, and behind the reshape nothing tells them apart. Any other node
    stays as it is.
    """
    linear = node.args[0]
    if node.target not in RESHAPES or not _is_linear_of_rows(linear) or len(linear.users) > 1:
        return node
    flat: Any = linear.args[0]
    if flat.target not in RESHAPES or len(flat.users) > 1:
        return node
    source = flat.args[0]
    before, after = shape_text(source), shape_text(node)
    leading = len(after) - 1
    if before[:leading] != after[:leading] or after[-1] != shape_text(linear)[-1]:
        return node
    value, features = node.meta["val"], flat.meta["val"].shape[-1]
    with graph.inserting_before(node):
        rows = graph.call_function(aten.reshape.default, (source, [*node.args[1][:-1], features]))
        rows.meta = {**flat.meta, "val": source.meta["val"].reshape(*value.shape[:-1], features)}
        whole = graph.call_function(aten.linear.default, (rows, *linear.args[1:]))
        whole.meta = {**linear.meta, "val": value}
    node.replace_all_uses_with(whole)
    for replaced in (node, linear, flat):
        graph.erase_node(replaced)
    return whole


def _is_linear_of_rows(node: Any) -> bool:
    value = value_of(node)
    return value is not None and node.target is aten.linear.default and value.ndim == 2


def _one_position(node: Any, cut: Cut, *, named_like: fx.Node) -> dict[str, Any]:
    """The meta data of one position of a node's value."""
    return {**named_like.meta, "val": node.meta["val"].narrow(cut.dim, cut.position, 1)}


def _ndim(node: Any) -> int:
    """The number of dimensions of a node's value; -1 for anything else."""
    value = value_of(node)
    return -1 if value is None else value.ndim


def _needs(node: Any, dim: int) -> Needs | None:
    """``None`` where one position of the result needs more than one of an argument, or it is not known."""
    if node.target in UNTAGGED or torch.Tag.pointwise in node.target.tags:
        return _pointwise(node, dim)
    return RULES[node.target](node, dim) if node.target in RULES else None


def _pointwise(node: Any, dim: int) -> Needs | None:
    if any(value_of(argument) is not None for argument in node.kwargs.values()):
        return None
    dims = {number: dim - _ndim(node) + _ndim(argument) for number, argument in enumerate(node.args)}
    # Where the argument has no such dimension, or a single position, it is the same for all.
    return Needs({n: at for n, at in dims.items() if at >= 0 and shape_text(node.args[n])[at] != "1"})


def _over_last(node: Any, dim: int) -> Needs | None:
    """linear, layer_norm, rms_norm: over the last dimension, or the last ones."""
    over = len(node.args[1]) if isinstance(node.args[1], list | tuple) else 1
    return Needs({0: dim}) if dim < _ndim(node) - over else None


def _softmax(node: Any, dim: int) -> Needs | None:
    return Needs({0: dim}) if node.args[1] % _ndim(node) != dim else None


def _matmul(node: Any, dim: int) -> Needs | None:
    """The rows of the first factor; also its other dimensions, where the second is one matrix for all."""
    rows, columns = (_ndim(argument) for argument in node.args)
    if rows != _ndim(node):
        return None
    return Needs({0: dim}) if dim == rows - 2 or (columns == 2 and dim < rows - 2) else None


def _attention(node: Any, dim: int) -> Needs | None:
    """One query alone, but not under a mask, which differs from query to query."""
    given = dict(zip(("attn_mask", "dropout_p", "is_causal"), node.args[3:], strict=False)) | node.kwargs
    masked = given.get("attn_mask") is not None or given.get("is_causal", False)
    return Needs({0: dim}) if dim == _ndim(node) - 2 and not masked else None


def _transpose(node: Any, dim: int) -> Needs | None:
    one, other = (swapped % _ndim(node) for swapped in node.args[1:])
    return Needs({0: {one: other, other: one}.get(dim, dim)})


def _permute(node: Any, dim: int) -> Needs | None:
    return Needs({0: node.args[1][dim] % _ndim(node)})


def _reshape(node: Any, dim: int) -> Needs | None:
    """Where everything up to the dimension keeps its shape, or everything from there on."""
    before, after = shape_text(node.args[0]), shape_text(node)
    behind = len(after) - dim
    if before[: dim + 1] == after[: dim + 1]:
        source_dim = dim
    elif before[-behind:] == after[-behind:]:
        source_dim = len(before) - behind
    else:
        return None
    if node.target is aten.flatten.using_ints:
        given: list[int] = [*node.args[1:]]
        start, end = given + [0, -1][len(given) :]
        return None if start % len(before) <= source_dim <= end % len(before) else Needs({0: source_dim})
    sizes = list(node.args[1])
    sizes[dim] = 1
    return Needs({0: source_dim}, {1: sizes})


RULES: Mapping[OpOverload, Rule] = {
    aten.linear.default: _over_last,
    aten.layer_norm.default: _over_last,
    aten.rms_norm.default: _over_last,
    aten.softmax.int: _softmax,
    aten._softmax.default: _softmax,
    aten.matmul.default: _matmul,
    aten.scaled_dot_product_attention.default: _attention,
    aten.transpose.int: _transpose,
    aten.permute.default: _permute,
    aten.flatten.using_ints: _reshape,
    **dict.fromkeys(RESHAPES, _reshape),
}
