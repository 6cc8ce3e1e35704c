"""How a weighted sum over positions passes each operator: products are computed of sums instead of positions."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.nn import functional

from explainable_model.lowering.graph import shape_text, value_of
from explainable_model.lowering.passes.position_sums import Build, PositionSums, Rule, has_fixed_positions
from explainable_model.lowering.passes.simplify import RESHAPES
from explainable_model.lowering.shapes import per_dim

aten = torch.ops.aten

CONVOLVE: Mapping[int, Any] = {1: aten.conv1d.default, 2: aten.conv2d.default, 3: aten.conv3d.default}
FORWARD: Mapping[int, Any] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
TRANSPOSED: Mapping[int, Any] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


def _reshape(sums: PositionSums, node: Any, share: Tensor) -> Build | None:
    """Behind flatten: ``g @ W``, or rows of ``W``, as ``(N, channels, *positions)``."""
    source: Any = node.args[0]
    value = value_of(source)
    if value is None or value.ndim != 2 or len(source.users) > 1 or shape_text(source)[0] != shape_text(node)[0]:
        return None
    if source.target is aten.matmul.default and not source.kwargs:
        grad, weight = source.args
    elif source.target is aten.index_select.default and source.args[1] == 0:
        grad, weight = source.args[2], source.args[0]
    else:
        return None
    if sums.weight_of(weight) is None:
        return None

    def build() -> fx.Node:
        means = sums.mean_of_columns(weight, share, node)
        if source.target is aten.index_select.default:
            return sums.insert(aten.index_select.default, means, 0, grad)
        return sums.insert(aten.matmul.default, grad, means)

    return build


def _conv(sums: PositionSums, node: Any, share: Tensor) -> Build | None:
    """A convolution with stride 1, the gradient of a convolution."""
    arguments: list[Any] = [*node.args]
    arguments += [None, 1, 0, 1, 1][len(arguments) - 2 :]
    grad, weight, bias, stride, padding, dilation, groups = arguments
    return _convolution_of(sums, node, share, grad, weight, bias, stride, padding, dilation, groups, transposed=False)


def _convolution(sums: PositionSums, node: Any, share: Tensor) -> Build | None:
    grad, weight, bias, stride, padding, dilation, transposed, _, groups = node.args
    return _convolution_of(sums, node, share, grad, weight, bias, stride, padding, dilation, groups, transposed)


def _convolution_of(
    sums: PositionSums, node: Any, share: Tensor, grad: Any, weight: Any, bias: Any, stride: Any, padding: Any,
    dilation: Any, groups: int, transposed: bool,
) -> Build | None:  # fmt: skip
    """One weighted sum of ``g`` for each place of the kernel, and one product instead of one for each position."""
    kernel = sums.weight_of(weight)
    if kernel is None or bias is not None or groups != 1 or not has_fixed_positions(grad):
        return None
    dims, size = kernel.ndim - 2, tuple(grad.meta["val"].shape[2:])
    stride, padding, dilation = (per_dim(setting, dims) for setting in (stride, padding, dilation))
    places = _weights_of_places(share, kernel.shape[2:], size, stride, padding, dilation, transposed)
    if len(places) > kernel.shape[1 if transposed else 0]:  # the sums would cost more than the convolution
        return None
    own = sums.shared_kernel(kernel) if len(places) == 1 and not transposed else None

    def build() -> fx.Node:
        each = _sum_places(sums, grad, places.flip(0) if transposed else places)
        image = sums.insert(aten.reshape.default, each, [-1, value_of(grad).shape[1], *kernel.shape[2:]])  # type: ignore[union-attr]
        once, none = [1] * dims, [0] * dims
        if own is not None:
            product = sums.insert(aten.convolution.default, image, own, None, once, none, once, True, none, 1)
        elif transposed:  # the padding leaves the one position where the kernel lies on all the sums
            all_but_one = [length - 1 for length in kernel.shape[2:]]
            product = sums.insert(aten.convolution.default, image, weight, None, once, all_but_one, once, True, none, 1)
        else:
            product = sums.insert(CONVOLVE[dims], image, weight)
        return sums.insert(aten.flatten.using_ints, product, 1)

    return build


def _sum_places(sums: PositionSums, grad: fx.Node, places: Tensor) -> fx.Node:
    """``(N, channels of g, ...)``: the sum of ``g`` with the weights of each place."""
    if len(places) == 1:
        inner = sums.find(grad, places[0])
        return sums.sum(grad, places[0]) if inner is None else inner()
    columns = sums.constant("position_weights", places.flatten(1).t(), grad)
    return sums.insert(aten.matmul.default, sums.insert(aten.flatten.using_ints, grad, 2), columns)


def _weights_of_places(
    share: Tensor, kernel: Sequence[int], size: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], transposed: bool,
) -> Tensor:  # fmt: skip
    """``(places, *size)``: the weight of each position of ``g`` at each place of the kernel.

    The transposed operation spreads the weights of the result's positions to those of ``g``, one place at a time.
    """
    places, dims = math.prod(kernel), len(kernel)
    taps = torch.eye(places, dtype=share.dtype).reshape(places, 1, *kernel)
    result = share.cpu()[None, None]
    if transposed:
        spread: Tensor = FORWARD[dims](result, taps, None, stride, padding, dilation)
    else:
        reached = [
            (n - 1) * s - 2 * p + d * (k - 1) + 1
            for n, s, p, d, k in zip(share.shape, stride, padding, dilation, kernel, strict=True)
        ]
        extra = [n - r for n, r in zip(size, reached, strict=True)]
        spread = TRANSPOSED[dims](result, taps.transpose(0, 1), None, stride, padding, extra, 1, dilation)
    return spread.squeeze(0)


def _add(sums: PositionSums, node: Any, share: Tensor) -> Build | None:
    """Where a shortcut joins: the sum of both sums, if one of them spares a product."""
    parts = node.args
    if len(parts) != 2 or any(shape_text(part) != shape_text(node) for part in parts):
        return None
    found = [sums.find(part, share) for part in parts]
    if not any(found):
        return None

    def build() -> fx.Node:
        both = [sums.sum(part, share) if each is None else each() for part, each in zip(parts, found, strict=True)]
        return sums.insert(aten.add.Tensor, *both)

    return build


def _mul(sums: PositionSums, node: Any, share: Tensor) -> Build | None:
    """A factor that is the same at every position is multiplied afterwards."""
    for one, other in (node.args, node.args[::-1]):
        value = _repeated(one)
        if value is None or not has_fixed_positions(other) or shape_text(other) != shape_text(node):
            continue
        return _multiplied(sums, value, other, share)
    return None


def _multiplied(sums: PositionSums, value: fx.Node, other: fx.Node, share: Tensor) -> Build:
    inner = sums.find(other, share)

    def build() -> fx.Node:
        summed = sums.sum(other, share) if inner is None else inner()
        return sums.insert(aten.mul.Tensor, sums.insert(aten.flatten.using_ints, value, 1), summed)

    return build


def _repeated(node: Any) -> fx.Node | None:
    """``(N, channels, 1, ...)`` whose values a node repeats at every position."""
    if not isinstance(node, fx.Node) or node.target is not aten.expand.default or node.kwargs:
        return None
    source: Any = node.args[0]
    before, after = shape_text(source), shape_text(node)
    same = len(before) == len(after) and before[:2] == after[:2] and set(before[2:]) == {"1"}
    return source if same else None


def _matmul(sums: PositionSums, node: Any, share: Tensor) -> Build | None:
    """Rows and columns of a map, combined by constants, as the gradient of an adaptive pooling is."""
    left, right = node.args
    if share.ndim != 2 or value_of(node).ndim != 4:  # type: ignore[union-attr]
        return None
    constant = sums.weight_of(left)
    if constant is not None and constant.ndim == 2:
        return sums.find(right, constant.double().cpu().t() @ share)
    constant = sums.weight_of(right)
    if constant is not None and constant.ndim == 2:
        return sums.find(left, share @ constant.double().cpu().t())
    return None


RULES: Mapping[OpOverload, Rule] = {
    **dict.fromkeys(RESHAPES, _reshape),
    **dict.fromkeys(CONVOLVE.values(), _conv),
    aten.convolution.default: _convolution,
    aten.add.Tensor: _add,
    aten.mul.Tensor: _mul,
    aten.matmul.default: _matmul,
}
