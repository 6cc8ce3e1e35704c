"""Operators that rearrange values, and that ask for their shape."""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from explainable_model.errors import ModelError
from explainable_model.networks.onnx.operators.call import Call, Operator
from explainable_model.networks.onnx.values import (
    MOST_NUMBERS,
    Value,
    axis_of,
    bounded,
    few,
    flat,
    is_numbers,
    numbers,
    one,
    tensor,
    tensors,
)


def listed(value: Value) -> list[Any] | None:
    """An attribute or an input as a list of numbers; ``None`` where it is left out."""
    return None if value is None else [value] if isinstance(value, int) else flat(value)


def reshape(call: Call, x: Value, shape: Value = None) -> Value:
    """``0`` keeps a dimension; a first dimension of a file for one batch size follows the batch."""
    sizes = listed(call.get("shape", shape))
    assert sizes is not None
    if is_numbers(x):
        return x.reshape(
            [x.shape[i] if size == 0 and not call.get("allowzero") else int(size) for i, size in enumerate(sizes)]
        )
    x = tensor(x)
    if not call.get("allowzero"):
        sizes = [x.shape[i] if isinstance(size, int) and size == 0 else size for i, size in enumerate(sizes)]
    if call.batch is not None and sizes and isinstance(sizes[0], int) and sizes[0] == call.batch and x.ndim:
        sizes[0] = x.shape[0]
    return x.reshape(sizes)


def flatten(call: Call, x: Value) -> Value:
    axis = call.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    if axis == 1 and x.ndim > 1:
        return x.flatten(1)
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def transpose(call: Call, x: Value) -> Value:
    order = list(call.get("perm") or reversed(range(x.ndim)))
    return x.transpose(order) if is_numbers(x) else x.permute(order)


def squeeze(call: Call, x: Value, axes: Value = None) -> Value:
    chosen = listed(call.get("axes", axes))
    if is_numbers(x):
        return x.squeeze() if chosen is None else x.squeeze(tuple(chosen))
    if chosen is None:
        chosen = [i for i, size in enumerate(x.shape) if isinstance(size, int) and size == 1]
    return x.squeeze([axis_of(axis, x.ndim) for axis in chosen])


def unsqueeze(call: Call, x: Value, axes: Value = None) -> Value:
    chosen = listed(call.get("axes", axes)) or []
    ndim = x.ndim + len(chosen)
    for axis in sorted(axis_of(axis, ndim) for axis in chosen):
        x = np.expand_dims(x, axis) if is_numbers(x) else x.unsqueeze(axis)
    return x


def concat(call: Call, *values: Value) -> Value:
    if all(map(is_numbers, values)):
        few(sum(value.size for value in values))
        return np.concatenate(list(map(numbers, values)), call.get("axis", 0))
    parts = tensors(*values)
    axis = axis_of(call.get("axis", 1), parts[0].ndim)
    if call.batch is not None and axis:  # a class token that the file holds for its batch size
        count = next(
            (p.shape[0] for p in parts if not (isinstance(p.shape[0], int) and p.shape[0] == call.batch)), None
        )
        if count is not None:
            parts = [
                p.expand(count, *p.shape[1:]) if isinstance(p.shape[0], int) and p.shape[0] == 1 else p for p in parts
            ]
    return torch.cat(parts, axis)


