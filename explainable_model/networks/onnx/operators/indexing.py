"""Operators that read or write by index, and that change the type of values."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from explainable_model.errors import ModelError
from explainable_model.networks.onnx.operators.arithmetic import cast_numbers
from explainable_model.networks.onnx.operators.call import Call, Operator
from explainable_model.networks.onnx.values import (
    Value,
    axis_of,
    bounded,
    few,
    flat,
    is_numbers,
    numbers,
    tensor,
    tensors,
)

DTYPES = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64, 9: torch.bool,
    10: torch.float16, 11: torch.float64, 16: torch.bfloat16,
}  # fmt: skip
"""The types of tensors by their numbers in ONNX."""


def gather(call: Call, x: Value, index: Value) -> Value:
    axis = axis_of(call.get("axis", 0), x.ndim)
    if is_numbers(index):
        if is_numbers(x):
            few(x.size // max(x.shape[axis], 1) * index.size)
            return numbers(np.take(numbers(x), np.array(index.tolist(), dtype=np.int64).reshape(index.shape), axis))
        if index.ndim == 0:
            return x.select(axis, numbers(index).item())
    x = tensor(x, index if isinstance(index, Tensor) else None)
    index = tensor(index, x)
    chosen = torch.where(index < 0, index + x.shape[axis], index)
    if index.ndim == 1:
        return x.index_select(axis, chosen)
    return (
        x.index_select(axis, chosen.flatten()).unflatten(axis, index.shape)
        if index.ndim
        else x[(slice(None),) * axis + (chosen,)]
    )


def gather_elements(call: Call, x: Value, index: Value) -> Value:
    x, index = tensors(x, index)
    axis = axis_of(call.get("axis", 0), x.ndim)
    return x.gather(axis, torch.where(index < 0, index + x.shape[axis], index).long())


def gather_nd(call: Call, x: Value, index: Value) -> Value:
    x, index = tensors(x, index)
    batch = call.get("batch_dims", 0)
    own = [
        torch.arange(x.shape[i], device=x.device).reshape([-1 if j == i else 1 for j in range(index.ndim - 1)])
        for i in range(batch)
    ]
    return x[(*own, *index.long().unbind(-1))]


def scatter_elements(call: Call, x: Value, index: Value, updates: Value) -> Value:
    x, index, updates = tensors(x, index, updates)
    axis, how = axis_of(call.get("axis", 0), x.ndim), call.get("reduction", "none")
    index = torch.where(index < 0, index + x.shape[axis], index).long()
    if how == "none":
        return x.scatter(axis, index, updates)
    return x.scatter_reduce(axis, index, updates, {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}[how])


def scatter_nd(call: Call, x: Value, index: Value, updates: Value) -> Value:
    x, index, updates = tensors(x, index, updates)
    how = call.get("reduction", "none")
    if how not in ("none", "add"):
        raise ModelError(f"ScatterND with reduction {how} is not read; expected none or add")
    return x.index_put(index.long().unbind(-1), updates, accumulate=how == "add")


def cast(call: Call, x: Value) -> Value:
    """To the type of the number ``to``; of a shape, the numbers stay numbers."""
    dtype = DTYPES.get(call.get("to"))
    if dtype is None:
        raise ModelError(f"Cast to the type {call.get('to')} of ONNX is not read, such as strings or 8-bit floats")
    if is_numbers(x):
        kind = "float" if dtype.is_floating_point else "bool" if dtype == torch.bool else "int"
        return cast_numbers(kind, x)
    return x.to(dtype)


def cast_like(call: Call, x: Value, like: Value) -> Value:
    return tensor(x).to(tensor(like).dtype)


def one_hot(call: Call, index: Value, depth: Value, values: Value) -> Value:
    index, values = tensors(index, values)
    count = int(flat(depth)[0])
    bounded([*index.shape, count])
    axis = call.get("axis", -1)
    axis = axis + index.ndim + 1 if axis < 0 else axis
    places = torch.arange(count, device=index.device).reshape([-1 if i == axis else 1 for i in range(index.ndim + 1)])
    found = torch.where(index < 0, index + count, index).unsqueeze(axis) == places
    return torch.where(found, values[1], values[0])


def eye_like(call: Call, x: Value) -> Value:
    dtype = DTYPES[call.get("dtype", 1)] if "dtype" in call.attributes else tensor(x).dtype
    rows, columns = x.shape
    places = torch.arange(columns) - torch.arange(rows).unsqueeze(1)
    return (places == call.get("k", 0)).to(dtype)


def refuse_dynamic(call: Call, *inputs: Value) -> Any:
    """Raise for an operator whose output has a shape that depends on the values."""
    raise ModelError(
        f"{call.operator} returns a shape that depends on the values of the image, so no graph can hold it"
    )


TABLE: dict[str, Operator] = {
    "Cast": Operator(cast, passive=True),
    "CastLike": Operator(cast_like, passive=True),
    "EyeLike": Operator(eye_like, passive=True),
    "Gather": Operator(gather, passive=True),
    "GatherElements": Operator(gather_elements, passive=True),
    "GatherND": Operator(gather_nd, passive=True),
    "OneHot": Operator(one_hot, numbers=(1,), passive=True),
    "Scatter": Operator(scatter_elements, passive=True),
    "ScatterElements": Operator(scatter_elements, passive=True),
    "ScatterND": Operator(scatter_nd, passive=True),
}
