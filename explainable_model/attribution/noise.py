"""Noise that is the same on every machine and in every runtime."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from explainable_model.attribution.argument_values import NOISE as NOISE
from explainable_model.attribution.counting import counting

if TYPE_CHECKING:
    from explainable_model.attribution.context import MethodContext

SAMPLES = 16

PRIME = 2_147_483_647  # products of two numbers below it fit into 64 bits
MULTIPLIERS = (16_807, 48_271, 69_621)


def gaussian_noise(image: Tensor, samples: int, seed: int) -> Tensor:
    """Standard normal noise from a count over the elements of an image.

    The count is hashed in 64-bit integers, so that artifacts need neither a random generator, which would
    answer differently each time, nor stored noise, which would be larger than many networks; two uniform
    numbers make a normal one (Box and Muller 1958).

    Args:
        image: ``(N, C, *spatial)``, whose shape and dtype the noise has.
        samples: how many copies.
        seed: another seed gives other noise.

    Returns:
        ``(samples, C, *spatial)``.
    """
    shape = image.shape[1:]
    first = _hashed(_states(image[:1].flatten(), samples, seed))
    radius = torch.sqrt(-2 * torch.log(_uniform(first)))
    angle = 2 * math.pi * _uniform(_hashed(first))
    return (radius * torch.cos(angle)).to(image.dtype).reshape(samples, *shape)


def uniform_numbers(like: Tensor, count: int, samples: int, seed: int) -> Tensor:
    """Uniform numbers in (0, 1), made as those of ``gaussian_noise``.

    Args:
        like: any tensor, on whose device they are.
        count: how many there are in each sample.
        samples: how many samples; the first ones do not depend on it.
        seed: another seed gives other numbers.

    Returns:
        ``(samples, count)`` float32.
    """
    return _uniform(_hashed(_states(like.new_ones(count), samples, seed)))


def noisy_copies(context: "MethodContext", samples: int, noise: float, seed: int) -> Iterator[Tensor]:
    """Chunks of noisy copies of each image, ``(N, chunk, C, *spatial)``.

    Args:
        context: of the images.
        samples: how many copies there are of each image, in all chunks together.
        noise: standard deviation, as a share of the range of the image.
        seed: see ``gaussian_noise``.
    """
    image = context.image
    dims = list(range(1, image.ndim))
    spread = noise * (image.amax(dims, keepdim=True) - image.amin(dims, keepdim=True)).unsqueeze(1)
    drawn = gaussian_noise(image, samples, seed)
    for start, stop in context.image_chunks(samples):
        yield image.unsqueeze(1) + spread * drawn[start:stop]


def _states(line: Tensor, samples: int, seed: int) -> Tensor:
    """``(samples, length)`` int64: another number for each entry of a line and each sample."""
    position = counting(line, 0, torch.int64) + 1
    copy = counting(position[:1].expand(samples), 0, torch.int64).unsqueeze(1) + 1
    return (position * MULTIPLIERS[0] + copy * MULTIPLIERS[1] + (seed + 1) * MULTIPLIERS[2]) % PRIME


def _hashed(state: Tensor) -> Tensor:
    for multiplier in MULTIPLIERS:  # a linear step alone would leave neighbors in line: square in between
        state = (state * state + multiplier * state + multiplier) % PRIME
    return state


def _uniform(state: Tensor) -> Tensor:
    """In (0, 1)."""
    return (state.to(torch.float32) + 0.5) / PRIME
