"""Finds the first node whose value differs from ONNX Runtime's."""

from collections.abc import Sequence
from typing import Any

import torch

from explainable_model.errors import ModelError, first_line
from explainable_model.networks.onnx.check import Difference, Reference, as_feed, compare, make_inputs
from explainable_model.networks.onnx.network import OnnxNetwork
from explainable_model.networks.onnx.values import Value


def first_difference(model: Any, network: OnnxNetwork, shape: Sequence[int], tolerance: float) -> str | None:
    """Name the first node that differs, and by how much; ``None`` where none does or ONNX Runtime does not tell."""
    for title, difference in compare_nodes(model, network, shape):
        if difference.error > tolerance:
            how = difference.reason or f"by {difference.error:.1e} of its largest value"
            return f"{title} ({difference.value}): {how}"
    return None


def compare_nodes(model: Any, network: OnnxNetwork, shape: Sequence[int]) -> list[tuple[str, Difference]]:
    """Compare every value that both compute, in the order of the graph; the title of its node comes first.

    Where the network fails, its last entry names the node that failed.
    """
    values: dict[str, Value] = {}
    batch = network.inputs[0].shape[0] or 1
    inputs = make_inputs(network, shape, batch)
    failure: tuple[str, Difference] | None = None
    with torch.no_grad():
        try:
            network.run(*inputs, watch=values.__setitem__)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            name = next((s.outputs[0] for s in network.steps if s.outputs[0] not in values), "")
            failure = network.title_of(name), Difference(name, float("inf"), f"it fails: {first_line(error)}")
    made = {name for node in model.graph.node for name in node.output}
    try:
        theirs = Reference(model, [name for name in values if name in made]).run(as_feed(network, inputs))
    except ModelError:
        return [] if failure is None else [failure]
    found = [
        (network.title_of(name), compare(name, value, theirs[name])) for name, value in values.items() if name in theirs
    ]
    return found if failure is None else [*found, failure]
