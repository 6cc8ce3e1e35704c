"""Noise that is the same on every machine and in every runtime."""

import math

import torch
from torch import Tensor

from explainable_model.attribution.counting import counting

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
    position = counting(image[:1].flatten(), 0, torch.int64) + 1
    copy = counting(position[:1].expand(samples), 0, torch.int64).unsqueeze(1) + 1
    state = (position * MULTIPLIERS[0] + copy * MULTIPLIERS[1] + (seed + 1) * MULTIPLIERS[2]) % PRIME
    first = _hashed(state)
    radius = torch.sqrt(-2 * torch.log(_uniform(first)))
    angle = 2 * math.pi * _uniform(_hashed(first))
    return (radius * torch.cos(angle)).to(image.dtype).reshape(samples, *shape)


def _hashed(state: Tensor) -> Tensor:
    for multiplier in MULTIPLIERS:  # a linear step alone would leave neighbours in line: square in between
        state = (state * state + multiplier * state + multiplier) % PRIME
    return state


def _uniform(state: Tensor) -> Tensor:
    """In (0, 1)."""
    return (state.to(torch.float32) + 0.5) / PRIME
