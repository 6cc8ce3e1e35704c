"""Finds small operators that are one larger one together: who makes a value, who else reads it, what is constant."""

import math
from typing import Any

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

    def scaled(self, name: str) -> tuple[str, float, Any] | None:
        """``(x, factor, node)`` of a value that is ``x * factor`` or ``x / (1 / factor)``, and that one node reads."""
        node = self.made_by(name, "Mul") or self.made_by(name, "Div")
        parts = None if node is None else self.split(node)
        if parts is None or parts[1] == 0 or (node.op_type == "Div" and parts[0] != node.input[0]):
            return None
        return parts[0], 1 / parts[1] if node.op_type == "Div" else parts[1], node


def attribute(node: Any, name: str, default: Any = None) -> Any:
    """The value of an attribute."""
    from onnx import helper

    return next((helper.get_attribute_value(each) for each in node.attribute if each.name == name), default)


def is_near(found: float | None, wanted: float) -> bool:
    """Whether a constant is the number of a formula."""
    return found is not None and math.isclose(found, wanted, rel_tol=NEAR)
