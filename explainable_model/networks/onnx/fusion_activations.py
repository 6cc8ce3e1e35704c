"""Activations that an exporter wrote as several small operators."""

import math
from typing import Any, TypeAlias

from explainable_model.networks.onnx.matching import Graph, attribute, is_near

Found: TypeAlias = tuple[str, list[str], list[Any], dict[str, Any]]
"""The type of the one operator, its inputs, the nodes that it replaces beside the last, and its attributes."""


def find_gelu(graph: Graph, last: Any) -> Found | None:
    """The product of ``x``, ``1 + erf(x / sqrt(2))`` and ``0.5``, in any order."""
    factors, inner = list[str](), list[Any]()
    for name in last.input:
        node = graph.made_by(name, "Mul")
        factors += [name] if node is None else node.input
        inner += [] if node is None else [node]
    half = next((name for name in factors if is_near(graph.number(name), 0.5)), None)
    if half is None or len(factors) != 3:
        return None
    factors.remove(half)
    for x, other in (factors, reversed(factors)):
        added = graph.made_by(other, "Add")
        one = None if added is None else graph.split(added)
        erf = graph.made_by(one[0], "Erf") if one is not None and is_near(one[1], 1.0) else None
        scaled = None if erf is None else graph.scaled(erf.input[0])
        if scaled is not None and scaled[0] == x and is_near(scaled[1], math.sqrt(0.5)):
            return "Gelu", [x], [scaled[2], erf, added, *inner], {}
    return None


def find_swish(graph: Graph, last: Any) -> Found | None:
    """``x * sigmoid(x)``."""
    for x, gate in _both_orders(last):
        sigmoid = graph.made_by(gate, "Sigmoid")
        if sigmoid is not None and sigmoid.input[0] == x:
            return "Swish", [x], [sigmoid], {}
    return None


def find_hard_swish(graph: Graph, last: Any) -> Found | None:
    """``x * hard_sigmoid(x)``, or ``x * clip(x + 3, 0, 6)`` by 6."""
    for x, gate in _both_orders(last):
        found = _hard_gate(graph, graph.maker.get(gate)) if graph.counts.get(gate) == 1 else None
        if found is not None and found[0] == x:
            return "HardSwish", [x], [graph.maker[gate], *found[1]], {}
    by_six = _by_six(graph, last)
    product = None if by_six is None else graph.made_by(by_six, "Mul")
    for x, ramp in () if product is None else _both_orders(product):
        inner = _ramp(graph, ramp, x)
        if inner is not None:
            return "HardSwish", [x], [product, *inner], {}
    return None


def find_hard_sigmoid(graph: Graph, last: Any) -> Found | None:
    """``clip(x + 3, 0, 6) / 6`` or ``clip(x / 6 + 0.5, 0, 1)``."""
    found = None if last.op_type == "HardSigmoid" else _hard_gate(graph, last)
    return None if found is None else ("HardSigmoid", [found[0]], found[1], {"alpha": 1 / 6, "beta": 0.5})


def _both_orders(node: Any) -> list[tuple[str, str]]:
    if node.op_type != "Mul":
        return []
    return [(node.input[0], node.input[1]), (node.input[1], node.input[0])]


def _hard_gate(graph: Graph, node: Any) -> tuple[str, list[Any]] | None:
    """What a hard sigmoid is taken of, and the nodes that it consists of beside its last one."""
    if node is None or node.domain:
        return None
    if node.op_type == "HardSigmoid":
        fits = is_near(attribute(node, "alpha", 0.2), 1 / 6) and is_near(attribute(node, "beta", 0.5), 0.5)
        return (node.input[0], []) if fits else None
    if node.op_type == "Clip":
        added = graph.made_by(node.input[0], "Add") if _bounds(graph, node) == (0.0, 1.0) else None
        half = None if added is None else graph.split(added)
        scaled = None if half is None else graph.scaled(half[0])
        fits = scaled is not None and half is not None and is_near(half[1], 0.5) and is_near(scaled[1], 1 / 6)
        return (scaled[0], [scaled[2], added]) if scaled is not None and fits else None
    ramp = _by_six(graph, node)
    clip = None if ramp is None else graph.made_by(ramp, "Clip")
    added = None if clip is None else graph.made_by(clip.input[0], "Add")
    three = None if added is None else graph.split(added)
    inner = None if three is None or ramp is None else _ramp(graph, ramp, three[0])
    return (three[0], inner) if three is not None and inner is not None else None


def _by_six(graph: Graph, node: Any) -> str | None:
    """What a node divides by 6."""
    parts = graph.split(node) if node.op_type in ("Mul", "Div") and not node.domain else None
    if parts is None or (node.op_type == "Div" and parts[0] != node.input[0]):
        return None
    return parts[0] if is_near(parts[1], 6.0 if node.op_type == "Div" else 1 / 6) else None


def _ramp(graph: Graph, name: str, x: str) -> list[Any] | None:
    """The nodes of ``clip(x + 3, 0, 6)``, which one node reads."""
    clip = graph.made_by(name, "Clip")
    added = graph.made_by(clip.input[0], "Add") if clip is not None and _bounds(graph, clip) == (0.0, 6.0) else None
    three = None if added is None else graph.split(added)
    return [added, clip] if three is not None and three[0] == x and is_near(three[1], 3.0) else None


def _bounds(graph: Graph, clip: Any) -> tuple[float | None, float | None]:
    """The bounds of a ``Clip``: attributes in older opsets, then inputs."""
    given = [graph.number(name) if name else None for name in clip.input[1:3]]
    low, high = [*given, None, None][:2]
    return attribute(clip, "min", low), attribute(clip, "max", high)
