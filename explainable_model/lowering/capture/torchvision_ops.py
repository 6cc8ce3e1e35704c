"""torchvision's operators in those of PyTorch, so that an artifact needs no torchvision and its gradient is known."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.export import ExportedProgram


def roi_align(
    input: Tensor, rois: Tensor, spatial_scale: float, pooled_height: int, pooled_width: int,
    sampling_ratio: int, aligned: bool,
) -> Tensor:  # fmt: skip
    """Write ``torchvision.ops.roi_align`` as two matrix products per box, since bilinear sampling is separable.

    A box that needs more samples than the map has pixels, which happens outside of the map alone, becomes NaN.

    Args:
        input: ``(N, C, H, W)``.
        rois: ``(K, 5)``, the index of the image and ``x1, y1, x2, y2``; it gets no gradient, as in torchvision.
        spatial_scale: from the boxes' coordinates to the map's.
        pooled_height, pooled_width: size of the output.
        sampling_ratio: how many points are sampled along each side of a cell; 0 or less for as many as it has pixels.
        aligned: shift the coordinates by half a pixel.

    Returns:
        ``(K, C, pooled_height, pooled_width)``.

    Source: He et al. 2017, arXiv 1703.06870, section 3.
    """
    rois = rois.detach()
    shift = 0.5 if aligned else 0.0
    corners = rois[:, 1:] * spatial_scale - shift
    left, top, right, bottom = corners.unbind(1)
    height, width = bottom - top, right - left
    if not aligned:
        height, width = height.clamp(min=1.0), width.clamp(min=1.0)
    rows = _sampling_matrix(top, height, input.shape[2], pooled_height, sampling_ratio)
    columns = _sampling_matrix(left, width, input.shape[3], pooled_width, sampling_ratio)
    maps = input.index_select(0, rois[:, 0].to(torch.int64))
    output: Tensor = torch.matmul(torch.matmul(rows.unsqueeze(1), maps), columns.transpose(1, 2).unsqueeze(1))
    return output


def _sampling_matrix(start: Tensor, length: Tensor, size: Any, cells: int, ratio: int) -> Tensor:
    """``(K, cells, size)``: the mean of the bilinear weights of each cell's samples along one axis."""
    cell = length / cells
    most = ratio if ratio > 0 else -(-size // cells)
    counts = torch.full_like(cell, ratio) if ratio > 0 else torch.ceil(cell)  # not positive where a box is empty
    divisor = counts.clamp(min=1.0)
    sample = torch.arange(most, dtype=start.dtype, device=start.device)
    first = start[:, None] + torch.arange(cells, dtype=start.dtype, device=start.device) * cell[:, None]
    at = first[:, :, None] + (sample + 0.5) * (cell / divisor)[:, None, None]
    inside = ((at >= -1.0) & (at <= size)).to(start.dtype)
    if ratio <= 0:
        enough = (counts <= most).to(start.dtype)
        inside = inside * (sample < counts[:, None, None]).to(start.dtype)
        divisor = divisor * enough / enough  # NaN where it is not
    pixels = torch.arange(size, dtype=start.dtype, device=start.device)
    weights = (1.0 - (at.clamp(0, size - 1).unsqueeze(-1) - pixels).abs()).clamp(min=0.0)
    matrix: Tensor = (weights * inside.unsqueeze(-1)).sum(2) / divisor[:, None, None]
    return matrix


def deform_conv2d(
    input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor, bias: Tensor,
    stride_h: int, stride_w: int, pad_h: int, pad_w: int, dilation_h: int, dilation_w: int,
    groups: int, offset_groups: int, use_mask: bool,
) -> Tensor:  # fmt: skip
    """Write ``torchvision.ops.deform_conv2d`` as four gathers and a matrix product.

    Args:
        input: ``(N, C, H, W)``.
        weight: ``(O, C / groups, kh, kw)``.
        offset: ``(N, 2 * offset_groups * kh * kw, oh, ow)``, down and right in turn.
        mask: ``(N, offset_groups * kh * kw, oh, ow)``.
        bias: ``(O,)``.
        stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, groups: as of a convolution.
        offset_groups: how many parts of the channels have offsets of their own.
        use_mask: whether ``mask`` counts.

    Returns:
        ``(N, O, oh, ow)``.

    Source: Zhu et al. 2018, arXiv 1811.11168, equation 1.
    """
    kernel_h, kernel_w = weight.shape[2:]
    out_h, out_w = offset.shape[2:]
    taps = kernel_h * kernel_w
    shifts = offset.reshape(-1, offset_groups, kernel_h, kernel_w, 2, out_h, out_w)
    down = _positions(kernel_h, dilation_h, out_h, stride_h, pad_h, offset)[:, None, :, None]
    right = _positions(kernel_w, dilation_w, out_w, stride_w, pad_w, offset)[None, :, None, :]
    values = _sample(input, shifts[:, :, :, :, 0] + down, shifts[:, :, :, :, 1] + right, offset_groups)
    if use_mask:
        values = values * mask.reshape(-1, offset_groups, 1, taps, out_h * out_w)
    columns = values.reshape(-1, groups, weight.shape[1] * taps, out_h * out_w)
    kernels = weight.reshape(groups, -1, weight.shape[1] * taps)
    output = torch.matmul(kernels, columns).reshape(-1, weight.shape[0], out_h, out_w)
    return output + bias.reshape(1, -1, 1, 1)


def _positions(kernel: int, dilation: int, out: Any, stride: int, pad: int, like: Tensor) -> Tensor:
    """``(kernel, out)``: where each weight falls along one axis, without an offset."""
    taps = torch.arange(kernel, dtype=like.dtype, device=like.device) * dilation
    starts = torch.arange(out, dtype=like.dtype, device=like.device) * stride - pad
    return taps[:, None] + starts


def _sample(input: Tensor, down: Tensor, right: Tensor, groups: int) -> Tensor:
    """``(N, groups, C / groups, taps, points)``: the image at these positions, bilinear, and zero outside."""
    channels, height, width = input.shape[1] // groups, input.shape[2], input.shape[3]
    flat = input.reshape(-1, groups, channels, height * width)
    top, left = torch.floor(down.detach()), torch.floor(right.detach())
    total = None
    for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
        row, column = top + y, left + x
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        weight = (down - top if y else 1 - (down - top)) * (right - left if x else 1 - (right - left))
        at = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
        index = at.to(torch.int64).flatten(2).unsqueeze(2).expand(-1, -1, channels, -1)
        corner = flat.gather(3, index) * (weight * inside.to(weight.dtype)).flatten(2).unsqueeze(2)
        total = corner if total is None else total + corner
    assert total is not None
    return total.reshape(-1, groups, channels, down.shape[2] * down.shape[3], down.shape[4] * down.shape[5])


WRITTEN_OUT: Mapping[str, Callable[..., Any]] = {
    "torchvision::roi_align": roi_align,
    "torchvision::deform_conv2d": deform_conv2d,
}
"""By the name of the operator, which exists only where torchvision has been imported."""


def without_torchvision(program: ExportedProgram) -> ExportedProgram:
    """The program with torchvision's operators written out."""
    found = {node.target for node in program.graph.nodes if isinstance(node.target, OpOverload)}
    table = {op: WRITTEN_OUT[op._schema.name] for op in found if op._schema.name in WRITTEN_OUT}
    return program.run_decompositions(table) if table else program
