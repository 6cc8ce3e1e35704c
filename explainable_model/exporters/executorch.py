"""ExecuTorch programs, for phones and boards: one ``.pte``, most of it on XNNPACK."""

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explainable_model.artifact.metadata import METADATA_KEY, parse_metadata
from explainable_model.artifact.runner import Array, Runner
from explainable_model.errors import ArtifactError, LoweringError, first_line
from explainable_model.exporters.format import Format
from explainable_model.exporters.guard.executorch_file import read_program_metadata

if TYPE_CHECKING:
    from torch.fx import Graph

    from explainable_model.lowering.lowered import LoweredModel


def write(lowered: "LoweredModel", path: Path, metadata: str) -> None:
    """Write a ``.pte`` with memory planned for the example's batch and size, and a method that returns the metadata."""
    with _quiet():
        try:
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower
        except ImportError as error:
            raise EXECUTORCH.missing_runtime(f"Exporting {path.name}") from error
        try:
            with _without_layer_names(lowered.exported_program.graph):
                program = to_edge_transform_and_lower(
                    lowered.exported_program,
                    transform_passes=[_condition_pass()],
                    partitioner=[XnnpackPartitioner()],
                    constant_methods={METADATA_KEY: metadata},
                ).to_executorch()
        except Exception as error:  # ExecuTorch's passes raise errors of many types
            raise LoweringError(
                f"{lowered.plan.model} cannot be translated to ExecuTorch: {first_line(error)}"
            ) from error
    path.write_bytes(program.buffer)


@contextmanager
def _without_layer_names(graph: "Graph") -> Iterator[None]:
    """Hide from the graph's matrix products which layer they come from.

    The gradient's products carry the names of linear layers. XNNPACK's partitioner takes such a product for the whole
    layer, does not find the bias, and leaves the product to a loop with a copy of the weight. That loop was measured
    to be eight times slower.
    """
    import torch

    products = [n for n in graph.nodes if n.target in (torch.ops.aten.matmul.default, torch.ops.aten.mm.default)]
    before = [dict(node.meta) for node in products]
    for node in products:
        for origin in ("nn_module_stack", "source_fn_stack", "torch_fn"):
            node.meta.pop(origin, None)
    try:
        yield
    finally:
        for node, meta in zip(products, before, strict=True):
            node.meta = meta


def _condition_pass() -> Any:
    """A pass that replaces a comparison that is converted to float32 by arithmetic.

    The slope of an activation is such a comparison. XNNPACK has no comparisons, so that its partitions end at each
    one, and the slower loops of ExecuTorch compare, convert and copy. ``ceil(clamp(x, 0, 1))`` gives the same numbers
    as ``x > 0``: 0 where x is at most 0, and 1 elsewhere.
    """
    import torch
    from executorch.exir.dialects._ops import ops
    from executorch.exir.pass_base import ExportPass

    aten, convert = ops.edge.aten, ops.edge.dim_order_ops._to_dim_order_copy.default

    class ConditionsAsNumbers(ExportPass):  # type: ignore[misc]
        def call(self, graph_module: Any) -> Any:
            graph = graph_module.graph
            for node in list(graph.nodes):
                if node.target is convert and node.kwargs.get("dtype") is torch.float32:
                    with graph.inserting_before(node):
                        number = as_number(graph, node.args[0])
                    if number is not None:
                        node.replace_all_uses_with(number)
            graph.eliminate_dead_code()
            graph_module.recompile()
            return super().call(graph_module)

    def as_number(graph: Any, node: Any) -> Any:
        if node.target is aten.bitwise_and.Tensor:
            factors = [as_number(graph, condition) for condition in node.args]
            return None if None in factors else graph.call_function(aten.mul.Tensor, tuple(factors))
        if node.target not in (aten.gt.Scalar, aten.lt.Scalar) or node.args[0].meta["val"].dtype != torch.float32:
            return None
        value, bound = node.args
        greater = node.target is aten.gt.Scalar
        if bound or not greater:  # the clamped value equals the bound exactly where the condition holds
            limits = (bound - 1.0, float(bound)) if greater else (float(bound), bound + 1.0)
            clamped = graph.call_function(aten.clamp.default, (value, *limits))
            value = graph.call_function(aten.sub.Tensor, (value, clamped) if greater else (clamped, value))
        return graph.call_function(aten.ceil.default, (graph.call_function(aten.clamp.default, (value, 0.0, 1.0)),))

    return ConditionsAsNumbers()


def open_(path: Path, threads: int | None) -> tuple[Runner, str]:
    """Run with ExecuTorch's Python runtime, one call at a time, since a program has one planned memory."""
    import torch

    metadata = read_program_metadata(path)
    parse_metadata(metadata, path)
    runtime = _runtime(path)
    module = _module(runtime, path)
    if threads is not None:
        runtime._unsafe_reset_threadpool(threads)
    turn = threading.Lock()

    def run(*arrays: Array) -> Sequence[Array]:
        with turn:
            outputs = module.forward([torch.from_numpy(array) for array in arrays])
        return [output.numpy() for output in outputs]

    return run, metadata


def _module(runtime: Any, path: Path) -> Any:
    module = runtime._load_for_executorch(str(path), program_verification=runtime.Verification.InternalConsistency)
    try:
        module.method_names()  # reads the file
    except RuntimeError as error:
        raise ArtifactError(
            f"{path} is damaged or not an ExecuTorch program: {first_line(error)}; export it again."
        ) from error
    return module


def _runtime(path: Path) -> Any:
    with _quiet():
        try:
            from executorch.extension.pybindings import portable_lib
        except ImportError as error:
            raise EXECUTORCH.missing_runtime(str(path)) from error
    return portable_lib


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the warnings that ExecuTorch and torchao give about their own code."""
    from explainable_model.lowering.capture.export import quiet_export

    with quiet_export(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


EXECUTORCH = Format(
    name="executorch",
    suffixes=(".pte",),
    runtime="ExecuTorch",
    packages=("executorch",),
    extra="executorch",
    write=write,
    open=open_,
    read_metadata=read_program_metadata,
    machine_code=True,
    fixed_size=True,
)
