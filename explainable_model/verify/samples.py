"""The inputs that an artifact is verified on: like the example, but other images, batch sizes and sizes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from explainable_model.artifact.shapes import SizeRange

if TYPE_CHECKING:
    from torch import Tensor

    from explainable_model.lowering.lowered import LoweredModel


def tested_sizes(lowered: "LoweredModel") -> list[list[int]]:
    """The spatial sizes to verify: the example's and, where the size is open, others."""
    if lowered.photo_io is None:
        return other_sizes(lowered.size, lowered.sizes)
    from explainable_model.lowering.example_photos import photo_sizes

    return [list(size) for size in photo_sizes(lowered.photo_io)]


def example_like(lowered: "LoweredModel", batch: int, seed: int, size: Sequence[int]) -> "Tensor":
    """Make new images of that size, or photos for a graph that prepares them."""
    if lowered.photo_io is None:
        return fresh_images(lowered.example, batch, seed, size)
    from explainable_model.lowering.example_photos import fresh_photos

    return fresh_photos(lowered.photo_io, batch, (size[0], size[1]), seed + 1).to(lowered.example.device)


def other_sizes(size: Sequence[int], allowed: Sequence[SizeRange] | None) -> list[list[int]]:
    """The example's spatial size and, where the size is open, a larger one and one close to the smallest."""
    if not allowed:
        return [list(size)]
    larger = [n + k * r.multiple for k, (n, r) in enumerate(zip(size, allowed, strict=True), start=1)]
    first = int(len(size) == 1)  # further dimensions keep one of theirs, so that their proportions change
    ranges = enumerate(zip(size, allowed, strict=True), start=first)
    smaller = [max(n - 2 * k * r.multiple, r.minimum) for k, (n, r) in ranges]
    return [list(size), larger, smaller]


def takes_any_value(example: "Tensor") -> bool:
    """Whether an extra input may hold any numbers: floats, and more than one for each image."""
    return example.is_floating_point() and example.ndim > 1


def fresh_input(example: "Tensor", batch: int, seed: int) -> "Tensor":
    """Make a new extra input.

    Where a value has a meaning (an age, a category, a token, a length, a mask), rows of the example are permuted: no
    other values are known to be valid. Floats of more dimensions are made like images.

    Args:
        example: ``(N, ...)``.
        batch: how many rows to make.
        seed: which rows come first, or seed of the noise.
    """
    import torch

    if takes_any_value(example):
        return fresh_images(example, batch, seed)
    rows = (torch.arange(batch) + seed + 1) % len(example)
    return example[rows.to(example.device)]


def fresh_images(example: "Tensor", batch: int, seed: int, size: Sequence[int] | None = None) -> "Tensor":
    """Make new images: flipped and shifted copies of the example's, with noise of the same spread.

    Args:
        example: ``(N, C, *spatial)``.
        batch: how many to make.
        seed: seed of the noise.
        size: spatial size, if not the example's.
    """
    import torch

    from explainable_model.attribution.postprocess import resize

    spread = float(example.float().std())
    spread = spread if spread > 0 else 1.0
    generator = torch.Generator().manual_seed(seed)
    images = []
    for n in range(batch):
        source = example[n % len(example)].cpu().flip(-1).roll(7 * (n + 1) + seed, -1)
        if size is not None and list(size) != list(source.shape[1:]):
            source = resize(source, size)
        noise = torch.randn(source.shape, generator=generator, dtype=torch.float32) * spread
        images.append((0.5 * source.float() + noise).to(example.dtype))
    return torch.stack(images).to(example.device)
