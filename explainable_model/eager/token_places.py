"""Find out whether the cells of a layer's output lie where its shape says, by changing the image at some places."""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from explainable_model.attribution.containers import floating_tensors
from explainable_model.attribution.layout import SpatialLayout
from explainable_model.eager.buffers import restored_buffers
from explainable_model.eager.cell_changes import change_cell, collect
from explainable_model.eager.layer_candidates import list_norms, may_hold_tokens, mixes_tokens
from explainable_model.eager.record import is_attention
from explainable_model.eager.small_grids import change_cells, judge_cells
from explainable_model.errors import LayerError

# Places in the image, as shares of its height and width, that no common order of tokens leaves where they are.
PLACES = ((0.2, 0.7), (0.6, 0.3), (0.8, 0.85), (0.35, 0.55))
CLEAR = 2.0  # times as strongly changed as the cell that should change: the order is another one
ENOUGH = 3  # places, of the four, that decide
TINY = 5  # cells a side: in a smaller grid no neighbor of a cell counts for it, and attention may leave no token of it
SMALL = 8  # cells a side: in a smaller grid of tokens, each cell is changed
FLOOR = 1e-3  # of the mean change: smaller changes count as this
REACH = 4  # pixels by which convolutions before the tokens move the largest change, where cells are as small
NEAR = 8  # but no more than this part of a side


def check_places(
    model: nn.Module,
    name: str,
    layout: SpatialLayout,
    image: Tensor,
    run: Callable[[Tensor, int], Any],
    *,
    is_map: bool = False,
    needs_proof: bool = True,
) -> str | None:
    """Refuse a layer whose tokens are no places of the image, or lie in another order.

    One place of the image after the other is changed, and the cell that changes most should be the one of that place.
    The output of attention mixes all places; then the layers around it tell whose tokens they are. In a small grid
    each cell is changed, see ``judge_cells``.

    Args:
        model: the network.
        name: of the layer.
        layout: how its output is read.
        image: ``(N, C, *spatial)``; the first image is used.
        run: ``(images, copies)``: runs the network on copies of the first image.
        is_map: whether another layer showed a map with the grid, so that in a tiny grid a doubt remains where nothing
            shows more.
        needs_proof: refuse a layer, too, where nothing shows that its tokens are places.

    Returns:
        The doubt, a sentence, that remains; ``None`` for none.

    Raises:
        LayerError: the cells are not where they should be, or nothing shows that they are.
    """
    if len(layout.grid) < 2 or not _is_doubtful(model, name, layout):
        return None
    is_first = is_map and layout.kind == "channels_first"  # with its channels last it may hold windows, token by token
    if is_first and not mixes_tokens(model) and not _normalizes_sequences(model, image, run):
        return None  # of convolutions, and norms of their channels
    is_small = layout.kind == "tokens" and min(layout.grid[-2:]) < SMALL
    changed = change_cells(image[:1], layout.grid) if is_small else _change_places(image[:1], layout.grid)
    found = collect(model, name, changed, run, len(image))
    for kind, tensor in found:
        if kind == "output" and tensor.ndim > 3 and is_attention(model.get_submodule(name), tensor):
            raise LayerError(_message(name, tensor, "it holds attention, tokens by tokens"))
    seen = [tensor for _, tensor in found if bool((tensor[1:] != tensor[:1]).any())]
    reach = _reach(layout.grid[-2:], image.shape[-2:])

    def judge(layout: SpatialLayout, tensor: Tensor) -> bool | None:
        return judge_cells(layout, tensor) if is_small else _verdict(layout, tensor, reach)

    verdicts = [judge(layout, tensor) for tensor in seen]
    clear = next((verdict for verdict in verdicts if verdict is not None), None)
    if clear is False:
        if layout.prefix and judge(replace(layout, prefix=0), seen[verdicts.index(False)]):
            raise LayerError(_suffix_message(name, layout, seen[0]))
        raise LayerError(_message(name, seen[0], "its tokens lie in another order, or are no places of the image"))
    if clear or not found or layout.kind != "tokens" or not needs_proof:
        return None
    if not seen:
        raise LayerError(_message(name, found[0][1], "its tokens do not depend on the image"))
    if is_small and layout.prefix and any(judge(replace(layout, prefix=0), tensor) for tensor in seen):
        raise LayerError(_suffix_message(name, layout, seen[0]))
    if is_map and min(layout.grid[-2:]) < TINY:
        return _doubt(name, layout)
    raise LayerError(_message(name, seen[0], "no token follows one place of the image, as text does not"))


