"""The portable profile against the operators that TensorRT publishes; TensorRT itself needs a GPU and was not run."""

import pytest
from onnx import defs

from explainable_model.lowering.passes.portable import ONNX_OPERATORS
from tests.support.tensorrt import SINCE_8_5, SUPPORTED_8_5


def operators_of(opset: int) -> set[str]:
    """The operators that a portable artifact of an opset may have."""
    return {name for name in ONNX_OPERATORS if first_of(name) <= opset}


def first_of(name: str) -> int:
    """The first opset that has an operator."""
    return min(schema.since_version for schema in defs.get_all_schemas_with_history() if schema.name == name)


@pytest.mark.parametrize(
    ("opset", "supported", "missing"),
    [(16, SUPPORTED_8_5, set()), (17, SUPPORTED_8_5, {"LayerNormalization"}),
     (13, SUPPORTED_8_5 - SINCE_8_5, {"Reciprocal"})],
)  # fmt: skip
def test_portable_operators_are_published(opset: int, supported: frozenset[str], missing: set[str]) -> None:
    assert operators_of(opset) - supported == missing
