"""Shapes of what common operators make, by their formulas.

PyTorch knows the shapes of all operators, but for many of them in Python code that imports its compiler first, which
takes seconds. The formulas need not notice wrong arguments: a call with such arguments fails and takes no memory.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

Operator: TypeAlias = Any
"""``torch._ops.OpOverload``"""

Named: TypeAlias = dict[str, Any]
"""The arguments of a call by their names in ATen."""

Made: TypeAlias = Sequence[tuple[Sequence[int], torch.dtype]]
"""Shapes and dtypes of the results."""


def infer(operator: Operator, args: Sequence[Any], kwargs: Named) -> Any:
    """The results of an operator as tensors without numbers; ``None`` where no formula is known."""
    name = str(operator._schema.name).removeprefix("aten::")
    formula = FORMULAS.get(name) or (_pointwise if torch.Tag.pointwise in operator.tags else None)
    if formula is None or operator._schema.is_mutable or operator.is_view:
        return None
    made = formula(operator, _bind(operator, args, kwargs))
    if made is None:
        return None
    results = tuple(torch.empty(list(shape), dtype=dtype, device="meta") for shape, dtype in made)
    return results if len(operator._schema.returns) > 1 else results[0]


def find_tensors(values: Any) -> Iterator[Tensor]:
    """The tensors among values and in lists of them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from find_tensors(value)