def _normalizes_sequences(model: nn.Module, image: Tensor, run: Callable[[Tensor, int], Any]) -> bool:
    """Whether a norm is given fewer dimensions than the image has, as sequences of tokens have."""
    dims: list[int] = []

    def look(module: nn.Module, args: tuple[Any, ...]) -> None:
        dims.extend(tensor.ndim for tensor in floating_tensors(list(args)))

    with ExitStack() as stack:
        for norm in list_norms(model):
            stack.enter_context(norm.register_forward_pre_hook(look))
        stack.enter_context(restored_buffers(model))
        try:
            run(image, len(image))
        except (RuntimeError, ValueError, IndexError, AssertionError):
            return True  # a network for one batch size alone
    return any(count < image.ndim for count in dims)


def _message(name: str, tensor: Tensor, reason: str) -> str:
    shape = ("N", *tensor.shape[1:])
    return (
        f"target_layer {name!r} has no spatial map: {reason}, though its shape ({', '.join(map(str, shape))}) could be "
        "read as one. Choose a layer that find_layers lists and whose tokens are patches in rows, or pass "
        "reshape_transform to put them in order."
    )


def _doubt(name: str, layout: SpatialLayout) -> str:
    grid = " x ".join(map(str, layout.grid))
    own = f"[:, {layout.prefix}:]" if layout.prefix else ""
    return (
        f"Nothing shows that the tokens of target_layer {name!r} follow places of the image: each change of one of its "
        f"{grid} cells moves all of them alike, as in text, or behind attention that mixes all tokens. The map may not "
        "lie where its evidence is. Name an earlier layer; or, if the tokens are patches in rows, say so: "
        f"reshape_transform=lambda tokens: tokens{own}.mT.unflatten(2, {tuple(layout.grid)})."
    )


def _suffix_message(name: str, layout: SpatialLayout, tensor: Tensor) -> str:
    count, shape = math.prod(layout.grid), ", ".join(map(str, tensor.shape[1:]))
    return (
        f"target_layer {name!r} returns (N, {shape}), whose first {count} tokens are the patches and whose last "
        f"{layout.prefix} are not, such as registers; expected the patches last. Say which are the patches: "
        f"reshape_transform=lambda tokens: tokens[:, :{count}].mT.unflatten(2, {tuple(layout.grid)})."
    )


def _is_doubtful(model: nn.Module, name: str, layout: SpatialLayout) -> bool:
    """Tokens; and maps of layers that are no convolution, in networks with attention."""
    if layout.kind == "tokens":
        return True
    if isinstance(model.get_submodule(name), (nn.Conv2d, nn.Conv3d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d)):
        return False
    return may_hold_tokens(model)


def _change_places(image: Tensor, grid: Sequence[int]) -> Tensor:
    """The image, then the image with each of ``PLACES`` changed, in the frame in the middle of a video."""
    return torch.cat([image, *(change_cell(image, grid, _cell_at(place, grid)) for place in PLACES)])


def _cell_at(place: tuple[float, float], grid: Sequence[int]) -> list[int]:
    shares = [0.5, *place][-len(grid) :]
    return [min(int(share * cells), cells - 1) for share, cells in zip(shares, grid, strict=True)]


def _reach(grid: Sequence[int], size: Sequence[int]) -> int:
    """How far from a cell its change may be the largest."""
    if min(grid) < TINY:
        return 0
    stride = max(length // cells for cells, length in zip(grid, size, strict=True))
    return max(1, min(REACH // max(stride, 1), min(grid) // NEAR))


def _verdict(layout: SpatialLayout, tensor: Tensor, reach: int) -> bool | None:
    """Whether the cells lie where they should; ``None`` where that cannot be told."""
    tokens = tensor[:, : layout.prefix + math.prod(layout.grid)] if layout.kind == "tokens" else tensor
    maps = layout.to_map(tokens).double()
    change = (maps[1:] - maps[:1]).square().sum(1).sqrt()  # (places, *grid)
    usual = change.mean(0) + FLOOR * change.mean()  # some tokens of text change more than others, whatever the place is
    hits = misses = more = 0
    for place, at in zip(PLACES, change, strict=True):
        window = tuple(slice(max(cell - reach, 0), cell + reach + 1) for cell in _cell_at(place, layout.grid))
        own, largest = float(at[window].max()), float(at.max())
        hits += own == largest > 0
        more += float((at / usual)[window].max()) == float((at / usual).max())
        misses += largest > CLEAR * own
    if min(hits, more) >= ENOUGH:
        return True
    return False if misses >= ENOUGH else None
