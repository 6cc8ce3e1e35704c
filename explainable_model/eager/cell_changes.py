"""Change cells of an image one after another, and collect what a layer and those around it make of each."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from explainable_model.attribution.containers import floating_tensors
from explainable_model.eager.buffers import restored_buffers

COPIES = 16  # images in one run, at most

Seen = list[tuple[str, Tensor]]  # ("output" or "input", (copies, tokens, K))
Found = dict[tuple[str, str], Tensor]


def change_cell(image: Tensor, grid: Sequence[int], cell: Sequence[int], seed: int = 0) -> Tensor:
    """The image with other values in the pixels of one cell.

    Args:
        image: ``(1, C, *spatial)``.
        grid: the number of cells in each direction.
        cell: the place of the cell in the grid.
        seed: of the values.
    """
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed)).to(image)
    deviation = image.float().std().clamp_min(0.1).to(image)
    window: list[slice] = [slice(None), slice(None)]
    for at, cells, length in zip(cell, grid, image.shape[2:], strict=True):
        begin = at * length // cells
        window.append(slice(begin, max((at + 1) * length // cells, begin + 1)))
    changed = image.clone()
    changed[tuple(window)] = image[tuple(window)] * 0.5 + noise[tuple(window)] * 2 * deviation
    return changed


def collect(model: nn.Module, name: str, images: Tensor, run: Callable[[Tensor, int], Any], batch: int) -> Seen:
    """The output of a layer and what went into it, then the same of each layer around it with as many tokens.

    Args:
        model: the network.
        name: of the layer.
        images: ``(copies, C, *spatial)``.
        run: ``(images, copies)``: runs the network.
        batch: how many images are run at once where the network does not take ``COPIES``.

    Returns:
        An empty list where the network takes neither.
    """
    for size in (min(COPIES, len(images)), batch):
        try:
            parts = []
            for begin in range(0, len(images), size):
                chunk = images[begin : begin + size]
                missing = size - len(chunk)
                chunk = torch.cat([chunk, chunk[:1].expand(missing, *chunk.shape[1:])]) if missing else chunk
                with restored_buffers(model), _watching(model, name) as found:
                    run(chunk, size)
                parts.append({key: tensor for key, tensor in found.items() if len(tensor) == size})
        except (RuntimeError, ValueError, IndexError, AssertionError):
            continue  # a network for one batch size alone
        common = [key for key in parts[0] if all(key in part for part in parts)]
        joined = {key: torch.cat([part[key] for part in parts])[: len(images)] for key in common}
        return _around(name, joined)
    return []


def _names_around(name: str) -> list[str]:
    """The layer, and those that it is in, from the inside."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(len(parts), 0, -1)]


def _around(name: str, found: Found) -> Seen:
    own = found.get((name, "output"))
    keys = itertools.product(_names_around(name), ("output", "input"))
    tensors = [(key[1], found[key]) for key in keys if key in found]
    return [] if own is None else [pair for pair in tensors if pair[1].shape[:-1] == own.shape[:-1]]


@contextmanager
def _watching(model: nn.Module, name: str) -> Iterator[Found]:
    """Collect the first tensor of the outputs and inputs of a layer and of those around it."""
    found: Found = {}

    def hook(at: str) -> Callable[..., None]:
        def keep(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            for kind, value in (("output", output), ("input", (list(args), list(kwargs.values())))):
                tensors = [t.detach() for t in floating_tensors(value) if t.ndim > 2]
                if tensors:
                    found[at, kind] = tensors[0]

        return keep

    with ExitStack() as stack:
        for at in _names_around(name):
            stack.enter_context(model.get_submodule(at).register_forward_hook(hook(at), with_kwargs=True))
        yield found
