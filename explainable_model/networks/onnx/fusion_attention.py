"""Attention that an exporter wrote as two matrix products with a softmax between them."""

from typing import Any

from explainable_model.networks.onnx.fusion_activations import Found
from explainable_model.networks.onnx.matching import Graph, attribute

ATTEND = "ScaledDotProductAttention"  # a row of operators/fused.py


def find_attention(graph: Graph, last: Any) -> Found | None:
    """``softmax(query @ keys * scale + mask) @ value``, whose keys the graph has transposed; the mask is constant."""
    softmax = graph.made_by(last.input[0], "Softmax")
    if softmax is None or attribute(softmax, "axis") != -1:
        return None
    scores, mask, inner = softmax.input[0], list[str](), [softmax]
    added = graph.made_by(scores, "Add")
    if added is not None:
        masks = [name for name in added.input if _is_mask(graph.constant(name))]
        if len(masks) != 1:
            return None
        mask, inner = masks, [*inner, added]
        scores = next(name for name in added.input if name not in masks)
    product, factor = graph.made_by(scores, "MatMul"), 1.0
    scaled = graph.scaled(scores) if product is None else None
    if scaled is not None:
        product, factor, inner = graph.made_by(scaled[0], "MatMul"), scaled[1], [*inner, scaled[2]]
    if product is None:
        return None
    query, keys = product.input
    constant = [name for name in (query, keys, last.input[1]) if graph.constant(name) is not None]
    if constant:  # a classifier of prototypes, and no attention among the places of an image
        return None
    inputs = []
    for name in (query, keys):
        part = graph.scaled(name)
        inputs.append(name if part is None else part[0])
        if part is not None:
            factor, inner = factor * part[1], [*inner, part[2]]
    return ATTEND, [*inputs, last.input[1], *mask], [*inner, product], {"scale": factor}


def _is_mask(constant: Any) -> bool:
    return constant is not None and constant.dtype.kind == "f" and constant.ndim >= 2
