"""Reads an ONNX file into a network that was compared with ONNX Runtime before it is handed over."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from explainable_model.errors import ExplainableModelError, MissingRuntimeError, ModelError, first_line
from explainable_model.networks.onnx.build import Build
from explainable_model.networks.onnx.check import compare_outputs
from explainable_model.networks.onnx.file import opset_of, read_file
from explainable_model.networks.onnx.fusion import fuse
from explainable_model.networks.onnx.inputs import read_image_inputs
from explainable_model.networks.onnx.integers import is_quantized, write_out
from explainable_model.networks.onnx.keep import has_foreign_operators, read_kept
from explainable_model.networks.onnx.network import OnnxNetwork
from explainable_model.networks.onnx.nodes import NodeComparison, compare_nodes, summarize
from explainable_model.networks.onnx.reading import (
    Read,
    choose_shape,
    compare_batches,
    describe_difference,
    tolerance_of,
)
from explainable_model.networks.onnx.reference import Reference
from explainable_model.networks.onnx.values import FAILURES

LAYOUTS = ("NCHW", "NHWC")
Keep = str | Sequence[str] | bool | None
"""A layer, or several; ``True`` for an automatic choice, ``False`` for none, ``None`` where the file asks for it."""


def from_onnx(
    path: str | Path,
    *,
    layout: str | None = None,
    size: Sequence[int] | None = None,
    rounds: bool = True,
    keep_graph: Keep = None,
) -> OnnxNetwork:
    """Read an ONNX file into a module that PyTorch explains and exports.

    Each node becomes a layer, and its outputs are compared with those of ONNX Runtime on images of noise, at two batch
    sizes where the file leaves the batch open or can be opened, before the network is handed over.

    With ``keep_graph`` the nodes of the file stay as they are, and its predictions to the last bit: ONNX Runtime
    computes them, and PyTorch only what follows a layer, for its gradient. Such a network is exported to ONNX alone.

    Args:
        path: of the file; weights in other files of its folder are read too.
        layout: ``NCHW`` or ``NHWC``, how the file takes images; found from the file by default. The network itself
            takes images ``(N, C, H, W)`` always.
        size: height and width of the images to compare, where the file leaves them open.
        rounds: whether activations are rounded as in a quantized file (``QuantizeLinear``), and predictions are the
            file's; ``False`` computes with them as they are, and with the weights that the integers stand for, which
            every format can hold.
        keep_graph: the name of the layer to explain, or ``True`` to choose it: later layers can be explained as well.
            ``None`` keeps the nodes of files that round activations, unless ``rounds=False``, and of files with
            operators that the reader does not have; ``False`` never does.

    Returns:
        In evaluation mode, in the file's own dtype.

    Raises:
        ModelError: no ONNX file, an operator that the reader does not have, or outputs that differ; the first node that
            differs is named.
        MissingRuntimeError: onnx or onnxruntime is missing.

    Example:
        >>> network = from_onnx("classifier.onnx")  # doctest: +SKIP
    """
    return read(path, layout, size, rounds, keep_graph).network


def read(
    path: str | Path,
    layout: str | None = None,
    size: Sequence[int] | None = None,
    rounds: bool = True,
    keep_graph: Keep = None,
) -> Read:
    """As ``from_onnx``, with what else is known of the file."""
    if layout not in (None, *LAYOUTS):
        raise ModelError(f"layout is {layout!r}; expected one of {', '.join(LAYOUTS)}, or None to find it.")
    model = read_file(path)
    try:
        return _read(model, layout, size, rounds, keep_graph)
    except MissingRuntimeError:
        raise
    except FAILURES as error:
        raise _refuse(path, error) from error


def _refuse(path: str | Path, error: Exception) -> ModelError:
    if isinstance(error, ExplainableModelError):
        return ModelError(f"{path}: {error}")
    return ModelError(
        f"{path} is damaged: its nodes do not fit together ({type(error).__name__}: {first_line(error)})."
    )


def keeps_by_itself(path: str | Path) -> bool:
    """Whether ``from_onnx`` keeps the nodes of a file where nobody says so.

    Raises:
        ModelError: no ONNX file.
    """
    model = read_file(path)
    try:
        return is_quantized(model) or has_foreign_operators(model)
    except FAILURES as error:
        raise _refuse(path, error) from error


def _read(model: Any, layout: str | None, size: Sequence[int] | None, rounds: bool, keep_graph: Keep) -> Read:
    if keep_graph is None:
        return _read_by_itself(model, layout, size, rounds)
    if keep_graph is False:
        return _read_model(model, layout, size, rounds)
    layers = [] if keep_graph is True else [keep_graph] if isinstance(keep_graph, str) else list(keep_graph)
    return read_kept(model, layout, size, rounds, layers)


def _read_by_itself(model: Any, layout: str | None, size: Sequence[int] | None, rounds: bool) -> Read:
    """Keep the nodes of a file that PyTorch would not compute to the last bit, or not at all."""
    if has_foreign_operators(model):
        try:
            return read_kept(model, layout, size, rounds, [])
        except ModelError as error:
            build_network(model, layout)  # names the operator, and how to add it
            raise error
    if rounds and is_quantized(model):
        try:
            return read_kept(model, layout, size, rounds, [])
        except ModelError:
            pass  # such as a network without a map; whoever asks for one hears so
    return _read_model(model, layout, size, rounds)


def prepare(
    path: str | Path, layout: str | None = None, size: Sequence[int] | None = None
) -> tuple[Any, OnnxNetwork, tuple[int, ...], float]:
    """The graph, its network without a comparison, ``(C, *spatial)`` of an image, and the tolerance of a comparison."""
    model = read_file(path)
    try:
        taker, reference = read_image_inputs(model.graph, layout), Reference(model)
        declared = taker.inputs[0].shape[0]
        choose_shape(taker, reference, size, declared)
        network = build_network(model, layout)
        shape = choose_shape(network, reference, size, declared, network)
        return model, network, shape, tolerance_of(model)
    except MissingRuntimeError:
        raise
    except FAILURES as error:
        raise _refuse(path, error) from error


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
    taker = read_image_inputs(model.graph, layout)  # first: it says what is no image
    declared, reference = taker.inputs[0].shape[0], Reference(model)
    choose_shape(taker, reference, size, declared)
    reasons: list[str] = []
    for opened in [None] if declared is None else [declared, None]:
        network = build_network(model, layout, opened, rounds)
        if declared is not None and opened is None:
            network.fixed_batch = declared
        shape = choose_shape(network, reference, size, declared, network)
        difference = compare_batches(network, shape, declared, partial(compare_outputs, network, reference, declared))
        tolerance = tolerance_of(model)
        if difference.error <= tolerance:
            return Read(network, model, shape, difference.error)
        reasons.append(describe_difference(model, network, shape, difference, tolerance))
    raise ModelError(reasons[-1])


def build_network(model: Any, layout: str | None = None, opened: int | None = None, rounds: bool = True) -> OnnxNetwork:
    """Make the network of a graph, without a comparison.

    Args:
        model: the graph with its weights.
        layout: see ``from_onnx``.
        opened: the only batch size of the file, which the network shall follow instead.
        rounds: see ``from_onnx``.
    """
    taker = read_image_inputs(model.graph, layout)
    graph = fuse(write_out(model)).graph
    build = Build(opset_of(model), opened, rounds)
    build.read(graph)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    outputs = [value.name for value in graph.output]
    return OnnxNetwork(build, taker.inputs, outputs, None, taker.channels_last, metadata)
