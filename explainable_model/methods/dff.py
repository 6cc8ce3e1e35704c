"""Deep feature factorization."""

from typing import Annotated

import torch
from torch import Tensor

from explainable_model.attribution.options import Count, Range
from explainable_model.errors import ModelError
from explainable_model.methods.precision import in_float32

CONCEPTS = 4
STEPS = 50
LEAST = 1e-12  # of a denominator, where the largest activation is one
LIFT = 0.01  # multiplicative updates leave a zero as it is
NOTHING_LEFT = 1e-9  # of the largest squared length: what rounding leaves of a position in float32, and much more


@in_float32
def dff(
    activations: Tensor, *, concepts: Count = CONCEPTS, concept: Annotated[int, Range(0)] = 0, steps: Count = STEPS
) -> Tensor:
    """Factorize the activations into concepts, and show where one of them is.

    ``A ~ W H`` with the rectified activations ``A`` as a matrix of channels times positions, and neither factor
    anywhere negative: column ``W_j`` says what concept ``j`` is, row ``H_j`` where it is. The map is ``|W_j| H_j``.
    Concepts are sorted by ``|W_j| |H_j|``, the strongest first, so each value of ``concept`` shows another part of the
    image. It explains no class.

    Where this differs from the paper:

    - The paper factorizes the images of a set together. Here each image has concepts of its own, which do not depend on
      the rest of the batch.
    - It leaves the algorithm open. Here multiplicative updates run, plain products, which every format has. They start
      at the positions that differ most from each other, so nothing is drawn. After 50 of them the error is within 3 %
      of the limit on photos, while the concepts may still move: a factorization is not unique. Activations of a lower
      rank than ``concepts`` have fewer concepts; the maps of the rest are zero.

    Args:
        activations: ``(N, K, *spatial)``, floating point.
        concepts: how many.
        concept: which one is shown, from 0 for the strongest.
        steps: how many updates.

    Returns:
        ``(N, *spatial)``, not negative.

    Raises:
        ModelError: ``concept`` is not below ``concepts``.

    Source: Collins et al. 2018, arXiv 1806.10206; updates: Lee and Seung 2001; start: Araujo et al. 2001.

    Example:
        >>> activations = torch.tensor([[[[3., 0., 0.]], [[0., 1., 1.]]]])
        >>> [dff(activations, concepts=2, concept=n).round(decimals=3).abs() for n in (0, 1)]
        [tensor([[[3., 0., 0.]]]), tensor([[[0., 1., 1.]]])]
    """
    if concept >= concepts:
        raise ModelError(f"Method 'dff' has concept={concept} of concepts={concepts}; expected 0 to {concepts - 1}.")
    matrix = activations.relu().flatten(2)
    scale = matrix.amax((1, 2), keepdim=True)
    what, where = factorize(matrix / scale.clamp_min(torch.finfo(matrix.dtype).tiny), concepts, steps)
    lengths = what.square().sum(1).sqrt()  # (N, concepts)
    maps = lengths.unsqueeze(2) * where
    order = maps.square().sum(2).topk(concepts, 1).indices[:, concept].reshape(-1, 1, 1)
    shown = maps.gather(1, order.expand(-1, 1, maps.shape[2]))
    return (scale * shown).reshape(-1, *activations.shape[2:])


def factorize(matrix: Tensor, parts: int, steps: int = STEPS) -> tuple[Tensor, Tensor]:
    """``A ~ W H``, the least squares by multiplicative updates.

    Args:
        matrix: ``(N, K, P)``, not negative, at most one.
        parts: how many columns W has; those beyond the rank of A are zero.
        steps: how many updates.

    Returns:
        W ``(N, K, parts)`` and H ``(N, parts, P)``, not negative.
    """
    what, where = start(matrix, parts)
    for _ in range(steps):
        turned = where.transpose(1, 2)
        mixed = torch.bmm(what, torch.bmm(where, turned)).clamp_min(LEAST)
        what = what * torch.bmm(matrix, turned) / mixed
        turned = what.transpose(1, 2)
        mixed = torch.bmm(torch.bmm(turned, what), where).clamp_min(LEAST)
        where = where * torch.bmm(turned, matrix) / mixed
    return what, where


def start(matrix: Tensor, parts: int) -> tuple[Tensor, Tensor]:
    """Factors whose columns are the positions that successive projections choose.

    Each position is the longest beside those before it. Where nothing is left beside them, rounding would choose;
    that column is zero, and stays zero.

    Args:
        matrix: ``(N, K, P)``, not negative.
        parts: how many columns.

    Returns:
        W ``(N, K, parts)`` and H ``(N, parts, P)``, not negative.
    """
    rest, chosen, found = matrix, [], []
    longest = matrix.square().sum(1).amax(1).reshape(-1, 1, 1)
    for _ in range(parts):
        lengths = rest.square().sum(1)
        place = lengths.argmax(1).reshape(-1, 1, 1).expand(-1, matrix.shape[1], 1)
        found.append((lengths.amax(1).reshape(-1, 1, 1) > NOTHING_LEFT * longest).to(matrix.dtype))
        chosen.append(matrix.gather(2, place))
        column = rest.gather(2, place)
        axis = column / column.square().sum(1, keepdim=True).sqrt().clamp_min(LEAST)
        rest = rest - torch.bmm(axis, torch.bmm(axis.transpose(1, 2), rest))
    level = LIFT * (matrix.mean((1, 2), keepdim=True) / parts).sqrt()
    what = torch.cat(found, 2) * (torch.cat(chosen, 2) + level)
    where = torch.bmm(what.transpose(1, 2), matrix) / what.square().sum(1).unsqueeze(2).clamp_min(LEAST)
    return what, where + level
