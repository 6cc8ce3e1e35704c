"""Find out whether the cells of a layer's output lie where its shape says, by changing the image at some places."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from explainable_model.attribution.containers import floating_tensors
from explainable_model.attribution.layout import SpatialLayout
from explainable_model.eager.buffers import restored_buffers
from explainable_model.eager.record import is_attention
from explainable_model.errors import LayerError

# Places in the image, as shares of its height and width, that no common order of tokens leaves where they are.
PLACES = ((0.2, 0.7), (0.6, 0.3), (0.8, 0.85), (0.35, 0.55))
CLEAR = 2.0  # times as strongly changed as the cell that should change: the order is another one
ENOUGH = 3  # places, of the four, that decide
LARGE = 5  # in a grid of so many cells a side, a neighbor of a cell counts for it: patches may overlap
REACH = 4  # pixels by which convolutions before the tokens move the largest change, where cells are as small
NEAR = 8  # but no more than this part of a side
MIXERS = ("Attention", "Attn", "Transformer")
NORMS = ("LayerNorm", "RMSNorm")

Seen = list[tuple[str, Tensor]]


def check_places(
    model: nn.Module,
    name: str,
    layout: SpatialLayout,
    image: Tensor,
    run: Callable[[Tensor, int], Any],
    needs_proof: bool = True,
) -> None:
    """Refuse a layer whose tokens are no places of the image, or lie in another order.

    One place of the image after the other is changed, and the cell that changes most should be the one of that place.
    The output of attention mixes all places; then the layers around it tell whose tokens they are.

    Args:
        model: the network.
        name: of the layer.
        layout: how its output is read.
        image: ``(N, C, *spatial)``; the first image is used.
        run: ``(images, copies)``: runs the network on copies of the first image.
        needs_proof: refuse a layer, too, where nothing shows that its tokens are places.

    Raises:
        LayerError: the cells are not where they should be, or nothing shows that they are.
    """
    if len(layout.grid) < 2 or not _is_doubtful(model, name, layout):
        return
    changed = torch.cat([image[:1], *(_changed(image[:1], layout.grid, place) for place in PLACES)])
    seen: Seen = []
    try:
        with restored_buffers(model), _watching(model, name, seen):
            run(changed, len(changed))
    except (RuntimeError, ValueError, IndexError, AssertionError):
        return  # a network for one batch size alone
    for kind, tensor in seen:
        if kind == "output" and tensor.ndim > 3 and is_attention(model.get_submodule(name), tensor):
            raise LayerError(_message(name, tensor, "it holds attention, tokens by tokens"))
    seen = [
        (kind, tensor)
        for kind, tensor in seen
        if tensor.shape[0] == len(changed) and bool((tensor[1:] != tensor[:1]).any())
    ]
    reach = _reach(layout.grid[-2:], image.shape[-2:])
    verdicts = [_verdict(layout, tensor, reach) for _, tensor in seen]
    clear = next((verdict for verdict in verdicts if verdict is not None), None)
    if clear is False:
        if layout.prefix and _verdict(replace(layout, prefix=0), seen[verdicts.index(False)][1], reach):
            raise LayerError(_suffix_message(name, layout, seen[0][1]))
        raise LayerError(_message(name, seen[0][1], "its tokens lie in another order, or are no places of the image"))
    decidable = min(layout.grid[-2:]) >= LARGE  # in a smaller grid, one place changes all of its tokens
    if clear is None and verdicts and layout.kind == "tokens" and needs_proof and decidable:
        raise LayerError(_message(name, seen[0][1], "no token follows one place of the image, as text does not"))


def may_hold_tokens(model: nn.Module) -> bool:
    """Whether a network may have layers of tokens: it has attention, or normalizes each token."""
    return any(word in type(module).__name__ for module in model.modules() for word in (*MIXERS, *NORMS))


def _message(name: str, tensor: Tensor, reason: str) -> str:
    shape = ("N", *tensor.shape[1:])
    return (
        f"target_layer {name!r} has no spatial map: {reason}, though its shape ({', '.join(map(str, shape))}) could be "
        "read as one. Choose a layer that find_layers lists and whose tokens are patches in rows, or pass "
        "reshape_transform to put them in order."
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


def _changed(image: Tensor, grid: Sequence[int], place: tuple[float, float]) -> Tensor:
    """The image with other values in the pixels of one cell, in all of its frames."""
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0)).to(image)
    deviation = image.float().std().clamp_min(0.1).to(image)
    window: list[slice] = [slice(None), slice(None)]
    size = image.shape[2:]
    for axis, (cells, length) in enumerate(zip(grid, size, strict=True)):
        share = place[axis - len(grid)] if len(grid) - axis <= len(place) else None
        if share is None:  # the frames of a video
            share = 0.5
        cell = _cell(share, cells)
        window.append(slice(cell * length // cells, max((cell + 1) * length // cells, cell * length // cells + 1)))
    changed = image.clone()
    changed[tuple(window)] = image[tuple(window)] * 0.5 + noise[tuple(window)] * 2 * deviation
    return changed


def _cell(share: float, cells: int) -> int:
    return min(int(share * cells), cells - 1)


@contextmanager
def _watching(model: nn.Module, name: str, seen: Seen) -> Iterator[None]:
    """Collect the output of a layer and what went into it, then the same of each layer around it."""
    parts = name.split(".")
    names = [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
    found: dict[tuple[str, str], Tensor] = {}

    def hook(at: str) -> Callable[..., None]:
        def keep(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            for kind, value in (("output", output), ("input", (list(args), list(kwargs.values())))):
                tensors = [t.detach() for t in floating_tensors(value) if t.ndim > 2]
                if tensors:
                    found[at, kind] = tensors[0]

        return keep

    with ExitStack() as stack:
        for at in names:
            stack.enter_context(model.get_submodule(at).register_forward_hook(hook(at), with_kwargs=True))
        yield
    own = found.get((name, "output"))
    for at in names if own is not None else []:
        for kind in ("output", "input"):
            tensor = found.get((at, kind))
            if tensor is not None and own is not None and tensor.shape[:-1] == own.shape[:-1]:
                seen.append((kind, tensor))


def _reach(grid: Sequence[int], size: Sequence[int]) -> int:
    """How far from a cell its change may be the largest."""
    if min(grid) < LARGE:
        return 0
    stride = max(length // cells for cells, length in zip(grid, size, strict=True))
    return max(1, min(REACH // max(stride, 1), min(grid) // NEAR))


def _verdict(layout: SpatialLayout, tensor: Tensor, reach: int) -> bool | None:
    """Whether the cells lie where they should; ``None`` where that cannot be told."""
    tokens = tensor[:, : layout.prefix + math.prod(layout.grid)] if layout.kind == "tokens" else tensor
    maps = layout.to_map(tokens).double()
    change = (maps[1:] - maps[:1]).square().sum(1).sqrt()  # (places, *grid)
    hits = misses = 0
    for place, at in zip(PLACES, change, strict=True):
        axes = [0.5, *place][-len(layout.grid) :]
        cells = [_cell(share, length) for share, length in zip(axes, layout.grid, strict=True)]
        window = tuple(slice(max(cell - reach, 0), cell + reach + 1) for cell in cells)
        own, largest = float(at[window].max()), float(at.max())
        hits += own == largest > 0
        misses += largest > CLEAR * own
    if hits >= ENOUGH:
        return True
    return False if misses >= ENOUGH else None
