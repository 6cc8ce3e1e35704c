"""Compares a network with ONNX Runtime node by node, and finds the first node that differs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from explainable_model.errors import ModelError, first_line
from explainable_model.networks.onnx.check import Difference, as_feed, compare, least_of, make_inputs
from explainable_model.networks.onnx.network import OnnxNetwork
from explainable_model.networks.onnx.reference import Reference
from explainable_model.networks.onnx.values import FAILURES, Value


@dataclass(frozen=True)
class NodeComparison:
    """What a comparison node by node found.

    Attributes:
        nodes: how many values of nodes were compared.
        tolerance: largest difference that is allowed, as a share of the largest value.
        first: title of the first node that differs more, such as ``Conv 'conv1'``; ``None`` where none does.
        difference: its difference, or the largest one of all nodes.
        title: of the node of that difference.
    """

    nodes: int
    tolerance: float
    first: str | None
    difference: Difference
    title: str

    def __str__(self) -> str:
        how = self.difference.reason or f"by {self.difference.error:.1e} of its largest value"
        if self.first is None:
            return f"{self.nodes} nodes agree within {self.tolerance:.0e}; {self.title} differs most, {how}"
        return f"{self.first} ({self.difference.value}) differs first: {how}; expected {self.tolerance:.0e}"


def summarize(compared: Sequence[tuple[str, Difference]], tolerance: float) -> NodeComparison:
    """The first node that differs, or the one that differs most."""
    for title, difference in compared:
        if difference.error > tolerance:
            return NodeComparison(len(compared), tolerance, title, difference, title)
    title, largest = max(compared, key=lambda pair: pair[1].error)
    return NodeComparison(len(compared), tolerance, None, largest, title)


def first_difference(model: Any, network: OnnxNetwork, shape: Sequence[int], tolerance: float) -> str | None:
    """Name the first node that differs, and by how much; ``None`` where none does or ONNX Runtime does not tell."""
    compared = compare_nodes(model, network, shape)
    found = summarize(compared, tolerance) if compared else None
    if found is None or found.first is None:
        return None
    how = found.difference.reason or f"by {found.difference.error:.1e} of its largest value"
    return f"{found.first} ({found.difference.value}): {how}"


def compare_nodes(model: Any, network: OnnxNetwork, shape: Sequence[int]) -> list[tuple[str, Difference]]:
    """Compare every value that both compute, in the order of the graph; the title of its node comes first.

    Where the network fails, the only entry is the node that failed: ONNX Runtime does not run what the reader refuses.
    """
    values: dict[str, Value] = {}
    batch = network.inputs[0].shape[0] or 1
    inputs = make_inputs(network, shape, batch)
    with torch.no_grad():
        try:
            network.run(*inputs, watch=values.__setitem__)
        except FAILURES as error:
            name = next((step.outputs[0] for step in network.steps if step.outputs[0] not in values), "")
            return [(network.title_of(name), Difference(name, float("inf"), f"it fails: {first_line(error)}"))]
    made = {name for node in model.graph.node for name in node.output}
    try:
        theirs = Reference(model, [name for name in values if name in made]).run(as_feed(network, inputs))
    except ModelError:
        return []
    return [
        (network.title_of(name), compare(name, value, theirs[name], least_of(network, name)))
        for name, value in values.items()
        if name in theirs and not stands_for(value, theirs[name])
    ]


def stands_for(ours: Value, theirs: Any) -> bool:
    """Whether our value is what the integers of ONNX Runtime stand for, which are compared where they are read."""
    return isinstance(ours, torch.Tensor) and ours.is_floating_point() and theirs.dtype.kind in "iu"