def map_values(values: Any, function: Callable[[Any], Any]) -> Any:
    """Apply a function to values, and to those in lists and mappings of them."""
    if isinstance(values, dict):
        return {name: map_values(value, function) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return type(values)(map_values(value, function) for value in values)
    return function(values)


def _bind(operator: Operator, args: Sequence[Any], kwargs: Named) -> Named:
    arguments = operator._schema.arguments
    named = {each.name: each.default_value for each in arguments if each.has_default_value()}
    return {**named, **{each.name: value for each, value in zip(arguments, args, strict=False)}, **kwargs}


def _find_dtypes(operator: Operator, named: Named, side: int = 1) -> list[torch.dtype]:
    """The dtypes of the results: those of the same call on a tiny image."""

    def shrink(value: Any) -> Any:
        return torch.ones([side] * value.dim(), dtype=value.dtype) if isinstance(value, Tensor) else value

    results = operator(**{**map_values(named, shrink), **({"device": None} if "device" in named else {})})
    return [each.dtype for each in find_tensors([results])]


def _pointwise(operator: Operator, named: Named) -> Made:
    shapes = [each.shape for each in find_tensors(named.values())]
    return [(_broadcast(shapes), dtype) for dtype in _find_dtypes(operator, named)]


def _broadcast(shapes: Sequence[Sequence[int]]) -> list[int]:
    rank = max(map(len, shapes))
    aligned = [[1] * (rank - len(shape)) + list(shape) for shape in shapes]
    return [0 if 0 in sizes else max(sizes) for sizes in zip(*aligned, strict=True)]


def _reduction(operator: Operator, named: Named) -> Made:
    shape = list(_first(named).shape)
    axes = named.get("dim")
    axes = range(len(shape)) if axes is None or axes == [] else axes if isinstance(axes, Sequence) else [axes]
    reduced = {axis % max(len(shape), 1) for axis in axes}
    kept = [1 if place in reduced else size for place, size in enumerate(shape)]
    if not named.get("keepdim"):
        kept = [size for place, size in enumerate(shape) if place not in reduced]
    return [(kept, dtype) for dtype in _find_dtypes(operator, named, side=2)]


def _same_shape(operator: Operator, named: Named) -> Made:
    first = _first(named)
    return [(first.shape, dtype) for dtype in _find_dtypes(operator, named)]


def _like_first(operator: Operator, named: Named) -> Made:
    return [(_first(named).shape, _first(named).dtype)]


def _like_index(operator: Operator, named: Named) -> Made:
    return [(named["index"].shape, _first(named).dtype)]


def _first(named: Named) -> Tensor:
    return next(find_tensors(named.values()))


def _convolution(operator: Operator, named: Named) -> Made:
    image, weight = named["input"], named["weight"]
    rank = weight.dim() - 2
    strides, pads, dilations, more = (
        _each(named[key], rank) for key in ("stride", "padding", "dilation", "output_padding")
    )
    reach = [d * (size - 1) for d, size in zip(dilations, weight.shape[2:], strict=True)]
    if named["transposed"]:
        channels = weight.shape[1] * named["groups"]
        sides = [
            (size - 1) * s - 2 * p + r + m + 1
            for size, s, p, r, m in zip(image.shape[-rank:], strides, pads, reach, more, strict=True)
        ]
    else:
        channels = weight.shape[0]
        sides = [
            (size + 2 * p - r - 1) // s + 1
            for size, s, p, r in zip(image.shape[-rank:], strides, pads, reach, strict=True)
        ]
    return [([*image.shape[:-rank][:-1], channels, *sides], image.dtype)]


def _pool(operator: Operator, named: Named) -> Made:
    """Pooling with windows; with indices where the operator returns two tensors."""
    image = named["self"]
    rank = int(str(operator._schema.name).partition("_pool")[2][0])
    windows = _each(named["kernel_size"], rank)
    strides = _each(named["stride"], rank) if named["stride"] else windows
    pads, dilations = _each(named["padding"], rank), _each(named.get("dilation", 1), rank)
    sides = [
        _count_windows(size, window, stride, pad, dilation, up=named["ceil_mode"])
        for size, window, stride, pad, dilation in zip(
            image.shape[-rank:], windows, strides, pads, dilations, strict=True
        )
    ]
    shape = [*image.shape[:-rank], *sides]
    return [(shape, image.dtype), (shape, torch.int64)][: len(operator._schema.returns)]


def _count_windows(size: int, window: int, stride: int, pad: int, dilation: int, *, up: bool) -> int:
    free = size + 2 * pad - dilation * (window - 1) - 1
    count = (free + (stride - 1 if up else 0)) // stride + 1
    return count - 1 if up and (count - 1) * stride >= size + pad else count


def _each(value: int | Sequence[int], rank: int) -> Sequence[int]:
    values = value if isinstance(value, Sequence) else [value]
    return values if len(values) == rank else [*values] * rank


def _output_size(operator: Operator, named: Named) -> Made:
    """Resizing and adaptive pooling; with indices where the operator returns two tensors."""
    image, sides = _first(named), named["output_size"]
    shape = [*image.shape[: image.dim() - len(sides)], *sides]
    return [(shape, image.dtype), (shape, torch.int64)][: len(operator._schema.returns)]


def _batch_norm(operator: Operator, named: Named) -> Made:
    image = named["input"]
    return [(image.shape, image.dtype), ([0], image.dtype), ([0], image.dtype)]


def _layer_norm(operator: Operator, named: Named) -> Made:
    image, last = named["input"], len(named["normalized_shape"])
    outer = [*image.shape[: image.dim() - last], *[1] * last]
    return [(image.shape, image.dtype), (outer, image.dtype), (outer, image.dtype)]


def _group_norm(operator: Operator, named: Named) -> Made:
    image, groups = named["input"], [named["N"], named["group"]]
    return [(image.shape, image.dtype), (groups, image.dtype), (groups, image.dtype)]


def _fake_quantize(operator: Operator, named: Named) -> Made:
    """The rounded image, and where it lay inside of the range."""
    return [(named["self"].shape, named["self"].dtype), (named["self"].shape, torch.bool)]


def _product(operator: Operator, named: Named) -> Made:
    """Products of matrices and vectors, whose names differ."""
    left, right = list(find_tensors(named.values()))[-2:]
    if str(operator._schema.name) in ("aten::addmm", "aten::baddbmm", "aten::addmv"):
        left, right = list(find_tensors(named.values()))[1:3]
    return [([*left.shape[:-1], *right.shape[1:][left.dim() - 2 :]], left.dtype)]


def _cat(operator: Operator, named: Named) -> Made:
    parts = [part for part in named["tensors"] if part.shape != (0,)] or list(named["tensors"])
    shape = list(parts[0].shape)
    shape[named["dim"]] = sum(part.shape[named["dim"]] for part in parts)
    same = [torch.ones(1, dtype=part.dtype) for part in named["tensors"]]
    return [(shape, operator(same, 0).dtype)]


def _repeat(operator: Operator, named: Named) -> Made:
    image, times = named["self"], named["repeats"]
    shape = [1] * (len(times) - image.dim()) + list(image.shape)
    return [([size * n for size, n in zip(shape, times, strict=True)], image.dtype)]


def _embedding(operator: Operator, named: Named) -> Made:
    return [([*named["indices"].shape, *named["weight"].shape[1:]], named["weight"].dtype)]


def _of_size(operator: Operator, named: Named) -> Made:
    """New tensors, whose size is an argument."""
    return [(named["size"], _find_dtypes(operator, {**named, "size": [1]})[0])]


def _arange(operator: Operator, named: Named) -> Made:
    start, end, step = named.get("start", 0), named["end"], named.get("step", 1)
    dtype = named["dtype"]
    if dtype is None:
        whole = all(isinstance(number, int) for number in (start, end, step))
        dtype = torch.int64 if whole else torch.get_default_dtype()
    return [([math.ceil((end - start) / step)], dtype)]


def _names(text: str, formula: Callable[[Operator, Named], Made]) -> dict[str, Callable[[Operator, Named], Made]]:
    return dict.fromkeys(text.split(), formula)


FORMULAS: dict[str, Callable[[Operator, Named], Made]] = {
    **_names("mean sum amax amin argmax argmin prod all any var std var_mean std_mean logsumexp", _reduction),
    **_names("linalg_vector_norm nansum", _reduction),
    **_names("_softmax _log_softmax cumsum cumprod flip roll", _same_shape),
    **_names("scatter scatter_add scatter_reduce index_add index_copy index_fill index_put tril triu", _like_first),
    **_names("gather", _like_index),
    **_names("convolution", _convolution),
    **_names("max_pool2d_with_indices max_pool3d_with_indices avg_pool2d avg_pool3d", _pool),
    **_names("_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d", _output_size),
    **_names("upsample_bilinear2d upsample_bicubic2d upsample_nearest2d _upsample_nearest_exact2d", _output_size),
    **_names("_upsample_bilinear2d_aa _upsample_bicubic2d_aa upsample_linear1d upsample_nearest1d", _output_size),
    **_names("_upsample_nearest_exact1d upsample_trilinear3d upsample_nearest3d", _output_size),
    **_names("_upsample_nearest_exact3d", _output_size),
    **_names("_native_batch_norm_legit_no_training", _batch_norm),
    **_names("native_layer_norm", _layer_norm),
    **_names("native_group_norm", _group_norm),
    **_names("mm bmm addmm baddbmm mv addmv", _product),
    **_names("cat", _cat),
    **_names("repeat", _repeat),
    **_names("embedding", _embedding),
    **_names("zeros ones full empty new_zeros new_ones new_full new_empty", _of_size),
    **_names("arange", _arange),
    **_names("fake_quantize_per_tensor_affine_cachemask fake_quantize_per_channel_affine_cachemask", _fake_quantize),
    **_names("_fake_quantize_per_tensor_affine_cachemask_tensor_qparams", _fake_quantize),
}
"""The formula of each operator that has one, besides those that work on each value by itself."""
