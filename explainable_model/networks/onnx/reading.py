"""What every way of reading a file needs: the images that it is compared on, and how close is close enough."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from explainable_model.errors import ModelError, first_line
from explainable_model.networks.onnx.check import (
    HALF_TOLERANCE,
    OPEN_BATCH,
    QUANTIZED_TOLERANCE,
    TOLERANCE,
    Difference,
    as_feed,
    make_inputs,
)
from explainable_model.networks.onnx.inputs import TakesImages, image_shape
from explainable_model.networks.onnx.integers import is_quantized
from explainable_model.networks.onnx.network import OnnxNetwork
from explainable_model.networks.onnx.nodes import first_difference
from explainable_model.networks.onnx.reference import Reference
from explainable_model.networks.onnx.values import FAILURES

SIZES = (224, 256, 384, 128, 64, 32, 28, 299, 512, 640)  # tried where the file leaves the size open
HALVES = (10, 16)  # ONNX's numbers of float16 and bfloat16


@dataclass(frozen=True)
class Read:
    """A network and the file that it was read from.

    Attributes:
        network: compared with ONNX Runtime.
        model: the graph.
        image_shape: ``(C, *spatial)`` of the images that it was compared on.
        error: the largest difference, as a share of the largest value.
    """

    network: OnnxNetwork
    model: Any
    image_shape: tuple[int, ...]
    error: float


def choose_shape(
    taker: TakesImages,
    reference: Reference,
    size: Sequence[int] | None,
    declared: int | None,
    network: OnnxNetwork | None = None,
) -> tuple[int, ...]:
    """``(C, *spatial)`` that ONNX Runtime takes, where the file leaves some of it open.

    ONNX Runtime runs the graph, within its bounds of memory and time. Until it has, nothing else computes with it.

    Args:
        taker: how the graph takes its image.
        reference: the graph in ONNX Runtime.
        size: what the user says.
        declared: the only batch size of the file.
        network: is run where there is one.

    Raises:
        ModelError: no common size fits, or ONNX Runtime fails.
    """
    known = image_shape(taker)
    if size is not None:
        known = (known[0], *(int(length) for length in size))
    channels = (known[0] or reference.channels or 3,)
    if None not in known[1:]:
        shape = (*channels, *(length for length in known[1:] if length is not None))
        reference.run(as_feed(taker, make_inputs(taker, shape, declared or 1)))
        return shape
    reason = ""
    for length in SIZES:
        shape = (*channels, *(each or length for each in known[1:]))
        try:
            inputs = make_inputs(taker, shape, declared or 1)
            reference.run(as_feed(taker, inputs))
            if network is not None:
                with torch.no_grad():
                    network(*inputs)
            return shape
        except FAILURES as error:
            reason = reason or f"At the first: {first_line(error)}"
    raise ModelError(f"the file leaves the size of its images open, and none of {SIZES} fits; give size=. {reason}")


def compare_batches(
    network: OnnxNetwork, shape: Sequence[int], declared: int | None, compare: Callable[[list[Tensor]], Difference]
) -> Difference:
    """The largest difference at the batch sizes that the network shall take."""
    batches = [1, OPEN_BATCH] if declared is None else [declared, 2 * declared]
    if network.fixed_batch is not None:
        batches = batches[:1]
    found = []
    for seed, batch in enumerate(batches):
        try:
            found.append(compare(make_inputs(network, shape, batch, seed)))
        except FAILURES as error:
            found.append(Difference(network.output_names[0], float("inf"), f"it fails on a batch of {batch}: {error}"))
    return max(found, key=lambda difference: difference.error)


def tolerance_of(model: Any) -> float:
    """How far an output may differ, as a share of its largest value."""
    if is_quantized(model):
        return QUANTIZED_TOLERANCE
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    kinds |= {value.type.tensor_type.elem_type for value in model.graph.input}
    kinds |= {each.t.data_type for node in model.graph.node for each in node.attribute if each.HasField("t")}
    return HALF_TOLERANCE if kinds & set(HALVES) else TOLERANCE


def describe_difference(
    model: Any, network: OnnxNetwork, shape: Sequence[int], difference: Difference, tolerance: float
) -> str:
    """Say how far an output differs, and which node is the first that does."""
    how = difference.reason or f"by {difference.error:.1e} of its largest value; expected {tolerance:.0e}"
    text = f"its output {difference.value!r} differs from that of ONNX Runtime {how}."
    node = first_difference(model, network, shape, tolerance)
    return text if node is None else f"{text} The first node that differs is {node}."
