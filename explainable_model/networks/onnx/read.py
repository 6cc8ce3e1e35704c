"""Reads an ONNX file into a network that was compared with ONNX Runtime before it is handed over."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from explainable_model.errors import ExplainableModelError, MissingRuntimeError, ModelError, first_line
from explainable_model.networks.onnx.build import Build
from explainable_model.networks.onnx.check import (
    HALF_TOLERANCE,
    OPEN_BATCH,
    QUANTIZED_TOLERANCE,
    TOLERANCE,
    Difference,
    Reference,
    as_feed,
    compare_outputs,
    make_inputs,
)
from explainable_model.networks.onnx.file import opset_of, read_file
from explainable_model.networks.onnx.inputs import find_channels_last, read_inputs
from explainable_model.networks.onnx.network import OnnxNetwork
from explainable_model.networks.onnx.nodes import NodeComparison, compare_nodes, first_difference, summarize

SIZES = (224, 256, 384, 128, 64, 32, 28, 299, 512, 640)  # tried where the file leaves the size open
LAYOUTS = ("NCHW", "NHWC")


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


def from_onnx(
    path: str | Path, *, layout: str | None = None, size: Sequence[int] | None = None, rounds: bool = True
) -> OnnxNetwork:
    """Read an ONNX file into a module that PyTorch explains and exports.

    Each node becomes a layer, and its outputs are compared with those of ONNX Runtime on images of noise, at two batch
    sizes where the file leaves the batch open or can be opened, before the network is handed over.

    Args:
        path: of the file; weights in other files of its folder are read too.
        layout: ``NCHW`` or ``NHWC``, how the file takes images; found from the file by default. The network itself
            takes images ``(N, C, H, W)`` always.
        size: height and width of the images to compare, where the file leaves them open.
        rounds: whether activations are rounded as in a quantized file (``QuantizeLinear``), and predictions are the
            file's; ``False`` computes with them as they are, and with the weights that the integers stand for, which
            every format can hold.

    Returns:
        In evaluation mode, in the file's own dtype.

    Raises:
        ModelError: no ONNX file, an operator that the reader does not have, or outputs that differ; the first node that
            differs is named.
        MissingRuntimeError: onnx or onnxruntime is missing.

    Example:
        >>> network = from_onnx("classifier.onnx")  # doctest: +SKIP
    """
    return read(path, layout, size, rounds).network


def read(path: str | Path, layout: str | None = None, size: Sequence[int] | None = None, rounds: bool = True) -> Read:
    """As ``from_onnx``, with what else is known of the file."""
    if layout not in (None, *LAYOUTS):
        raise ModelError(f"layout is {layout!r}; expected one of {', '.join(LAYOUTS)}, or None to find it.")
    model = read_file(path)
    try:
        return _read_model(model, layout, size, rounds)
    except MissingRuntimeError:
        raise
    except ExplainableModelError as error:
        raise ModelError(f"{path}: {error}") from error


def prepare(
    path: str | Path, layout: str | None = None, size: Sequence[int] | None = None
) -> tuple[Any, OnnxNetwork, tuple[int, ...], float]:
    """The graph, its network without a comparison, ``(C, *spatial)`` of an image, and the tolerance of a comparison."""
    model = read_file(path)
    try:
        network = build_network(model, layout)
        declared = network.inputs[0].shape[0]
        return model, network, _choose_shape(network, Reference(model), size, declared), _tolerance(model, network)
    except MissingRuntimeError:
        raise
    except ExplainableModelError as error:
        raise ModelError(f"{path}: {error}") from error


def compare_file_nodes(
    path: str | Path, *, layout: str | None = None, size: Sequence[int] | None = None
) -> NodeComparison:
    """Compare every node of an ONNX file, computed by PyTorch and by ONNX Runtime on the same noise.

    Args:
        path: of the file; also of one that ``from_onnx`` refuses because its outputs differ.
        layout: see ``from_onnx``.
        size: see ``from_onnx``.

    Raises:
        ModelError: no ONNX file, or a node that the reader does not compute.
        MissingRuntimeError: onnx or onnxruntime is missing.
    """
    model, network, shape, tolerance = prepare(path, layout, size)
    compared = compare_nodes(model, network, shape)
    if not compared:
        raise ModelError(f"{path}: ONNX Runtime returns no value of a node to compare with.")
    return summarize(compared, tolerance)


def _read_model(model: Any, layout: str | None, size: Sequence[int] | None, rounds: bool) -> Read:
    reference = Reference(model)
    declared = read_inputs(model.graph)[0].shape[0]
    reasons: list[str] = []
    for opened in [None] if declared is None else [declared, None]:
        network = build_network(model, layout, opened, rounds)
        if declared is not None and opened is None:
            network.fixed_batch = declared
        shape = _choose_shape(network, reference, size, declared)
        difference = _compare(network, reference, shape, declared)
        tolerance = _tolerance(model, network)
        if difference.error <= tolerance:
            return Read(network, model, shape, difference.error)
        reasons.append(_describe(model, network, shape, difference, tolerance))
    raise ModelError(reasons[-1])


def build_network(model: Any, layout: str | None = None, opened: int | None = None, rounds: bool = True) -> OnnxNetwork:
    """Make the network of a graph, without a comparison.

    Args:
        model: the graph with its weights.
        layout: see ``from_onnx``.
        opened: the only batch size of the file, which the network shall follow instead.
        rounds: see ``from_onnx``.
    """
    graph = model.graph
    inputs = read_inputs(graph)
    build = Build(opset_of(model), opened, rounds)
    build.read(graph)
    is_last = find_channels_last(inputs[0], graph.node) if layout is None else layout == "NHWC"
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return OnnxNetwork(build, inputs, [value.name for value in graph.output], None, is_last, metadata)


def _choose_shape(
    network: OnnxNetwork, reference: Reference, size: Sequence[int] | None, declared: int | None
) -> tuple[int, ...]:
    """``(C, *spatial)`` that ONNX Runtime takes, where the file leaves some of it open."""
    known = network.image_shape
    if size is not None:
        known = (known[0], *(int(length) for length in size))
    channels = (known[0],) if known[0] else (_channels(network),)
    if None not in known[1:]:
        return (*channels, *(length for length in known[1:] if length is not None))
    reason = ""
    for length in SIZES:
        shape = (*channels, *(each or length for each in known[1:]))
        try:
            inputs = make_inputs(network, shape, declared or 1)
            with torch.no_grad():
                network(*inputs)  # first, as it bounds what the graph may ask for
            reference.run(as_feed(network, inputs))
            return shape
        except (ModelError, RuntimeError, ValueError, IndexError, TypeError) as error:
            reason = reason or f"At the first: {first_line(error)}"
    raise ModelError(f"the file leaves the size of its images open, and none of {SIZES} fits; give size=. {reason}")


def _channels(network: OnnxNetwork) -> int:
    convolutions = (m for m in network.modules() if isinstance(m, torch.nn.Conv1d | torch.nn.Conv2d | torch.nn.Conv3d))
    first = next(convolutions, None)
    return 3 if first is None else first.in_channels


def _compare(network: OnnxNetwork, reference: Reference, shape: Sequence[int], declared: int | None) -> Difference:
    """The largest difference at the batch sizes that the network shall take."""
    batches = [1, OPEN_BATCH] if declared is None else [declared, 2 * declared]
    if network.fixed_batch is not None:
        batches = batches[:1]
    found = []
    for seed, batch in enumerate(batches):
        try:
            found.append(compare_outputs(network, reference, make_inputs(network, shape, batch, seed), declared))
        except (ModelError, RuntimeError, ValueError, IndexError, TypeError) as error:
            found.append(Difference(network.output_names[0], float("inf"), f"it fails on a batch of {batch}: {error}"))
    return max(found, key=lambda difference: difference.error)


def _tolerance(model: Any, network: OnnxNetwork) -> float:
    kinds = {node.op_type for node in model.graph.node}
    if "QuantizeLinear" in kinds:
        return QUANTIZED_TOLERANCE
    dtypes = {value.dtype for value in itertools.chain(network.parameters(), network.buffers())}
    return HALF_TOLERANCE if dtypes & {torch.float16, torch.bfloat16} else TOLERANCE


def _describe(model: Any, network: OnnxNetwork, shape: Sequence[int], difference: Difference, tolerance: float) -> str:
    how = difference.reason or f"by {difference.error:.1e} of its largest value; expected {tolerance:.0e}"
    text = f"its output {difference.value!r} differs from that of ONNX Runtime {how}."
    node = first_difference(model, network, shape, tolerance)
    return text if node is None else f"{text} The first node that differs is {node}."
