"""Norms and activations that an exporter wrote as many small operators, as the one operator that they are."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

NEAR = 1e-6  # of the constants in a formula, which exporters write in float32


class Graph:
    """The nodes of a graph, the values that only one node reads, and the constants."""

    def __init__(self, graph: Any) -> None:
        from onnx import numpy_helper

        self.nodes = list(graph.node)
        self.maker = {name: node for node in self.nodes for name in node.output}
        self.counts: dict[str, int] = {value.name: 2 for value in graph.output}  # an output is never inside of a fusion
        for node in self.nodes:
            for name in node.input:
                self.counts[name] = self.counts.get(name, 0) + 1
        self._stored = {tensor.name: tensor for tensor in graph.initializer}
        self._to_array: Any = numpy_helper.to_array

    def constant(self, name: str) -> Any:
        """A constant as an array, or ``None``."""
        if name in self._stored:
            return self._to_array(self._stored[name])
        node = self.maker.get(name)
        if node is None or node.op_type != "Constant" or node.attribute[0].name != "value":
            return None
        return self._to_array(node.attribute[0].t)

    def number(self, name: str) -> float | None:
        """A constant of one element."""
        value = self.constant(name)
        return float(value.reshape(())) if value is not None and value.size == 1 and value.dtype.kind == "f" else None

    def made_by(self, name: str, kind: str, uses: int = 1) -> Any:
        """The node of a type that makes a value which so many inputs read, or ``None``."""
        node = self.maker.get(name)
        fits = node is not None and node.op_type == kind and not node.domain and self.counts.get(name) == uses
        return node if fits else None

    def split(self, node: Any) -> tuple[str, float] | None:
        """The computed input and the constant number of a node with both, in any order."""
        for position in (1, 0):
            number = self.number(node.input[position])
            if number is not None:
                return node.input[1 - position], number
        return None


def _is(found: float | None, wanted: float) -> bool:
    return found is not None and math.isclose(found, wanted, rel_tol=NEAR)


def _find_layer_norm(graph: Graph, last: Any) -> tuple[str, Sequence[str], list[Any], dict[str, Any]] | None:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` over the last axis."""
    if last.op_type != "Add":
        return None
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
    fits = square.input[0] == difference.output[0] and _is(graph.number(square.input[1]), 2.0)
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


def _find_gelu(graph: Graph, last: Any) -> tuple[str, Sequence[str], list[Any], dict[str, Any]] | None:
    """``x * (1 + erf(x / sqrt(2))) * 0.5``."""
    half = graph.split(last) if last.op_type == "Mul" else None
    product = graph.made_by(half[0], "Mul") if half is not None and _is(half[1], 0.5) else None
    if product is None:
        return None
    for own, other in ((0, 1), (1, 0)):
        added = graph.made_by(product.input[other], "Add")
        one = None if added is None else graph.split(added)
        erf = graph.made_by(one[0], "Erf") if one is not None and _is(one[1], 1.0) else None
        scaled = None if erf is None else graph.made_by(erf.input[0], "Div")
        if scaled is None or scaled.input[0] != product.input[own]:
            continue
        if _is(graph.number(scaled.input[1]), math.sqrt(2)):
            return "Gelu", [product.input[own]], [scaled, erf, added, product], {}
    return None


PATTERNS: Sequence[Callable[[Graph, Any], Any]] = (_find_layer_norm, _find_gelu)


def fuse(model: Any) -> Any:
    """The model with such parts as one node each, which has the name and the output of their last node."""
    from onnx import ModelProto, helper

    graph = Graph(model.graph)
    dropped: set[int] = set()
    made: dict[int, Any] = {}
    for node in graph.nodes:
        for find in PATTERNS:
            found = find(graph, node)
            if found is not None:
                kind, inputs, inner, attributes = found
                made[id(node)] = helper.make_node(kind, inputs, [node.output[0]], name=node.name, **attributes)
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
