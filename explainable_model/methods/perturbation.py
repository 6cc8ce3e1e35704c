"""Methods that hide parts of the image and read the score: occlusion and RISE.

The caller runs the network, in chunks of any size. This module makes the windows and masks before these runs, and the
maps from their scores.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from explainable_model.attribution.counting import counting
from explainable_model.attribution.noise import uniform_numbers
from explainable_model.methods.precision import in_float32


def occlusion_windows(like: Tensor, size: Sequence[int], window: int, stride: int) -> Tensor:
    """Every place of a square window: one where it hides the image, zero elsewhere.

    Windows start every ``stride`` pixels. The last one of a dimension reaches the border, which may cut it off.

    Args:
        like: any tensor, whose device and dtype the windows have.
        size: spatial size of the image, one to three dimensions.
        window: side of the window in pixels.
        stride: distance of windows in pixels.

    Returns:
        ``(P, *size)`` with P the number of places, in row-major order.

    Example:
        >>> occlusion_windows(torch.ones(1), (5,), window=2, stride=2)
        tensor([[1., 1., 0., 0., 0.],
                [0., 0., 1., 1., 0.],
                [0., 0., 0., 0., 1.]])
    """
    windows = like.new_ones(1, *[1] * len(size))
    for axis, length in enumerate(size):
        places = 1 + max(0, -(-(length - window) // stride))
        start = counting(like.new_ones(places)).unsqueeze(1) * stride
        pixel = counting(like.new_ones(length))
        hidden = ((pixel >= start) & (pixel < start + window)).to(like.dtype)
        shape = [1] * len(size)
        shape[axis] = length
        windows = (windows.unsqueeze(1) * hidden.reshape(1, places, *shape)).flatten(0, 1)
    return windows


@in_float32
def occlusion(scores: Tensor, score: Tensor, windows: Tensor) -> Tensor:
    """``map_p = mean over the windows that hide p of (y - y_window)``: how much of the score each pixel holds.

    ``y`` is the score of the image and ``y_window`` that of the image with a window hidden.

    Args:
        scores: ``(N, P)``, floating point, in the order of ``occlusion_windows``.
        score: ``(N,)``.
        windows: ``(P, *size)``.

    Returns:
        Signed map ``(N, *size)``.

    Source: Zeiler and Fergus 2014, arXiv 1311.2901, which shows the score itself.

    Example:
        >>> windows = occlusion_windows(torch.ones(1), (3,), window=2, stride=1)
        >>> occlusion(torch.tensor([[2., 4.]]), torch.tensor([5.]), windows)
        tensor([[3., 2., 1.]])
    """
    flat = windows.flatten(1).to(scores.dtype)
    total = torch.matmul(score.unsqueeze(1) - scores, flat)
    return (total / flat.sum(0).clamp_min(1)).reshape(-1, *windows.shape[1:])


def rise_masks(like: Tensor, size: Sequence[int], drawn: tuple[int, int], seed: int, cells: int, keep: float) -> Tensor:
    """Random masks: small grids of zeros and ones, enlarged linearly and shifted by a part of a cell.

    A grid of ``cells`` is enlarged to ``cells + 1`` cells of ``ceil(size / cells)`` pixels, and a piece of the image's
    size is cut out at a random offset of less than a cell. The numbers are those of ``uniform_numbers``, so that they
    are the same in every runtime.

    Args:
        like: any tensor, whose device and dtype the masks have.
        size: spatial size of the image, one to three dimensions.
        drawn: the first mask and the one behind the last.
        seed: another seed gives other masks.
        cells: cells of the grid along each dimension.
        keep: probability that a cell is shown.

    Returns:
        ``(M, *size)`` in [0, 1].

    Source: Petsiuk et al. 2018, RISE, arXiv 1806.07421.
    """
    start, stop = drawn
    count = cells ** len(size)
    numbers = uniform_numbers(like, count + len(size), stop, seed)[start:stop]
    masks = (numbers[:, :count] < keep).to(like.dtype).reshape(-1, *[cells] * len(size))
    for axis, length in enumerate(size):
        cell = -(-length // cells)
        offset = (numbers[:, count + axis] * cell).floor().reshape(-1, 1, 1)
        pixel = counting(like.new_ones(length)).reshape(1, -1, 1)
        # Half-pixel centers; the outermost cells go on to the border.
        place = ((pixel + offset + 0.5) * cells / ((cells + 1) * cell) - 0.5).clamp(0, cells - 1)
        weights = (1 - (place - counting(like.new_ones(cells)).reshape(1, 1, -1)).abs()).relu().to(like.dtype)
        rest = masks.movedim(axis + 1, 1)
        enlarged = torch.matmul(weights, rest.flatten(2)) if rest.ndim > 2 else torch.matmul(weights, rest.unsqueeze(2))
        masks = enlarged.reshape(-1, length, *rest.shape[2:]).movedim(1, axis + 1)
    return masks


@in_float32
def rise_share(scores: Tensor, masks: Tensor, samples: int, keep: float) -> Tensor:
    """``sum_m y_m M_m / (keep * samples)`` over some of the masks: RISE is the sum of it over all.

    Args:
        scores: ``(N, M)``: of the image multiplied by each mask.
        masks: ``(M, *size)``.
        samples: how many masks there are in all.
        keep: probability that a cell is shown, which is the mean of the masks.

    Returns:
        Signed map ``(N, *size)``.

    Source: Petsiuk et al. 2018, RISE, arXiv 1806.07421.

    Example:
        >>> rise_share(torch.tensor([[1., 3.]]), torch.tensor([[1., 0.], [0.5, 1.]]), samples=2, keep=0.5)
        tensor([[2.5000, 3.0000]])
    """
    return torch.matmul(scores, masks.flatten(1)).reshape(-1, *masks.shape[1:]) / (keep * samples)
