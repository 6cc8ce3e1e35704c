"""Write attention out step by step, so that its probabilities can be tapped."""

import math
from typing import Any

import torch
from torch import Tensor, fx

from explainable_model.attribution.plan import ATTENTION_LAYERS
from explainable_model.errors import LoweringError, ModelError
from explainable_model.lowering.graph import TAP, insert_like, layer_of
from explainable_model.lowering.rules.call import schema_arguments
from explainable_model.lowering.shapes import known

aten = torch.ops.aten
FUSED = aten.scaled_dot_product_attention.default
SOFTMAX = (aten.softmax.int, aten._softmax.default)


def tap_attention(graph: fx.Graph) -> None:
    """Mark the attention probabilities ``(N, heads, T, T)`` of every block.

    Fused attention becomes ``softmax(q k' / sqrt(d)) v``.

    Raises:
        ModelError: there is none.
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
        _mark(graph, node, batch)
    graph.eliminate_dead_code()


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


def _mark(graph: fx.Graph, node: fx.Node, batch: Any) -> None:
    value = node.meta["val"]
    users = list(node.users)
    with graph.inserting_after(node):
        if value.ndim == 4:
            marked = tap = insert_like(graph, node, TAP, node, ATTENTION_LAYERS)
        else:  # images and heads in one dimension
            heads, tokens = int(value.shape[0] // batch), value.shape[-1]
            apart = insert_like(graph, node, aten.reshape.default, node, [-1, heads, tokens, tokens])
            with graph.inserting_after(apart):
                tap = insert_like(graph, node, TAP, apart, ATTENTION_LAYERS)
            with graph.inserting_after(tap):
                marked = insert_like(graph, node, aten.reshape.default, tap, [-1, tokens, tokens])
    for user in users:
        user.replace_input_with(node, marked)
