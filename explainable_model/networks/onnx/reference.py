"""ONNX Runtime on the graph as a file has it, within bounds: the file may be a stranger's."""

import re
import threading
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from explainable_model.errors import MissingRuntimeError, ModelError, first_line
from explainable_model.networks.onnx.kept import with_outputs
from explainable_model.telemetry import import_onnxruntime

Array = NDArray[Any]

MOST_BYTES = 2**33
"""The most memory that all files which are read at a time may take in ONNX Runtime: 8 GiB."""

SECONDS = 600.0
"""After which a comparison on noise ends: a loop may have no end."""


class Reference:
    """ONNX Runtime, with the graph as the file has it.

    Args:
        model: the graph with its weights.
        outputs: names of further values to return.

    Attributes:
        names: of the values that it returns.
        channels: how many the first convolution takes; ``None`` without one.

    Raises:
        ModelError: ONNX Runtime does not load the graph.
        MissingRuntimeError: it is not installed.
    """

    def __init__(self, model: Any, outputs: Sequence[str] = ()) -> None:
        try:
            runtime = import_onnxruntime()
        except ImportError as error:
            raise MissingRuntimeError(
                "Reading an ONNX file compares the network with ONNX Runtime: pip install 'explainable-model[onnx]'."
            ) from error
        _bound_memory()
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = max(torch.get_num_threads(), 1)
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.use_env_allocators", "1")
        try:
            session = runtime.InferenceSession(_serialize(model, outputs), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own exceptions share no public base class
            raise ModelError(f"ONNX Runtime does not load the file: {first_line(error)}") from error
        self._session, self._runtime = session, runtime
        self.names = [value.name for value in session.get_outputs()]
        self.channels = _find_channels(model.graph)

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Outputs by name.

        Raises:
            ModelError: ONNX Runtime does not take the inputs, or would take too much memory or time.
        """
        options = self._runtime.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        clock = threading.Timer(SECONDS, lambda: setattr(options, "terminate", True))
        clock.daemon = True
        clock.start()
        try:
            found = self._session.run(None, inputs, options)
        except Exception as error:  # onnxruntime's own exceptions share no public base class
            raise ModelError(_explain(error)) from error
        finally:
            clock.cancel()
        return {name: np.asarray(value) for name, value in zip(self.names, found, strict=True)}


def _explain(error: Exception) -> str:
    text = first_line(error)
    found = re.search(r"running (\w+) node\. Name:'(.*?)'", str(error))
    node = "the graph" if found is None else f"the node {found[1]} {found[2]!r}"
    if "Available memory of" in str(error):
        return f"{node} takes too much memory on an image or a few: expected at most {MOST_BYTES >> 30} GiB"
    if "terminate flag" in str(error):
        return f"the graph does not end within {SECONDS:.0f} s"
    return f"ONNX Runtime fails on the file: {text}"


def _find_channels(graph: Any) -> int | None:
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        weight = weights.get(node.input[1]) if node.op_type == "Conv" and len(node.input) > 1 else None
        if weight is not None and len(weight.dims) > 1:
            groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
            return int(weight.dims[1] * groups)
    return None


@cache
def _bound_memory() -> None:
    """Bound the memory that sessions share which ask for it; those of the user's do not."""
    runtime = import_onnxruntime()
    place = runtime.OrtMemoryInfo("Cpu", runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT)
    # 1: an arena grows by what is asked for, and not by twice as much as before; -1: as ONNX Runtime does by itself.
    limits = {"max_mem": MOST_BYTES, "arena_extend_strategy": 1}
    limits |= {"initial_chunk_size_bytes": -1, "max_dead_bytes_per_chunk": -1}
    runtime.create_and_register_allocator(place, runtime.OrtArenaCfg(limits))


def _serialize(model: Any, outputs: Sequence[str]) -> bytes:
    data: bytes = with_outputs(model, outputs).SerializeToString()
    return data
