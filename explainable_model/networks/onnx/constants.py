"""Constants of a file as values, and the attributes of its nodes."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from explainable_model.errors import ModelError
from explainable_model.networks.onnx.operators.indexing import DTYPES
from explainable_model.networks.onnx.values import Value, is_numbers

FEW = 1024  # whole numbers of a constant that may be a shape or a place
WHOLE = (torch.int64, torch.int32, torch.bool)
BFLOAT16 = 16


def read_constant(proto: Any) -> Value:
    """A constant: few whole numbers as an array of NumPy, everything else as a tensor.

    Raises:
        ModelError: a type that PyTorch does not compute with, such as strings.
    """
    from onnx import TensorProto, numpy_helper

    dtype = DTYPES.get(proto.data_type)
    if dtype is None:
        kinds = {number: name for name, number in TensorProto.DataType.items()}
        kind = kinds.get(proto.data_type, str(proto.data_type))
        raise ModelError(f"the constant {proto.name!r} has the type {kind}, which the reader does not know")
    try:
        array = numpy_helper.to_array(proto)
    except Exception as error:
        raise ModelError(f"the constant {proto.name!r} is damaged: {error}") from error
    if proto.data_type == BFLOAT16:
        return torch.from_numpy(array.astype(np.float32)).to(dtype)
    return settle(torch.from_numpy(np.array(array, copy=True, order="C")))


def settle(value: Value) -> Value:
    """A computed constant in the form that ``read_constant`` gives it."""
    if isinstance(value, Tensor) and value.dtype in WHOLE and value.numel() <= FEW:
        return value.numpy()
    if is_numbers(value) and value.dtype == object:
        items = list(value.flat)
        kind = (
            float
            if any(isinstance(v, float) for v in items)
            else bool
            if items and all(isinstance(v, bool) for v in items)
            else int
        )
        return np.array(value.tolist(), dtype={float: np.float32, bool: np.bool_, int: np.int64}[kind]).reshape(
            value.shape
        )
    return value


def read_attribute(proto: Any) -> Any:
    """An attribute: numbers, text, lists of them, or a tensor."""
    from onnx import TensorProto, helper

    value = helper.get_attribute_value(proto)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, TensorProto):
        constant = read_constant(value)
        return constant if isinstance(constant, Tensor) else torch.from_numpy(np.array(constant, copy=True))
    if isinstance(value, (str, int, float)):
        return value
    if isinstance(value, (list, tuple)) or type(value).__name__.startswith("Repeated"):
        return [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in value]
    return value


def read_constant_node(node: Any) -> Value:
    """The value of a node of type ``Constant``."""
    (attribute,) = node.attribute
    if attribute.name.startswith(("string", "value_string", "sparse")):
        raise ModelError(f"a constant holds {attribute.name}, which the reader does not know")
    value = read_attribute(attribute)
    if attribute.name in ("value_int", "value_ints"):
        return np.array(value, dtype=np.int64)
    if attribute.name in ("value_float", "value_floats"):
        return torch.tensor(value, dtype=torch.float32)
    return settle(value)
