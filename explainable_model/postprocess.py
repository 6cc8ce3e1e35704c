"""From a raw map to what a person looks at: rectify, normalise, resize."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

INTERPOLATION = {1: "linear", 2: "bilinear", 3: "trilinear"}


def minmax(cam: Tensor) -> Tensor:
    """Scale each map of the batch to [0, 1]: ``(cam - min) / (max - min)``; a constant map becomes zero.

    Args:
        cam: ``(N, *spatial)``, floating point.

    Returns:
        The same shape and dtype, finite for every finite input.
    """
    dims = list(range(1, cam.ndim))
    low, high = cam.amin(dims, keepdim=True), cam.amax(dims, keepdim=True)
    # A constant map has numerator 0 everywhere: any positive divisor gives zeros instead of NaN.
    return (cam - low) / (high - low).clamp_min(torch.finfo(cam.dtype).tiny)


def resize(cam: Tensor, size: Sequence[Any]) -> Tensor:
    """Linear interpolation of ``(N, *spatial)`` to ``(N, *size)`` with half-pixel centres.

    One, two and three spatial dimensions (linear, bilinear, trilinear), ``align_corners=False``.
    """
    mode = INTERPOLATION[cam.ndim - 1]
    return functional.interpolate(cam.unsqueeze(1), size=list(size), mode=mode, align_corners=False).squeeze(1)


def finish(cam: Tensor, size: Sequence[Any], *, normalize: bool, upsample: bool) -> Tensor:
    """Rectify a signed map, then normalise and resize it as asked.

    Args:
        cam: signed map ``(N, h, w)``.
        size: spatial size of the image.
        normalize: scale each map to [0, 1].
        upsample: resize to ``size``.
    """
    cam = functional.relu(cam)
    if normalize:
        cam = minmax(cam)
    return resize(cam, size) if upsample else cam
