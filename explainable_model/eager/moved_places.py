"""Tell where a network crops, pads, mirrors or turns the image before a layer, whose map then lies elsewhere."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from explainable_model.attribution.layout import SpatialLayout
from explainable_model.eager.cell_changes import change_cell, collect

# Places in the image, as shares of its depth, height and width. Four remain where half of each side is cut off.
PLACES = (
    (0.6, 0.3, 0.6), (0.35, 0.6, 0.35), (0.3, 0.7, 0.65), (0.65, 0.42, 0.42), (0.2, 0.15, 0.85), (0.45, 0.85, 0.2),
    (0.8, 0.55, 0.7),
)  # fmt: skip
SIDES = ("depth", "height", "width")
LEAST = 4  # places that change the layer: two numbers describe each direction
SCALED = 0.2  # a map of so much more or less than the image; convolutions without padding leave as much out
APART = 0.7  # cells by which the changes lie elsewhere, at least
EXACT = 2.0  # times as far as from where a crop, a mirrored or a turned image has them
NEAR = 1.0  # cells from there, at most
CLEAR = 2.0  # times as strongly changed as the cells around the place
REACH = 4  # pixels by which convolutions move the largest change
PEAK = 4  # power of a change as its weight, so that the largest counts


@contextmanager
def watch_first_convolution(model: nn.Module, image: Tensor) -> Iterator[list[bool]]:
    """Tell, once the network has run, whether its first convolution was given the image as it is.

    Args:
        model: the network.
        image: what it is given.
    """
    seen: list[bool] = []
    thread = threading.get_ident()

    def look(module: nn.Module, args: tuple[Any, ...]) -> None:
        if not seen and args and isinstance(args[0], Tensor) and threading.get_ident() == thread:
            seen.append(args[0].shape == image.shape and bool((args[0] == image).all()))

    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
                stack.enter_context(module.register_forward_pre_hook(look))
        yield seen


def find_move(
    model: nn.Module, name: str, layout: SpatialLayout, image: Tensor, run: Callable[[Tensor, int], Any]
) -> str | None:
    """Say where the map of a layer lies, if not where the image is.

    Args:
        model: the network.
        name: of the layer.
        layout: how its output is read.
        image: ``(N, C, *spatial)``; the first one is used.
        run: ``(images, copies)``: runs the network on copies of the first image.

    Returns:
        The doubt, a sentence; ``None`` where nothing shows that the map lies elsewhere.
    """
    if layout.kind == "tokens" or min(layout.grid) < LEAST or not image.is_floating_point():
        return None
    cells = list(dict.fromkeys(_cell_at(place[-len(layout.grid) :], layout.grid) for place in PLACES))
    changed = torch.cat([image[:1], *(change_cell(image[:1], layout.grid, cell) for cell in cells)])
    found = collect(model, name, changed, run, len(image))
    if not found or found[0][0] != "output":
        return None
    maps = layout.to_map(found[0][1]).double()
    changes = (maps[1:] - maps[:1]).square().sum(1).sqrt()
    changes = (changes - changes.median(0).values).clamp_min(0)  # where an image is scaled by its range, all changes
    lively = [(cell, change) for cell, change in zip(cells, changes, strict=True) if bool(change.any())]
    if len(lively) < LEAST or not bool(changes.isfinite().all()):
        return None
    size = torch.tensor(layout.grid, dtype=torch.float64)
    stride = [length / cells for length, cells in zip(image.shape[2:], layout.grid, strict=True)]
    reach = torch.tensor([REACH / length for length in stride], dtype=torch.float64)
    given = torch.tensor([cell for cell, _ in lively], dtype=torch.float64)
    moved = torch.stack([_center(change) for _, change in lively])
    turns = (False, True) if len(layout.grid) == 2 else (False,)
    fit = min((_fit(given, moved, size, is_turned=turned) for turned in turns), key=lambda each: each.error)
    shift = (moved - given).mean(0).clamp(-reach, reach)
    apart = float((moved - given - shift).square().sum(1).mean().sqrt())
    if fit.is_move and fit.error < NEAR and apart > max(APART, EXACT * fit.error):
        return _message(name, fit.words())
    around = [max(1, int(length)) for length in reach]
    elsewhere = [float(change.max()) > CLEAR * _own(change, cell, around) for cell, change in lively]
    if sum(elsewhere) >= max(LEAST, len(lively) / 2):
        return _message(name, "other cells than those of a place change with it")
    return None


@dataclass(frozen=True)
class _Fit:
    """Where changes of the image arrive: ``moved = scale * given + offset`` in each direction of the map.

    Attributes:
        scale, offset: in shares of the sides, one of each.
        is_turned: whether rows became columns.
        error: how far the changes lie from there, in cells.
    """

    scale: Tensor
    offset: Tensor
    is_turned: bool
    error: float

    @property
    def is_move(self) -> bool:
        """Whether this is another place than the image's own."""
        return self.is_turned or bool(((self.scale - 1).abs() > SCALED).any())

    def words(self) -> str:
        """What the map shows, in words."""
        words, mirrored = [], []
        for scale, offset, side in zip(self.scale.tolist(), self.offset.tolist(), self._sides, strict=True):
            low, high = sorted((-offset / scale, (1 - offset) / scale))
            words.append(f"from {low:.0%} to {high:.0%} of the {side}")
            mirrored += [side] if scale < 0 else []
        text = f"it shows the image {' and '.join(words)}"
        text += f", its {' and '.join(mirrored)} mirrored" if mirrored else ""
        return text + (", its rows as columns" if self.is_turned else "")

    @property
    def _sides(self) -> tuple[str, ...]:
        if len(self.scale) == 1:
            return ("length",)
        return ("width", "height") if self.is_turned else SIDES[-len(self.scale) :]


def _fit(given: Tensor, moved: Tensor, size: Tensor, *, is_turned: bool) -> _Fit:
    """The scale and offset of least squares in each direction."""
    x = (given + 0.5) / size
    x = x.flip(1) if is_turned else x
    y = (moved + 0.5) / size
    spread = (x - x.mean(0)).square().sum(0)
    scale = ((x - x.mean(0)) * (y - y.mean(0))).sum(0) / spread
    offset = y.mean(0) - scale * x.mean(0)
    error = ((scale * x + offset - y) * size).square().sum(1).mean().sqrt()
    usable = bool((scale.abs() > 1e-3).all())  # no change moves where all arrive in one row
    return _Fit(scale, offset, is_turned, float(error) if usable else float("inf"))


def _center(change: Tensor) -> Tensor:
    """The place of the largest change ``(*grid)``, between cells where they share it."""
    weights = (change / change.max()) ** PEAK
    counts = [torch.arange(length, dtype=weights.dtype, device=weights.device) for length in change.shape]
    lines = torch.meshgrid(counts, indexing="ij")
    return torch.stack([(weights * line).sum() / weights.sum() for line in lines]).cpu()


def _own(change: Tensor, cell: tuple[int, ...], around: list[int]) -> float:
    window = tuple(slice(max(at - wide, 0), at + wide + 1) for at, wide in zip(cell, around, strict=True))
    return float(change[window].max())


def _cell_at(place: tuple[float, ...], grid: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(min(int(share * cells), cells - 1) for share, cells in zip(place, grid, strict=True))


def _message(name: str, words: str) -> str:
    return (
        f"The map of target_layer {name!r} is drawn over the whole image, but {words}: the network crops, pads, "
        "mirrors, turns or cuts up the image itself, or explains a call with such a copy. Do that before the network "
        "and give it the result; or choose another call of the layer with call=; or put the map in order with "
        "reshape_transform."
    )
