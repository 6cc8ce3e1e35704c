"""Tell where a network crops, pads, mirrors or turns the image before a layer, whose map then lies elsewhere."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from explainable_model.attribution.layout import SpatialLayout
from explainable_model.attribution.plan import Plan
from explainable_model.eager.buffers import restored_buffers
from explainable_model.eager.cell_changes import change_cell, collect
from explainable_model.eager.example import Example
from explainable_model.eager.find_layer import record_outputs, run_copies
from explainable_model.errors import DoubtfulPlacesWarning

# Places in the image, as shares of its depth, height and width. Four remain where half of each side is cut off.
PLACES = (
    (0.6, 0.3, 0.6), (0.35, 0.6, 0.35), (0.3, 0.7, 0.65), (0.65, 0.42, 0.42), (0.2, 0.15, 0.85), (0.45, 0.85, 0.2),
    (0.8, 0.55, 0.7),
)  # fmt: skip
CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
SIDES = ("depth", "height", "width")
LEAST = 4  # places that change the layer: two numbers describe each direction
SCALED = 0.2  # a map of so much more or less than the image; convolutions without padding leave as much out
APART = 0.7  # cells by which the changes lie elsewhere, at least
EXACT = 2.0  # times as far as from where a crop, a mirrored or a turned image has them
NEAR = 1.0  # cells from there, at most
CLEAR = 2.0  # times as strongly changed as the cells around the place
REACH = 4  # pixels by which convolutions move the largest change
PEAK = 4  # power of a change as its weight, so that the largest counts


class ConvolutionWatch(TorchFunctionMode):
    """Tells, once the network has run in this thread, what its convolutions were given; the network gets no hook.

    Args:
        image: what the network is given.
        watched: shapes of images without their batch that need no look, for each operator costs some microseconds;
            ``warn_of_moves`` adds the image's.

    Attributes:
        is_active: whether it looks at all.
        takes_image: whether the first convolution was given the image as it is; ``None`` where none ran.
        repeats: whether a convolution ran twice.
    """

    def __init__(self, image: Tensor, watched: set[tuple[int, ...]]) -> None:
        super().__init__()
        self.is_active = isinstance(image, Tensor) and tuple(image.shape[1:]) not in watched
        self.watched = watched
        self.takes_image: bool | None = None
        self.repeats = False
        self._image, self._weights = image, set[int]()

    def __enter__(self) -> "ConvolutionWatch":
        if self.is_active:
            super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *exception: Any) -> None:
        if self.is_active:
            super().__exit__(*exception)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") in CONVOLUTIONS and len(args) > 1:
            given, weight = args[:2]
            self.repeats |= id(weight) in self._weights
            self._weights.add(id(weight))
            if self.takes_image is None:
                image = self._image  # the network may have moved it to another device
                self.takes_image = given.shape == image.shape and bool((given == image.to(given.device)).all())
        return func(*args, **kwargs or {})


def warn_of_moves(model: nn.Module, arguments: tuple[Tensor, ...], plan: Plan, watch: ConvolutionWatch) -> None:
    """Warn where the map of a layer lies elsewhere than the image, see ``find_move``.

    Args:
        model: the network.
        arguments: the image and the extra inputs.
        plan: names the layers.
        watch: what the first run showed; without a reason in it, nothing is run again.
    """
    if not watch.is_active:
        return
    _warn(model, arguments, plan, watch)
    pixels = arguments[0].flatten(2)
    if bool((pixels != pixels[..., :1]).any()):  # an image of one color is the same after it was moved
        watch.watched.add(tuple(arguments[0].shape[1:]))


def _warn(model: nn.Module, arguments: tuple[Tensor, ...], plan: Plan, watch: ConvolutionWatch) -> None:
    if watch.takes_image is not False and not (watch.repeats and plan.call is None):
        return
    if not plan.layers or plan.frames is not None or plan.reshape_transform is not None:
        return
    example = Example(model, arguments, plan.output, plan.target, forward=plan.forward)
    with restored_buffers(model):
        record, _ = record_outputs(example, example.image.detach().clone())
    for name in plan.layers:
        entry = record.outputs.get(name)
        if entry is None or not isinstance(entry.layout, SpatialLayout):
            continue
        if watch.takes_image is not False and entry.calls < 2:
            continue
        doubt = find_move(model, name, entry.layout, example.image.detach(), partial(run_copies, example))
        if doubt is not None:
            warnings.warn(doubt, DoubtfulPlacesWarning, stacklevel=5)


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
