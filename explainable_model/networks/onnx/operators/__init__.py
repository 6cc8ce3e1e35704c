"""The table of operators: type of a node -> how its outputs are computed."""

from explainable_model.networks.onnx.operators import (
    arithmetic,
    convolution,
    indexing,
    linear,
    normalization,
    pooling,
    quantization,
    reduction,
    resample,
    shape,
    unary,
)
from explainable_model.networks.onnx.operators.call import Operator

FAMILIES = (
    arithmetic, convolution, indexing, linear, normalization, pooling, quantization, reduction, resample, shape, unary
)  # fmt: skip

OPERATORS: dict[str, Operator] = {name: row for family in FAMILIES for name, row in family.TABLE.items()}
"""Every operator of ONNX that the reader computes."""
