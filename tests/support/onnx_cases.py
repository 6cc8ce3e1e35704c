"""The node tests of the onnx package, run by the reader."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from explainable_model.networks.onnx.build import Build
from explainable_model.networks.onnx.constants import read_constant
from explainable_model.networks.onnx.file import STANDARD, opset_of
from explainable_model.networks.onnx.inputs import GraphInput
from explainable_model.networks.onnx.network import OnnxNetwork
from explainable_model.networks.onnx.operators import OPERATORS

FOLDERS = ("pytorch-operator", "pytorch-converted")


@dataclass(frozen=True)
class NodeCase:
    """One test: a small graph, its inputs and the outputs that the package expects."""

    name: str
    model: Any
    inputs: list[Any]
    outputs: list[NDArray[Any]]


def node_cases() -> Iterator[NodeCase]:
    """The tests of the table's operators: those that the package computes, and those that an old PyTorch exported."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        computed = collect_testcases(None)
    for case in computed:
        if case.data_sets and _is_read(case.model):
            inputs, outputs = case.data_sets[0]
            if all(isinstance(value, np.ndarray) for value in (*inputs, *outputs)):
                yield NodeCase(
                    case.name, case.model, [numpy_helper.from_array(value) for value in inputs], list(outputs)
                )
    for folder in FOLDERS:
        for path in sorted((Path(onnx.__file__).parent / "backend/test/data" / folder).glob("*/model.onnx")):
            model = onnx.load(path)
            if _is_read(model):
                values = [_load(path, kind) for kind in ("input", "output")]
                yield NodeCase(
                    path.parent.name, model, values[0], [numpy_helper.to_array(value) for value in values[1]]
                )


def _load(path: Path, kind: str) -> list[Any]:
    found = sorted(
        (path.parent / "test_data_set_0").glob(f"{kind}_*.pb"), key=lambda file: int(file.stem.split("_")[1])
    )
    return [onnx.TensorProto.FromString(file.read_bytes()) for file in found]


def _is_read(model: Any) -> bool:
    nodes = [node for node in model.graph.node if node.op_type != "Constant"]
    return bool(nodes) and all(node.domain in STANDARD and node.op_type in OPERATORS for node in nodes)


def run_case(case: NodeCase) -> list[NDArray[Any]]:
    """The outputs that the reader computes; shapes and the like are constants, as they are in files."""
    graph = case.model.graph
    build = Build(opset_of(case.model), None)
    rows = [(node, OPERATORS[node.op_type]) for node in graph.node if node.op_type in OPERATORS]
    numbers = {node.input[at] for node, row in rows for at in row.numbers if at < len(node.input)}
    feed, inputs = [], []
    known = {tensor.name for tensor in graph.initializer}
    for declared, proto in zip([v for v in graph.input if v.name not in known], case.inputs, strict=False):
        value = read_constant(proto)
        if declared.name in numbers:
            build.constants[declared.name] = value
        else:
            feed.append(torch.as_tensor(value))
            inputs.append(GraphInput(declared.name, (), feed[-1].dtype))
    build.read(graph)
    names = [output.name for output in graph.output]
    if not feed:
        return [torch.as_tensor(build.constants[name]).numpy() for name in names]
    found = OnnxNetwork(build, inputs, names, None, False, {})(*feed)
    values = found if isinstance(found, dict) else {names[0]: found}
    return [(v.float() if v.dtype == torch.bfloat16 else v).numpy() for v in (values[name] for name in names)]


def check_case(case: NodeCase) -> None:
    """Run a test.

    Raises:
        AssertionError: the outputs differ.
    """
    for got, expected in zip(run_case(case), case.outputs, strict=True):
        assert got.shape == expected.shape, f"shape {got.shape}, expected {expected.shape}"
        same_kind = got.dtype == expected.dtype or str(expected.dtype) == "bfloat16"
        assert same_kind, f"{got.dtype}, expected {expected.dtype}"
        half = expected.dtype == np.float16 or str(expected.dtype) == "bfloat16"
        np.testing.assert_allclose(
            got, expected.astype(got.dtype), rtol=1e-2 if half else 1e-3, atol=1e-2 if half else 1e-5
        )
