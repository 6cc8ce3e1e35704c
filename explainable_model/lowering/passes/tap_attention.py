"""Write attention out step by step, so that its probabilities, scores, queries, keys and values can be tapped."""

import math
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, fx

from explainable_model.attribution.plan import (
    ATTENTION_KEYS,
    ATTENTION_LAYERS,
    ATTENTION_OUTPUTS,
    ATTENTION_QUERIES,
    ATTENTION_SCORES,
    ATTENTION_TAPS,
    ATTENTION_VALUES,
)
from explainable_model.errors import LoweringError, ModelError
from explainable_model.lowering.graph import TAP, insert_like, layer_of
from explainable_model.lowering.rules.call import schema_arguments
from explainable_model.lowering.shapes import known

aten = torch.ops.aten
FUSED = aten.scaled_dot_product_attention.default
SOFTMAX = (aten.softmax.int, aten._softmax.default)
PRODUCTS = (aten.matmul.default, aten.bmm.default)
# Between the product of queries and keys and the softmax: a scale, a bias by position, a mask.
BEFORE_SOFTMAX = {
    aten.mul.Tensor, aten.mul.Scalar, aten.div.Tensor, aten.div.Scalar, aten.add.Tensor, aten.sub.Tensor,
    aten.where.self, aten.where.ScalarOther, aten.where.ScalarSelf, aten.masked_fill.Scalar, aten.masked_fill.Tensor,
    aten.to.dtype, aten._to_copy.default, aten.clone.default, aten.contiguous.default, aten.reshape.default,
    aten.view.default, aten.alias.default,
}  # fmt: skip
# Between the softmax and the product with the values.
BEHIND_SOFTMAX = {
    aten.dropout.default, aten.to.dtype, aten._to_copy.default, aten.clone.default, aten.contiguous.default,
    aten.expand.default, aten.reshape.default, aten.view.default, aten.alias.default, TAP,
}  # fmt: skip


def tap_attention(graph: fx.Graph, names: Collection[str] = (ATTENTION_LAYERS,)) -> None:
    """Mark values of the attention of every block.

    Probabilities and scores are ``(N, heads, T, T)``; queries, keys, values and outputs ``(N, heads, T, d)``. Fused
    attention becomes ``softmax(q k' / sqrt(d)) v``.

    Args:
        graph: as from ``capture``.
        names: of ``ATTENTION_TAPS``.

    Raises:
        ModelError: the network has no attention, or what is asked for cannot be found in it.
        LoweringError: fused attention of a kind that vision networks do not use (causal, grouped queries).
    """
    for node in list(graph.nodes):
        if node.target is FUSED:
            _write_out(graph, node)
    attentions = [node for node in list(graph.nodes) if node.target in SOFTMAX and _is_attention(node)]
    if not attentions:
        raise ModelError(
            "The network has no attention over tokens, whose probabilities the method reads. Use a method that "
            "explains at a layer."
        )
    batch = next(node for node in graph.nodes if node.op == "placeholder").meta["val"].shape[0]
    for node in attentions:
        parts = _parts(node, names)
        for name in (name for name in ATTENTION_TAPS if name in names):
            _mark(graph, parts[name], batch, name)
    graph.eliminate_dead_code()


def _parts(softmax: fx.Node, names: Collection[str]) -> dict[str, fx.Node]:
    """What a softmax belongs to, by the names of ``ATTENTION_TAPS`` that are asked for."""
    parts: dict[str, Any] = {ATTENTION_LAYERS: softmax, ATTENTION_SCORES: softmax.args[0]}
    if set(names) <= set(parts):
        return parts
    product, mixed = _product_before(softmax), _product_behind(softmax)
    if product is None or mixed is None:
        raise ModelError(
            f"The attention of {layer_of(softmax)!r} is no product of queries and keys whose softmax is multiplied by "
            "values. Use 'chefer', 'agcam', 'rollout' or a method that explains at a layer."
        )
    query, turned = product.args[:2]
    _, value = mixed.args[:2]
    return parts | {
        ATTENTION_QUERIES: query, ATTENTION_KEYS: turned, ATTENTION_VALUES: value, ATTENTION_OUTPUTS: mixed
    }  # fmt: skip


