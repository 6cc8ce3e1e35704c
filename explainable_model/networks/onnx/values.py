"""Values that run through an ONNX graph: tensors, and arrays of numbers where the graph computes with shapes.

A shape is an object array of Python numbers, so arithmetic on it is Python's, which ``torch.export`` follows where a
dimension is open. A constant of few whole numbers is a NumPy array of its own type: it serves as either.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explainable_model.errors import ModelError

Value: TypeAlias = Any
"""A ``Tensor``, an array of numbers, or ``None`` for an input that is left out."""

Numbers: TypeAlias = NDArray[Any]

FLOATS = (float, torch.SymFloat)
BOOLS = (bool, np.bool_, torch.SymBool)
LARGEST = 2**28  # elements of a value that a graph makes of nothing but a shape
MOST_NUMBERS = 2**20  # of an array of numbers, each of which is an object of Python
MOST_BITS = 64  # of a whole number in a file
FAILURES = (ModelError, RuntimeError, ValueError, IndexError, TypeError, KeyError, AttributeError, ArithmeticError)
"""What computing a graph may raise: it does not fit together, or not to its inputs."""


def is_numbers(value: Value) -> bool:
    """Whether a value is an array of numbers."""
    return isinstance(value, np.ndarray)


def numbers(value: Any) -> Numbers:
    """An array of Python numbers, from numbers in nested lists or an array of any type."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return np.array(value.tolist(), dtype=object).reshape(value.shape)
    return np.asarray(value, dtype=object)


def each(function: Callable[..., Any], *arrays: Value) -> Numbers:
    """Apply a function to the elements of arrays, which are broadcast.

    Raises:
        ModelError: too many elements, or a whole number that no file holds.
    """
    few(math.prod(np.broadcast_shapes(*(array.shape for array in arrays))))
    found = numbers(np.frompyfunc(function, len(arrays), 1)(*map(numbers, arrays)))
    if any(type(value) is int and value.bit_length() > MOST_BITS for value in found.flat):
        raise ModelError(f"a number of more than {MOST_BITS} bits is computed for a shape or an index")
    return found


def few(count: int) -> None:
    """Refuse to make an array of more numbers than a shape or an index has.

    Raises:
        ModelError: there are more than ``MOST_NUMBERS``.
    """
    if count > MOST_NUMBERS:
        raise ModelError(f"{count} numbers of shapes or indices are asked for; expected at most {MOST_NUMBERS}")


def flat(value: Value, meaning: str = "a shape or an index") -> list[Any]:
    """The numbers of a value as a list.

    Raises:
        ModelError: the graph computes them from the image.
    """
    if isinstance(value, Tensor):
        raise ModelError(f"the graph computes {meaning} from the values of the image; expected it from its shape alone")
    return list(numbers(value).flat)


def one(value: Value, meaning: str = "a number") -> Any:
    """The single number of a value; errors as ``flat``."""
    found = flat(value, meaning)
    if len(found) != 1:
        raise ModelError(f"expected one number for {meaning}, got {len(found)}")
    return found[0]


def tensor(value: Value, like: Tensor | None = None) -> Tensor:
    """A value as a tensor, on the device of another one."""
    device = None if like is None else like.device
    if isinstance(value, Tensor):
        return value if device is None or value.device == device else value.to(device)
    if value.dtype != object:
        dtype = torch.from_numpy(
            np.empty(0, value.dtype)
        ).dtype  # from_numpy itself leaves no trace in an exported graph
        return torch.tensor(value.tolist(), dtype=dtype, device=device).reshape(value.shape)
    items = list(value.flat)
    dtype = torch.float32 if any(isinstance(v, FLOATS) for v in items) else torch.int64
    if items and all(isinstance(v, BOOLS) for v in items):
        dtype = torch.bool
    if all(isinstance(v, int | float) for v in items):
        return torch.tensor(value.tolist(), dtype=dtype, device=device).reshape(value.shape)
    made = [torch.full((), v, dtype=dtype, device=device) for v in items]
    return torch.stack(made).reshape(value.shape)


def tensors(*values: Value) -> list[Tensor]:
    """Values as tensors on one device: that of the tensors among them."""
    like = next((v for v in values if isinstance(v, Tensor) and v.device.type != "cpu"), None)
    return [tensor(v, like) for v in values]


def axis_of(axis: int, ndim: int) -> int:
    """An axis counted from the front.

    Raises:
        ModelError: there is no such axis.
    """
    if not -ndim <= axis < max(ndim, 1):
        raise ModelError(f"axis {axis} does not exist in a value of {ndim} dimensions")
    return axis % ndim if ndim else 0


def bounded(shape: list[Any]) -> list[Any]:
    """The shape, where a value of it can be made.

    Raises:
        ModelError: it would fill the memory.
    """
    known = [size for size in shape if isinstance(size, int)]
    if math.prod(known) > LARGEST or any(size < 0 for size in known):
        raise ModelError(f"a value of shape {known} is asked for; expected at most {LARGEST} elements")
    return shape
