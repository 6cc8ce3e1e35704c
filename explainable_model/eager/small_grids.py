"""Tell whether the tokens of a small grid follow the places of the image.

There one changed place moves all tokens, and some of them more than others, whatever the place is. So each cell is
changed several times, and the change of a token is compared with the average change by its cell and with the average of
its own: the logarithms of the changes, less the means of rows and columns, show which token follows which cell.
"""

import itertools
import math

import torch
from torch import Tensor

from explainable_model.attribution.layout import SpatialLayout
from explainable_model.eager.cell_changes import change_cell

CELLS = 16  # that are changed, at most
IMAGES = 16  # with a change, at least
PROVEN = 4.0  # standard errors by which tokens change with their own cells; text stays below 3.2 in 5,000 layers
FEW = 9  # in a grid of fewer cells, chance goes further
PROVEN_IN_FEW = 6.0, 0.5  # so many errors, or ``PROVEN`` and this mean excess; text stays below 4.6 and 0.41
ELSEWHERE = math.log(2)  # the same for other tokens than the cells' own, which show another order
DISTINCT = 0.75  # of these tokens are different ones
APART = 3.0  # standard deviations by which they lead the others; a mixer's weights, which have no order, lead by 2.4
FLOOR = 1e-3  # of the mean change: smaller changes count as this


def changed_cells(grid: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The cells that are changed: all, or some that lie all over the grid."""
    cells = list(itertools.product(*map(range, grid)))
    if len(cells) <= CELLS:
        return cells
    order = torch.randperm(len(cells), generator=torch.Generator().manual_seed(0))[:CELLS]
    return [cells[int(index)] for index in order]


def change_cells(image: Tensor, grid: tuple[int, ...]) -> Tensor:
    """``(1 + times * cells, C, *spatial)``: the image, then the image with each cell changed in turn, some times."""
    cells = changed_cells(grid)
    times = max(2, IMAGES // len(cells))
    return torch.cat([image, *(change_cell(image, grid, cell, seed) for seed in range(times) for cell in cells)])


def judge_cells(layout: SpatialLayout, tokens: Tensor) -> bool | None:
    """Whether tokens lie where the layout says; ``None`` where that cannot be told.

    Args:
        layout: how the tokens are read.
        tokens: ``(copies, tokens, K)``, of the images of ``change_cells``.
    """
    maps = layout.to_map(tokens[:, : layout.prefix + math.prod(layout.grid)]).double().flatten(2)
    cells = changed_cells(layout.grid)
    squares = (maps[1:] - maps[:1]).square().sum(1)
    changes = squares.reshape(-1, len(cells), squares.shape[1]).mean(0).sqrt()  # (cells, tokens)
    if not changes.any():
        return None
    strides = [math.prod(layout.grid[axis + 1 :]) for axis in range(len(layout.grid))]
    own = torch.tensor([sum(map(int.__mul__, cell, strides)) for cell in cells])
    excess = (changes + FLOOR * changes.mean()).log()
    excess = excess - excess.mean(0, keepdim=True)
    excess = excess - excess.mean(1, keepdim=True)
    rows = torch.arange(len(cells))
    others = torch.ones_like(excess, dtype=torch.bool)
    others[rows, own] = False
    mean = float(excess[rows, own].mean())
    error = float(excess[others].std()) / math.sqrt(len(cells))
    is_few = math.prod(layout.grid) < FEW
    if mean > PROVEN * error and (not is_few or mean > min(PROVEN_IN_FEW[0] * error, PROVEN_IN_FEW[1])):
        return True
    most = excess.max(1)
    leading, following = float(most.values.mean()), excess.scatter(1, most.indices.unsqueeze(1), torch.nan)
    is_apart = leading > max(ELSEWHERE, APART * float(following[following.isfinite()].std()))
    is_order = is_apart and len(set(most.indices.tolist())) >= DISTINCT * len(cells)
    return False if is_order and not is_few else None
