"""Operators of two values or more, element by element."""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from explainable_model.errors import ModelError
from explainable_model.networks.onnx.operators.call import Call, Operator, Run
from explainable_model.networks.onnx.values import MOST_BITS, Value, each, is_numbers, numbers, tensor, tensors

KEEPS_NUMBERS = ("Add", "Sub", "Mul", "Div", "Pow")  # x * 0.5 needs no tensor of one element


def _is_number(value: Value, other: Value) -> bool:
    return (
        is_numbers(value) and value.size == 1 and isinstance(other, Tensor) and value.ndim <= other.ndim
        and (other.is_floating_point() or not isinstance(numbers(value).item(), float))
    )  # fmt: skip


def binary(on_numbers: Callable[[Any, Any], Any], on_tensors: Callable[[Any, Any], Any]) -> Run:
    """A function of two values or more; shapes are computed number by number."""

    def run(call: Call, *values: Value) -> Value:
        result = values[0]
        for value in values[1:]:
            result = _apply(call, on_numbers, on_tensors, result, value)
        return result

    return run


def _apply(call: Call, on_numbers: Callable[..., Any], on_tensors: Callable[..., Any], x: Value, y: Value) -> Value:
    if is_numbers(x) and is_numbers(y):
        return each(on_numbers, x, y)
    if call.operator in KEEPS_NUMBERS:
        if _is_number(y, x):
            return on_tensors(x, numbers(y).item())
        if _is_number(x, y) and call.operator in ("Add", "Mul"):
            return on_tensors(y, numbers(x).item())
    return on_tensors(*tensors(x, y))


def divide(x: Tensor, y: Any) -> Tensor:
    """Whole numbers are divided toward zero."""
    return torch.true_divide(x, y) if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def divide_numbers(x: Any, y: Any) -> Any:
    if isinstance(y, int | float) and y == 0:
        raise ModelError("a shape or an index is divided by 0")
    if isinstance(x, int) and isinstance(y, int):
        quotient = abs(x) // abs(y)
        return quotient if (x < 0) == (y < 0) else -quotient
    is_whole = all(isinstance(v, int | torch.SymInt) for v in (x, y))
    return x // y if is_whole else x / y


def power_of_numbers(x: Any, y: Any) -> Any:
    if isinstance(x, int) and isinstance(y, int) and abs(x) > 1 and y > MOST_BITS:
        raise ModelError(f"a power of {y} is computed for a shape or an index")
    return x**y


def power(x: Tensor, y: Any) -> Tensor:
    """The base gives the type of the result."""
    return torch.pow(x, y).to(x.dtype)


def modulo(call: Call, x: Value, y: Value) -> Value:
    """``fmod=1`` has the sign of the first value, 0 that of the second."""
    if is_numbers(x) and is_numbers(y):
        return each(operator.mod, x, y)
    return (torch.fmod if call.get("fmod") else torch.remainder)(*tensors(x, y))


def shift(call: Call, x: Value, y: Value) -> Value:
    left, right = torch.bitwise_left_shift, torch.bitwise_right_shift
    return (left if call.get("direction") == "LEFT" else right)(*tensors(x, y))


def mean(call: Call, *values: Value) -> Value:
    total: Tensor = binary(operator.add, torch.add)(call, *values)
    return total / len(values)


def where(call: Call, condition: Value, x: Value, y: Value) -> Value:
    if all(map(is_numbers, (condition, x, y))):
        return each(lambda c, a, b: a if c else b, condition, x, y)
    return torch.where(*tensors(condition, x, y))


def choose(on_tensors: Callable[[Tensor, Tensor], Tensor], on_numbers: Callable[[Any, Any], Any]) -> Run:
    return binary(on_numbers, on_tensors)


def _row(on_numbers: Callable[[Any, Any], Any], on_tensors: Callable[[Any, Any], Any]) -> Operator:
    return Operator(binary(on_numbers, on_tensors), scalars=True)


def cast_numbers(kind: str, value: Value) -> Value:
    """Cast the numbers of a shape to ``int``, ``float`` or ``bool``."""
    convert: Any = {"int": torch.sym_int, "float": torch.sym_float, "bool": bool}[kind]
    return each(convert, value)


def sum_up(call: Call, *values: Value) -> Value:
    result = tensor(values[0])
    for value in values[1:]:
        result = result + tensor(value, result)
    return result


TABLE: dict[str, Operator] = {
    "Add": _row(operator.add, torch.add),
    "And": _row(operator.and_, torch.logical_and),
    "BitShift": Operator(shift),
    "BitwiseAnd": _row(operator.and_, torch.bitwise_and),
    "BitwiseOr": _row(operator.or_, torch.bitwise_or),
    "BitwiseXor": _row(operator.xor, torch.bitwise_xor),
    "Div": _row(divide_numbers, divide),
    "Equal": _row(operator.eq, torch.eq),
    "Greater": _row(operator.gt, torch.gt),
    "GreaterOrEqual": _row(operator.ge, torch.ge),
    "Less": _row(operator.lt, torch.lt),
    "LessOrEqual": _row(operator.le, torch.le),
    "Max": _row(max, torch.maximum),
    "Mean": Operator(mean),
    "Min": _row(min, torch.minimum),
    "Mod": Operator(modulo, scalars=True),
    "Mul": _row(operator.mul, torch.mul),
    "Or": _row(operator.or_, torch.logical_or),
    "Pow": _row(power_of_numbers, power),
    "Sub": _row(operator.sub, torch.sub),
    "Sum": Operator(sum_up),
    "Where": Operator(where, scalars=True),
    "Xor": _row(operator.xor, torch.logical_xor),
}
