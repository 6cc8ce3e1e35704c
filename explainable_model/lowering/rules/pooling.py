"""Max pooling: the gradient goes to the first largest value of each window."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from explainable_model.lowering.rules.arithmetic import mask
from explainable_model.lowering.rules.call import Call, Gradients, Lowering
from explainable_model.lowering.shapes import known, per_dim, shape_of

aten = torch.ops.aten


MANY_PLACES = 32  # larger windows become a scatter: one slice for each place would make thousands of nodes
WITH_INDICES: Mapping[int, Any] = {
    1: aten.max_pool1d_with_indices.default,
    2: aten.max_pool2d_with_indices.default,
    3: aten.max_pool3d_with_indices.default,
}


def max_pool(
    call: Call, grad: Tensor, self: Tensor, kernel_size: Any, stride: Any = (), padding: Any = 0,
    dilation: Any = 1, ceil_mode: bool = False,
) -> Gradients:  # fmt: skip
    """max_pool2d(Tensor self, int[2] kernel_size, int[2] stride=[], int[2] padding=0, int[2] dilation=1,
    bool ceil_mode=False) -> Tensor; max_pool1d and max_pool3d alike
    """
    spatial = int(call.op._schema.name[-2])
    kernel, padding, dilation = (per_dim(v, spatial) for v in (kernel_size, padding, dilation))
    stride = per_dim(stride, spatial) if stride else kernel
    if math.prod(kernel) > MANY_PLACES:
        _, indices = WITH_INDICES[spatial](self, kernel, stride, padding, dilation, ceil_mode)
        return {"self": _scatter(self, indices, grad, spatial)}
    windows = _Windows(self, call.output, kernel, stride, padding, dilation, ceil_mode)
    return {"self": windows.gradient(grad, call.output)}


def max_pool_with_indices(call: Call, grad: Any, self: Tensor, **_: Any) -> Gradients:
    """max_pool2d_with_indices(Tensor self, int[2] kernel_size, int[2] stride=[], int[2] padding=0,
    int[2] dilation=1, bool ceil_mode=False) -> (Tensor, Tensor); max_pool1d_with_indices,
    max_pool3d_with_indices, adaptive_max_pool1d, adaptive_max_pool2d and adaptive_max_pool3d alike
    """
    spatial = int(call.op._schema.name.removesuffix("_with_indices")[-2])
    return {"self": _scatter(self, call.output[1], grad[0], spatial)}


def _scatter(self: Tensor, indices: Tensor, grad: Tensor, spatial: int) -> Tensor:
    """Add the gradient at the position of each window's largest value; windows may overlap."""
    zeros = torch.zeros_like(self).flatten(-spatial)
    return zeros.scatter_add(-1, indices.flatten(-spatial), grad.flatten(-spatial)).reshape(shape_of(self))


