"""Reads a file whose own nodes stay: finds the layer to cut at, and compares what PyTorch computes behind it."""

from collections.abc import Sequence
from typing import Any

import torch

from explainable_model.errors import ModelError
from explainable_model.networks.onnx.build import Build
from explainable_model.networks.onnx.check import Difference, as_feed, compare, least_of, make_inputs
from explainable_model.networks.onnx.cut import Cut, Links, cut_at
from explainable_model.networks.onnx.file import opset_of
from explainable_model.networks.onnx.inputs import ImageInputs, read_image_inputs
from explainable_model.networks.onnx.integers import write_out
from explainable_model.networks.onnx.kept import KeptGraph
from explainable_model.networks.onnx.kept_network import KeptNetwork
from explainable_model.networks.onnx.operators import OPERATORS
from explainable_model.networks.onnx.reading import (
    Read,
    choose_shape,
    compare_batches,
    describe_difference,
    tolerance_of,
)
from explainable_model.networks.onnx.reference import Array, Reference

ATTENTION = ("Softmax", "Attention")
FEW = 4  # places of a map that is worth showing


def read_kept(model: Any, layout: str | None, size: Sequence[int] | None, rounds: bool, layers: Sequence[str]) -> Read:
    """Read a file behind a layer and keep its nodes.

    Args:
        model: the graph with its weights.
        layout: see ``from_onnx``.
        size: see ``from_onnx``.
        rounds: whether what PyTorch computes is rounded as in the file.
        layers: names; the first of them in the graph is cut at. Without any, the last one is that has a map on which
            all outputs depend.

    Raises:
        ModelError: no such layer, an operator behind it that the reader does not compute, or other outputs than ONNX
            Runtime's.
    """
    taker = read_image_inputs(model.graph, layout)
    declared = taker.inputs[0].shape[0]
    reference = Reference(model)
    shape = choose_shape(taker, reference, size, declared)
    links = Links(write_out(model).graph)
    if layers:
        cut = cut_at(links, min(links.find(layer) for layer in layers))
    else:
        feed = as_feed(taker, make_inputs(taker, shape, declared or 1))
        cut = choose_cut(links, model, feed)
    network = _build(model, taker, cut, rounds)
    difference = compare_batches(network, shape, declared, lambda inputs: _compare(network, reference, inputs))
    tolerance = tolerance_of(model)
    if difference.error > tolerance:
        raise ModelError(describe_difference(model, network, shape, difference, tolerance))
    return Read(network, model, shape, difference.error)


def has_foreign_operators(model: Any) -> bool:
    """Whether the reader lacks an operator of the file."""
    links = Links(write_out(model).graph)
    return not all(links.is_known(number) for number in range(len(links.nodes)))


def _build(model: Any, taker: ImageInputs, cut: Cut, rounds: bool) -> KeptNetwork:
    from onnx import helper

    missing = set(cut.crossing) - {name for node in model.graph.node for name in node.output}
    if missing:
        raise ModelError(f"the value {missing.pop()!r} is none of the file's own; name another layer")
    outputs = tuple(value.name for value in model.graph.output)
    tail = helper.make_graph(cut.tail, "tail", [], [], model.graph.initializer)
    build = Build(opset_of(model), None, rounds)
    build.read(tail, cut.outputs)
    graph = KeptGraph(model, [each.name for each in taker.inputs], tuple(dict.fromkeys([*outputs, *cut.crossing])))
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return KeptNetwork(graph, cut, build, taker, taker.inputs[0].shape[0], metadata, outputs)


def _compare(network: KeptNetwork, reference: Reference, inputs: Sequence[torch.Tensor]) -> Difference:
    """The output that PyTorch computes from the kept values, and that differs most from ONNX Runtime's."""
    made: dict[str, Any] = {}
    theirs = reference.run(as_feed(network, inputs))  # first: its memory is bounded
    with torch.no_grad():
        network.run(*inputs, watch=made.__setitem__)
    found = (compare(name, made[name], theirs[name], least_of(network, name)) for name in network.cut.outputs)
    return max(found, key=lambda each: each.error)


def choose_cut(links: Links, model: Any, feed: dict[str, Array]) -> Cut:
    """Cut behind the last layer with a map on which all outputs depend and through which everything passes.

    In a network with attention it is the last such value before the last attention, as the tokens behind it may have
    no gradient. The automatic choice of a layer then looks at what follows.

    Raises:
        ModelError: there is none.
    """
    attention = [n for n, node in enumerate(links.nodes) if node.op_type in ATTENTION and _feeds_product(links, n)]
    end = attention[-1] if attention else len(links.nodes)
    candidates = [n for n in reversed(range(end)) if _may_have_map(links, n, bool(attention))]
    firsts = {number: links.first_of(number) for number in candidates}
    own = {name for node in model.graph.node for name in node.output}
    found = Reference(model, [name for name in firsts.values() if name in own]).run(feed)
    classes = {size for name in links.outputs for size in found[name].shape[1:2]}
    reason, second = "", None
    for number in candidates:
        value = found.get(firsts[number])
        if value is None or not _is_map(value.shape, classes, bool(attention)):
            continue
        try:
            cut = cut_at(links, number)
        except ModelError as error:
            reason = reason or f": {error}"
            continue
        if len(cut.crossing) == 1 and len(cut.outputs) == len(links.outputs):
            return cut
        second = second or cut
    if second is None:
        raise ModelError(f"no layer with a map was found to keep the graph up to{reason}")
    return second


def _feeds_product(links: Links, number: int) -> bool:
    """Whether a node's result is read by a matrix product: attention, and no probabilities of classes."""
    if links.nodes[number].op_type == "Attention":
        return True
    waiting, steps = [links.nodes[number].output[0]], 0
    while waiting and steps < FEW * FEW:
        steps += 1
        for reader in links.readers.get(waiting.pop(), []):
            kind = links.nodes[reader].op_type
            if kind in ("MatMul", "Einsum"):
                return True
            if kind in ("QuantizeLinear", "DequantizeLinear", "Dropout", "Cast", "Reshape", "Transpose", "Identity"):
                waiting += links.nodes[reader].output
    return False


def _may_have_map(links: Links, number: int, tokens: bool) -> bool:
    node = links.nodes[number]
    if set(node.output) <= links.constant | links.shapes:
        return False
    row = OPERATORS.get(node.op_type) if links.is_known(number) else None
    return row is None or not row.passive or (tokens and node.op_type == "Add")


def _is_map(shape: Sequence[int], classes: set[int], tokens: bool) -> bool:
    """Whether a value has places, and is not the map of the classes itself."""
    if len(shape) == 3 and tokens:
        return shape[1] > FEW
    spatial = sorted(shape[1:])[:-1]  # without the channels, which are mostly more than places in a line
    return len(shape) >= 4 and spatial[0] > 1 and shape[1] not in classes and shape[-1] not in classes
