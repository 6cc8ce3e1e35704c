"""The matrix ``(out, in)`` of a resampling along one dimension of open size, computed in the graph."""

import torch
from torch import Tensor


def linear(out: Tensor, into: Tensor, scale: float | None, align_corners: bool | None) -> Tensor:
    """Each row has the weights of the two nearest positions: a triangle of width one around the source.

    Args:
        out: positions of the output.
        into: positions of the input.
        scale: output size per input size, where the network gave it.
        align_corners: whether the first and last positions stay in place.
    """
    last = into.select(0, -1)
    if align_corners:
        source = out * (last / out.select(0, -1).clamp_min(1))
    else:
        source = ((out + 0.5) * _ratio(out, into, scale) - 0.5).clamp_min(0)
    source = torch.minimum(source, last)
    return torch.relu(1 - (source.unsqueeze(1) - into.unsqueeze(0)).abs())


def nearest(out: Tensor, into: Tensor, scale: float | None, offset: float) -> Tensor:
    """Each row has a single one. ``offset`` is 0 for ``nearest`` and one half for ``nearest-exact``."""
    source = torch.minimum(torch.floor((out + offset) * _ratio(out, into, scale)), into.select(0, -1))
    return (source.unsqueeze(1) == into.unsqueeze(0)).to(into.dtype)


def _ratio(out: Tensor, into: Tensor, scale: float | None) -> Tensor | float:
    return 1 / scale if scale is not None else (into.select(0, -1) + 1) / (out.select(0, -1) + 1)


def average(
    out: Tensor, into: Tensor, kernel: int, stride: int, padding: int, count_include_pad: bool | None
) -> Tensor:
    """Average pooling: each row is one window, cut at the padding; with ``None`` the window is summed instead."""
    start, size = out * stride - padding, into.select(0, -1) + 1
    end = start + kernel
    if count_include_pad is None:
        return _windows(start, end, into)
    first = start if count_include_pad else start.clamp_min(0)
    count = torch.minimum(end, size + padding if count_include_pad else size) - first
    return _windows(start, end, into) / count.unsqueeze(1)


def adaptive(out: Tensor, into: Tensor) -> Tensor:
    """Adaptive average pooling: from ``floor(i in / out)`` up to ``ceil((i + 1) in / out)``."""
    size, count = into.select(0, -1) + 1, out.select(0, -1) + 1
    start, end = torch.floor(out * size / count), torch.ceil((out + 1) * size / count)
    return _windows(start, end, into) / (end - start).unsqueeze(1)


def _windows(start: Tensor, end: Tensor, into: Tensor) -> Tensor:
    inside = (into.unsqueeze(0) >= start.unsqueeze(1)) & (into.unsqueeze(0) < end.unsqueeze(1))
    return inside.to(into.dtype)