def split(call: Call, x: Value, sizes: Value = None) -> tuple[Value, ...]:
    """In parts of the sizes, or in as many equal parts as there are outputs, the last one perhaps smaller."""
    axis = axis_of(call.get("axis", 0), x.ndim)
    chosen = listed(call.get("split", sizes))
    if chosen is None:
        count = call.get("num_outputs") or call.outputs
        size = -(-x.shape[axis] // count)
        chosen = [size] * (count - 1) + [x.shape[axis] - size * (count - 1)]
    if is_numbers(x):
        return tuple(np.split(x, np.cumsum(chosen)[:-1], axis))
    return tuple(torch.split(x, chosen, axis))


def slice_(
    call: Call, x: Value, starts: Value = None, ends: Value = None, axes: Value = None, steps: Value = None
) -> Value:
    begins, stops = listed(call.get("starts", starts)) or [], listed(call.get("ends", ends)) or []
    chosen = listed(call.get("axes", axes))
    chosen = list(range(len(begins))) if chosen is None else [axis_of(axis, x.ndim) for axis in chosen]
    strides = listed(steps) or [1] * len(begins)
    for begin, stop, axis, step in zip(begins, stops, chosen, strides, strict=True):
        x = _slice_axis(x, axis, begin, stop, step)
    return x


def _slice_axis(x: Value, axis: int, begin: Any, stop: Any, step: int) -> Value:
    if is_numbers(x):
        if step < 0 and stop < -(2**31):
            stop = None
        return x[(slice(None),) * axis + (slice(begin, stop, step),)]
    if step < 0:  # ONNX and Python count from behind alike; torch wants the step positive
        length = x.shape[axis]
        first, last, _ = slice(begin, None if stop < -(2**31) else stop, step).indices(int(length))
        if last >= first:
            return x.narrow(axis, 0, 0)
        count = -(-(first - last) // -step)
        low = first + (count - 1) * step
        return torch.ops.aten.slice.Tensor(x, axis, low, first + 1, -step).flip(axis)
    stop = min(stop, 2**62) if isinstance(stop, int) else stop
    return torch.ops.aten.slice.Tensor(x, axis, begin, stop, step)


def expand(call: Call, x: Value, shape: Value) -> Value:
    """Broadcast, as the operator's shape may have ones where the value has more."""
    x, wanted = tensor(x), bounded(flat(shape))
    if call.batch is not None and wanted and wanted[0] == call.batch and x.ndim == len(wanted):
        wanted[0] = x.shape[0]
    ndim = max(x.ndim, len(wanted))
    have, wanted = [1] * (ndim - x.ndim) + list(x.shape), [1] * (ndim - len(wanted)) + wanted
    return x.expand([h if isinstance(w, int) and w == 1 else w for h, w in zip(have, wanted, strict=True)])


def tile(call: Call, x: Value, repeats: Value) -> Value:
    counts = flat(repeats)
    if is_numbers(x):
        few(x.size * math.prod(counts))
        return np.tile(x, counts)
    bounded([size * count for size, count in zip(x.shape, counts, strict=True)])
    return x.repeat(counts)


def pad(call: Call, x: Value, amounts: Value = None, value: Value = None, axes: Value = None) -> Value:
    sizes = listed(call.get("pads", amounts)) or []
    chosen = [axis_of(axis, x.ndim) for axis in listed(axes) or range(x.ndim)]
    filled = call.get("value") if value is None else one(value, "the value of the padding")
    count = len(chosen)
    by_axis = {axis: (sizes[i], sizes[count + i]) for i, axis in enumerate(chosen)}
    bounded([size + sum(by_axis.get(axis, (0, 0))) for axis, size in enumerate(x.shape)])
    first = min((axis for axis, both in by_axis.items() if both != (0, 0)), default=None)
    if first is None:
        return x
    mode = call.get("mode", "constant")
    names = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    if mode not in names:
        raise ModelError(f"Pad with mode {mode} is not read; expected one of {', '.join(names)}")
    both = [each for axis in reversed(range(first, x.ndim)) for each in by_axis.get(axis, (0, 0))]
    if mode == "constant":
        is_whole = not x.is_floating_point()
        return F.pad(x, both, "constant", int(filled or 0) if is_whole else float(filled or 0.0))
    return _pad_by_content(x, by_axis, names[mode])


def _pad_by_content(x: Tensor, by_axis: dict[int, tuple[int, int]], mode: str) -> Tensor:
    """Pad with the values of the border; torch knows that for the last dimensions alone."""
    axes = [axis for axis, both in by_axis.items() if both != (0, 0)]
    first = min(axes)
    if 3 <= x.ndim <= 5 and first >= 2 and mode != "circular":
        return F.pad(x, [each for axis in reversed(range(2, x.ndim)) for each in by_axis.get(axis, (0, 0))], mode)
    for axis in axes:
        before, after = by_axis[axis]
        length = x.shape[axis]
        if before < 0 or after < 0:  # cut first
            x = x.narrow(axis, max(-before, 0), length - max(-before, 0) - max(-after, 0))
            before, after, length = max(before, 0), max(after, 0), x.shape[axis]
        places = torch.arange(-before, length + after, device=x.device)
        if mode == "replicate":
            places = places.clamp(0, length - 1)
        elif mode == "circular":
            places = places.remainder(length)
        else:
            places = (length - 1) - (places.abs().remainder(2 * (length - 1)) - (length - 1)).abs()
        x = x.index_select(axis, places)
    return x


def shape_of(call: Call, x: Value) -> Value:
    return numbers(list(x.shape)[slice(call.get("start", 0), call.get("end"))])


def size_of(call: Call, x: Value) -> Value:
    return numbers(math.prod(x.shape))


def constant_of_shape(call: Call, shape: Value) -> Value:
    sizes = bounded(flat(shape))
    value = call.get("value", torch.zeros(1))
    is_short = len(sizes) <= 1 and all(isinstance(size, int) and size <= MOST_NUMBERS for size in sizes)
    if value.dtype == torch.int64 and is_short:
        return numbers(np.full(sizes, int(value), dtype=object))
    return torch.full(sizes, value.item(), dtype=value.dtype)


def arange(call: Call, start: Value, stop: Value, step: Value) -> Value:
    if any(isinstance(value, Tensor) for value in (start, stop, step)):
        raise ModelError("Range computes its bounds from the values of the image; expected them from its shape alone")
    kind = start.dtype if start.dtype != object else None
    begin, end, by = (one(value) for value in (start, stop, step))
    if by == 0:
        raise ModelError("Range has a step of 0")
    if all(isinstance(v, int | float) for v in (begin, end, by)):
        bounded([count := max(0, math.ceil((end - begin) / by))])
        if count <= MOST_NUMBERS and all(type(v) is int for v in (begin, end, by)):
            return numbers(np.array(range(begin, end, by), dtype=object))
    made = torch.arange(begin, end, by)
    return made if kind is None else made.to(torch.from_numpy(np.zeros(1, kind)).dtype)


def depth_to_space(call: Call, x: Value) -> Value:
    block = call.get("blocksize")
    n, c, h, w = x.shape
    if call.get("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, block)
    parts = x.reshape(n, block, block, c // block**2, h, w)
    return parts.permute(0, 3, 4, 1, 5, 2).reshape(n, c // block**2, h * block, w * block)


def space_to_depth(call: Call, x: Value) -> Value:
    block = call.get("blocksize")
    n, c, h, w = x.shape
    parts = x.reshape(n, c, h // block, block, w // block, block)
    order = (0, 1, 3, 5, 2, 4) if call.get("mode", "DCR") == "CRD" else (0, 3, 5, 1, 2, 4)
    return parts.permute(order).reshape(n, c * block**2, h // block, w // block)


def triangle(call: Call, x: Value, diagonal: Value = None) -> Value:
    offset = 0 if diagonal is None else one(diagonal, "a diagonal")
    return torch.triu(tensor(x), offset) if call.get("upper", 1) else torch.tril(tensor(x), offset)


TABLE: dict[str, Operator] = {
    "Concat": Operator(concat),
    "ConstantOfShape": Operator(constant_of_shape, numbers=(0,), passive=True),
    "DepthToSpace": Operator(depth_to_space, shows="PixelShuffle"),
    "Expand": Operator(expand, numbers=(1,), passive=True),
    "Flatten": Operator(flatten, passive=True),
    "Pad": Operator(pad, numbers=(1, 2, 3), passive=True),
    "Range": Operator(arange, numbers=(0, 1, 2), passive=True),
    "Reshape": Operator(reshape, numbers=(1,), passive=True),
    "Shape": Operator(shape_of, passive=True),
    "Size": Operator(size_of, passive=True),
    "Slice": Operator(slice_, numbers=(1, 2, 3, 4), passive=True),
    "SpaceToDepth": Operator(space_to_depth, shows="PixelUnshuffle", passive=True),
    "Split": Operator(split, numbers=(1,), passive=True),
    "Squeeze": Operator(squeeze, numbers=(1,), passive=True),
    "Tile": Operator(tile, numbers=(1,), passive=True),
    "Transpose": Operator(transpose, passive=True),
    "Trilu": Operator(triangle, numbers=(1,), passive=True),
    "Unsqueeze": Operator(unsqueeze, numbers=(1,), passive=True),
}
