"""ExecuTorch programs, for phones and boards: one ``.pte``, most of it on XNNPACK."""

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explainable_model.errors import ArtifactError, LoweringError, MissingRuntimeError
from explainable_model.exporters.format import Array, Format, Runner, foreign
from explainable_model.metadata import METADATA_KEY

if TYPE_CHECKING:
    from torch.fx import Graph

    from explainable_model.lowering import LoweredModel


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
    from explainable_model.lowering.capture import quiet_export

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