class _Windows:
    """The windows of a max pooling as strided slices of the padded input, one slice for each place in the window.

    A slice equals the output where the largest value stands at its place, so neither a gather nor a scatter is needed.
    Zeros after a ReLU tie often; as in autograd, only the first largest value of a window gets the gradient.
    """

    def __init__(
        self,
        input: Tensor,
        output: Tensor,
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        ceil_mode: bool,
    ) -> None:
        self.spatial = len(kernel)
        self.kernel, self.stride, self.padding, self.dilation = kernel, stride, padding, dilation
        self.size = list(input.shape[-self.spatial :])
        self.out = list(output.shape[-self.spatial :])
        # Pad the end so far that every window fits, also the windows that ceil mode lets reach over the end.
        reach = [(o - 1) * s + d * (k - 1) + 1 for o, s, d, k in zip(self.out, stride, dilation, kernel, strict=True)]
        # For an open size, pad the most that any size needs: max() of open sizes would fix which one is larger.
        most = [d * (k - 1) if ceil_mode else p for d, k, p in zip(dilation, kernel, padding, strict=True)]
        self.after = [
            max(r - n - p, 0) if isinstance(n, int) else m
            for r, n, p, m in zip(reach, self.size, padding, most, strict=True)
        ]
        self.input = input

    def gradient(self, grad: Tensor, output: Tensor) -> Tensor:
        """The gradient of the pooling's input."""
        parts: dict[tuple[int, ...], Tensor] = {}  # phase -> sum over the places of the window
        taken: Tensor | None = None
        for place in itertools.product(*(range(k) for k in self.kernel)):
            hit = self._slice(place) == output
            share = mask(grad, hit if taken is None else hit & ~taken)
            taken = hit if taken is None else taken | hit
            offset = [p * d for p, d in zip(place, self.dilation, strict=True)]
            phase = tuple(o % s for o, s in zip(offset, self.stride, strict=True))
            shifted = self._shift(share, [o // s for o, s in zip(offset, self.stride, strict=True)])
            parts[phase] = shifted if phase not in parts else parts[phase] + shifted
        return self._crop(self._interleave(parts))

    def _slice(self, place: Sequence[int]) -> Tensor:
        """The value at one place of every window."""
        values = self._padded
        for i, p in enumerate(place):
            start = p * self.dilation[i]
            end = start + (self.out[i] - 1) * self.stride[i] + 1
            values = aten.slice.Tensor(values, values.ndim - self.spatial + i, start, end, self.stride[i])
        return values

    @property
    def _padded(self) -> Tensor:
        pads = self._pairs(self.padding, self.after)
        return aten.constant_pad_nd(self.input, pads, float("-inf")) if any(pads) else self.input

    @property
    def _rows(self) -> list[int]:
        """How many positions of each phase the padded input has; a phase is a position modulo the stride."""
        padded = [n + p + a for n, p, a in zip(self.size, self.padding, self.after, strict=True)]
        return [-(-length // s) for length, s in zip(padded, self.stride, strict=True)]

    def _shift(self, share: Tensor, shift: Sequence[int]) -> Tensor:
        """Move a slice's share to its rows of the phase, with zeros around it."""
        after = [rows - s - out for rows, s, out in zip(self._rows, shift, self.out, strict=True)]
        pads = self._pairs(shift, after)
        return share if all(known(p == 0) for p in pads) else aten.constant_pad_nd(share, pads, 0.0)

    def _interleave(self, parts: Mapping[tuple[int, ...], Tensor], phase: tuple[int, ...] = ()) -> Tensor:
        """Put the phases together: entry i of a phase goes to position ``i * stride + phase``."""
        i = len(phase)
        if i == self.spatial:
            some = next(iter(parts.values()))
            return parts[phase] if phase in parts else torch.zeros_like(some)
        tensors = [self._interleave(parts, (*phase, p)) for p in range(self.stride[i])]
        if len(tensors) == 1:
            return tensors[0]
        dim = tensors[0].ndim - self.spatial + i
        return torch.stack(tensors, dim + 1).flatten(dim, dim + 1)

    def _crop(self, padded: Tensor) -> Tensor:
        """The gradient of the input, without that of its padding."""
        for i in range(self.spatial):
            dim = padded.ndim - self.spatial + i
            if not known(padded.shape[dim] == self.size[i]):
                padded = padded.narrow(dim, self.padding[i], self.size[i])
        return padded

    def _pairs(self, before: Sequence[int], after: Sequence[int]) -> list[int]:
        """Pads in ATen's order: last dimension first."""
        return [value for i in reversed(range(self.spatial)) for value in (before[i], after[i])]


TABLE: Mapping[OpOverload, Lowering] = {
    aten.max_pool1d.default: max_pool,
    aten.max_pool2d.default: max_pool,
    aten.max_pool3d.default: max_pool,
    aten.max_pool1d_with_indices.default: max_pool_with_indices,
    aten.max_pool2d_with_indices.default: max_pool_with_indices,
    aten.max_pool3d_with_indices.default: max_pool_with_indices,
    aten.adaptive_max_pool1d.default: max_pool_with_indices,
    aten.adaptive_max_pool2d.default: max_pool_with_indices,
    aten.adaptive_max_pool3d.default: max_pool_with_indices,
}
