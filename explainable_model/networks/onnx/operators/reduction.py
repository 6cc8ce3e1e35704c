"""Reductions, sorting and sums along an axis."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from explainable_model.networks.onnx.operators.call import Call, Operator, Run
from explainable_model.networks.onnx.values import Value, axis_of, flat, is_numbers, numbers, one, tensor


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


REDUCTIONS: dict[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keepdim=keep),
    "ReduceL2": lambda x, axes, keep: x.square().sum(axes, keepdim=keep).sqrt(),
    "ReduceLogSum": lambda x, axes, keep: x.sum(axes, keepdim=keep).log(),
    "ReduceLogSumExp": lambda x, axes, keep: x.logsumexp(axes, keepdim=keep),
    "ReduceMax": lambda x, axes, keep: x.amax(axes, keepdim=keep),
    "ReduceMean": lambda x, axes, keep: x.mean(axes, keepdim=keep),
    "ReduceMin": lambda x, axes, keep: x.amin(axes, keepdim=keep),
    "ReduceProd": _product,
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keepdim=keep, dtype=x.dtype),
    "ReduceSumSquare": lambda x, axes, keep: x.square().sum(axes, keepdim=keep),
}

OF_NUMBERS: dict[str, Callable[[list[Any]], Any]] = {
    "ReduceMax": max,
    "ReduceMin": min,
    "ReduceProd": math.prod,
    "ReduceSum": sum,
}


def reduce(reduction: Callable[[Tensor, list[int], bool], Tensor]) -> Run:
    """A reduction; the axes are an attribute in older opsets."""

    def run(call: Call, x: Value, axes: Value = None) -> Value:
        axes = call.get("axes", axes)
        chosen = [] if axes is None else flat(numbers(axes) if isinstance(axes, list) else axes)
        if not chosen and call.get("noop_with_empty_axes"):
            return x
        keep = bool(call.get("keepdims", 1))
        if is_numbers(x) and x.ndim <= 1 and call.operator in OF_NUMBERS:
            result = OF_NUMBERS[call.operator](flat(x))
            return numbers([result] if keep and x.ndim else result)
        x = tensor(x)
        dims = [axis_of(axis, x.ndim) for axis in chosen] or list(range(x.ndim))
        if not x.ndim:
            return reduction(x.reshape(1), [0], False)
        return reduction(x.float(), dims, keep).to(x.dtype) if x.dtype == torch.bool else reduction(x, dims, keep)

    return run


def arg_extreme(call: Call, x: Value) -> Value:
    """Of equal values the first, unless the last is asked for."""
    axis, keep = axis_of(call.get("axis", 0), x.ndim), bool(call.get("keepdims", 1))
    find = torch.argmax if call.operator == "ArgMax" else torch.argmin
    if call.get("select_last_index"):
        return x.shape[axis] - 1 - find(x.flip(axis), axis, keepdim=keep)
    return find(x, axis, keepdim=keep)


def top_k(call: Call, x: Value, count: Value = None) -> tuple[Tensor, Tensor]:
    count = call.get("k") if count is None else one(count, "the number of the largest values")
    values, indices = torch.topk(x, count, axis_of(call.get("axis", -1), x.ndim), bool(call.get("largest", 1)))
    return values, indices


def cumulate(call: Call, x: Value, axis: Value) -> Value:
    x = tensor(x)
    dim = axis_of(one(axis, "an axis"), x.ndim)
    x = x.flip(dim) if call.get("reverse") else x
    total = (torch.cumsum if call.operator == "CumSum" else torch.cumprod)(x, dim, dtype=x.dtype)
    if call.get("exclusive"):
        first = (torch.zeros_like if call.operator == "CumSum" else torch.ones_like)(total.narrow(dim, 0, 1))
        total = torch.cat([first, total.narrow(dim, 0, x.shape[dim] - 1)], dim)
    return total.flip(dim) if call.get("reverse") else total


TABLE: dict[str, Operator] = {
    **{name: Operator(reduce(function), numbers=(1,), passive=True) for name, function in REDUCTIONS.items()},
    "ArgMax": Operator(arg_extreme, passive=True),
    "ArgMin": Operator(arg_extreme, passive=True),
    "CumProd": Operator(cumulate, numbers=(1,)),
    "CumSum": Operator(cumulate, numbers=(1,)),
    "TopK": Operator(top_k, numbers=(1,), passive=True),
}