def _product_before(softmax: fx.Node) -> fx.Node | None:
    """The product of queries and keys, which a chain of single values leads to."""
    node: Any = softmax.args[0]
    while isinstance(node, fx.Node) and node.target not in PRODUCTS:
        if node.target not in BEFORE_SOFTMAX:
            return None
        # A mask and a bias by position have no dimension for the images, or a length of one there.
        length = node.meta["val"].numel()
        sources = [source for source in node.all_input_nodes if isinstance(source.meta["val"], Tensor)]
        same = [source for source in sources if known(source.meta["val"].numel() == length)]
        chain = [source for source in same if source.target in BEFORE_SOFTMAX or source.target in PRODUCTS]
        node = chain[0] if len(chain) == 1 else None
    return node if isinstance(node, fx.Node) else None


def _product_behind(softmax: fx.Node) -> fx.Node | None:
    """The product of the probabilities and the values."""
    node = softmax
    while True:
        products = [user for user in node.users if user.target in PRODUCTS and user.args[0] is node]
        if products:
            return products[0]
        following = [user for user in node.users if user.target in BEHIND_SOFTMAX]
        if len(following) != 1:
            return None
        node = following[0]


def _write_out(graph: fx.Graph, node: fx.Node) -> None:
    given = {argument.name: value for argument, value in schema_arguments(FUSED, node.args, node.kwargs)}
    if given["is_causal"] or given["enable_gqa"]:
        raise LoweringError(
            f"Cannot read the attention of {layer_of(node)!r}: it is causal, or its queries share keys."
        )
    query, key, value, mask = given["query"], given["key"], given["value"], given["attn_mask"]
    scale = given["scale"] or 1 / math.sqrt(query.meta["val"].shape[-1])
    with graph.inserting_before(node):
        scores = insert_like(
            graph, node, aten.matmul.default, query, insert_like(graph, node, aten.transpose.int, key, -2, -1)
        )
        scores = insert_like(graph, node, aten.mul.Tensor, scores, scale)
        if mask is not None and mask.meta["val"].dtype == torch.bool:
            scores = insert_like(graph, node, aten.where.ScalarOther, mask, scores, -math.inf)
        elif mask is not None:
            scores = insert_like(graph, node, aten.add.Tensor, scores, mask)
        probabilities = insert_like(graph, node, aten.softmax.int, scores, -1)
        mixed = insert_like(graph, node, aten.matmul.default, probabilities, value)
    node.replace_all_uses_with(mixed)
    graph.erase_node(node)


def _is_attention(node: fx.Node) -> bool:
    value = node.meta.get("val")
    if not isinstance(value, Tensor) or value.ndim not in (3, 4):
        return False
    rows, columns = value.shape[-2:]
    return known(rows == columns) and node.args[1] in (-1, value.ndim - 1) and not known(columns == 1)


def _mark(graph: fx.Graph, node: fx.Node, batch: Any, name: str) -> None:
    value = node.meta["val"]
    users = list(node.users)
    with graph.inserting_after(node):
        if value.ndim == 4:
            marked = insert_like(graph, node, TAP, node, name)
        else:  # images and heads in one dimension
            shape = value.shape[1:]
            heads = int(value.shape[0] // batch)
            apart = insert_like(graph, node, aten.reshape.default, node, [-1, heads, *shape])
            with graph.inserting_after(apart):
                tap = insert_like(graph, node, TAP, apart, name)
            with graph.inserting_after(tap):
                marked = insert_like(graph, node, aten.reshape.default, tap, [-1, *shape])
    for user in users:
        user.replace_input_with(node, marked)
