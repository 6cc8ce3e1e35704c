"""Norms, activations and attention that an exporter wrote as many operators, as the one that they are."""

from collections.abc import Callable
from typing import Any

import numpy as np

from explainable_model.networks.onnx.fusion_activations import (
    Found,
    find_gelu,
    find_hard_sigmoid,
    find_hard_swish,
    find_swish,
)
from explainable_model.networks.onnx.fusion_attention import find_attention
from explainable_model.networks.onnx.matching import Graph, is_near
from explainable_model.networks.onnx.operators.fused import FUSED, FUSED_DOMAIN


def _find_layer_norm(graph: Graph, last: Any) -> Found | None:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` over the last axis."""
    product = next((node for name in last.input if (node := graph.made_by(name, "Mul")) is not None), None)
    if product is None:
        return None
    bias = next(name for name in last.input if name not in product.output)
    quotient = next((node for name in product.input if (node := graph.made_by(name, "Div")) is not None), None)
    if quotient is None:
        return None
    weight = next(name for name in product.input if name not in quotient.output)
    difference, root = graph.made_by(quotient.input[0], "Sub", 2), graph.made_by(quotient.input[1], "Sqrt")
    shifted = None if root is None else graph.made_by(root.input[0], "Add")
    epsilon = None if shifted is None else graph.split(shifted)
    variance = None if epsilon is None else graph.made_by(epsilon[0], "ReduceMean")
    square = None if variance is None else graph.made_by(variance.input[0], "Pow")
    mean = None if difference is None else graph.made_by(difference.input[1], "ReduceMean")
    if epsilon is None or square is None or mean is None or difference is None:
        return None
    fits = square.input[0] == difference.output[0] and is_near(graph.number(square.input[1]), 2.0)
    fits &= mean.input[0] == difference.input[0] and _last_axis(graph, mean) and _last_axis(graph, variance)
    scales = [graph.constant(name) for name in (weight, bias)]
    fits &= all(scale is not None and scale.ndim == 1 and scale.dtype == np.float32 for scale in scales)
    if not fits or scales[0].shape != scales[1].shape or scales[0].size < 2:
        return None
    inner = [mean, difference, square, variance, shifted, root, quotient, product]
    attributes = {"axis": -1, "epsilon": epsilon[1]}
    return "LayerNormalization", [difference.input[0], weight, bias], inner, attributes


def _last_axis(graph: Graph, node: Any) -> bool:
    """Whether a reduction is over the last axis and keeps it."""
    attributes = {each.name: each for each in node.attribute}
    if "keepdims" in attributes and attributes["keepdims"].i != 1:
        return False
    if len(node.input) > 1:
        axes = graph.constant(node.input[1])
        return axes is not None and axes.tolist() == [-1]
    return "axes" in attributes and list(attributes["axes"].ints) == [-1]


PATTERNS: dict[str, tuple[Callable[[Graph, Any], Found | None], ...]] = {
    "Add": (_find_layer_norm,),
    "Clip": (find_hard_sigmoid,),
    "Div": (find_hard_swish, find_hard_sigmoid),
    "MatMul": (find_attention,),
    "Mul": (find_gelu, find_swish, find_hard_swish, find_hard_sigmoid),
}
"""Type of a node -> what it may be the last node of."""


def fuse(model: Any) -> Any:
    """The model with such parts as one node each, which has the name and the output of their last node."""
    from onnx import ModelProto, helper

    graph = Graph(model.graph)
    dropped: set[int] = set()
    made: dict[int, Any] = {}
    for node in graph.nodes:
        for find in PATTERNS.get(node.op_type, ()) if not node.domain else ():
            found = find(graph, node)
            if found is not None:
                kind, inputs, inner, attributes = found
                options = {"name": node.name, "domain": FUSED_DOMAIN if kind in FUSED else "", **attributes}
                made[id(node)] = helper.make_node(kind, inputs, [node.output[0]], **options)
                made[id(node)].metadata_props.extend(node.metadata_props)
                dropped.update(map(id, inner))
                break
    if not made:
        return model
    fused = ModelProto()
    fused.CopyFrom(model)
    del fused.graph.node[:]
    fused.graph.node.extend(made.get(id(node), node) for node in graph.nodes if id(node) not in dropped)
    return fused
