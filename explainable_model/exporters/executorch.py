"""ExecuTorch programs, for phones and boards: one ``.pte``, most of it on XNNPACK."""

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explainable_model.artifact.metadata import METADATA_KEY
from explainable_model.artifact.runner import Array, Runner
from explainable_model.errors import ArtifactError, LoweringError, MissingRuntimeError
from explainable_model.exporters.format import Format, foreign

if TYPE_CHECKING:
    from torch.fx import Graph

    from explainable_model.lowering.lowered import LoweredModel


def write(lowered: "LoweredModel", path: Path, metadata: str) -> None:
    """Write a ``.pte`` whose memory is planned for the example's batch and size; a method returns the metadata."""
    with _quiet():
        try:
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower
        except ImportError as error:
            raise _missing(f"Exporting {path.name}") from error
        try:
            with _products_of_no_layer(lowered.exported_program.graph):
                program = to_edge_transform_and_lower(
                    lowered.exported_program,
                    transform_passes=[_conditions_as_numbers()],
                    partitioner=[XnnpackPartitioner()],
                    constant_methods={METADATA_KEY: metadata},
                ).to_executorch()
        except Exception as error:  # its passes raise whatever they meet
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise LoweringError(f"{lowered.plan.model} cannot be translated to ExecuTorch: {reason}") from error
    path.write_bytes(program.buffer)


@contextmanager
def _products_of_no_layer(graph: "Graph") -> Iterator[None]:
    """Without what says that the gradient's products come from linear layers.

    XNNPACK's partitioner takes each for a whole layer, does not find that layer's bias and leaves the product to a loop
    that was measured to be eight times slower, with a weight of its own.
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


def _conditions_as_numbers() -> Any:
    """A pass that computes zeros and ones where the graph compares, and converts what it found.

    The slope of an activation is such a condition. XNNPACK has no comparisons, and its partitions end at each: the
    loops of ExecuTorch then compare, convert and copy. ``ceil`` of a ``clamp`` from 0 to 1 finds the same for every
    number: 0 where it is not more than 0, and 1 elsewhere.
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
            factors = [as_number(graph, each) for each in node.args]
            return None if None in factors else graph.call_function(aten.mul.Tensor, tuple(factors))
        if node.target not in (aten.gt.Scalar, aten.lt.Scalar) or node.args[0].meta["val"].dtype != torch.float32:
            return None
        value, bound = node.args
        greater = node.target is aten.gt.Scalar
        if bound or not greater:  # a clamp makes the bound's tensor, where the condition holds
            limits = (bound - 1.0, float(bound)) if greater else (float(bound), bound + 1.0)
            clamped = graph.call_function(aten.clamp.default, (value, *limits))
            value = graph.call_function(aten.sub.Tensor, (value, clamped) if greater else (clamped, value))
        return graph.call_function(aten.ceil.default, (graph.call_function(aten.clamp.default, (value, 0.0, 1.0)),))

    return ConditionsAsNumbers()


def open_(path: Path, threads: int | None) -> tuple[Runner, str]:
    """Run with ExecuTorch's Python runtime; calls wait for each other, since a program has one planned memory."""
    import torch

    runtime = _runtime(path)
    module = _module(runtime, path)
    metadata = _metadata(module, path)
    if threads is not None:
        runtime._unsafe_reset_threadpool(threads)
    turn = threading.Lock()

    def run(*arrays: Array) -> Sequence[Array]:
        with turn:
            outputs = module.forward([torch.from_numpy(array) for array in arrays])
        return [output.numpy() for output in outputs]

    return run, metadata


def read_metadata(path: Path) -> str:
    """What the program's method of that name returns."""
    return _metadata(_module(_runtime(path), path), path)


def _metadata(module: Any, path: Path) -> str:
    if METADATA_KEY not in module.method_names():
        raise foreign(path)
    return str(module.run_method(METADATA_KEY, ())[0])


def _module(runtime: Any, path: Path) -> Any:
    module = runtime._load_for_executorch(str(path), program_verification=runtime.Verification.InternalConsistency)
    try:
        module.method_names()  # only now is the file read
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise ArtifactError(f"{path} is damaged or not an ExecuTorch program: {reason}; export it again.") from error
    return module


def _runtime(path: Path) -> Any:
    with _quiet():
        try:
            from executorch.extension.pybindings import portable_lib
        except ImportError as error:
            raise _missing(str(path)) from error
    return portable_lib


def _missing(what: str) -> MissingRuntimeError:
    return MissingRuntimeError(f"{what} needs ExecuTorch: pip install 'explainable-model[executorch]'.")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what ExecuTorch and torchao say of their own insides when they are imported and run."""
    from explainable_model.lowering.capture.export import quiet_export

    with quiet_export(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


EXECUTORCH = Format(
    name="executorch",
    suffixes=(".pte",),
    runtime="ExecuTorch",
    write=write,
    open=open_,
    read_metadata=read_metadata,
    fixed_size=True,
)
