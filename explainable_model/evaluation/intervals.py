"""Means with bootstrap intervals."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 2000
TAIL = 2.5  # per cent on each side


class Interval(NamedTuple):
    """A mean over photos.

    Attributes:
        mean: of the values.
        low, high: the 95 % interval of the mean, by the percentiles of 2,000 resamples of the photos.
        photos: how many values there were. One value has no interval: ``low`` and ``high`` are the value itself.
    """

    mean: float
    low: float
    high: float
    photos: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})" if self.photos > 1 else f"{self.mean:.3f}"


def average(values: Sequence[float], seed: int = 0) -> Interval:
    """Compute the mean of values and its bootstrap interval.

    Args:
        values: at least one.
        seed: of the resamples.

    Source: percentile bootstrap, Efron 1979.

    Example:
        >>> average([0.5, 0.5])
        Interval(mean=0.5, low=0.5, high=0.5, photos=2)
    """
    array = np.asarray(values, np.float64)
    drawn = np.random.default_rng(seed).integers(0, array.size, (RESAMPLES, array.size))
    low, high = np.percentile(array[drawn].mean(1), [TAIL, 100 - TAIL])
    return Interval(float(array.mean()), float(low), float(high), int(array.size))
