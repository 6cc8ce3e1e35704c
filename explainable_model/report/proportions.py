"""Shares of photos with intervals."""

import math
from typing import NamedTuple

NORMAL_95 = 1.959964


class Proportion(NamedTuple):
    """A share of photos: ``hits`` of ``total``.

    Attributes:
        hits: photos of which something holds.
        total: photos in all.

    Example:
        >>> print(Proportion(9, 10))
        90 % (60 % to 98 %)
    """

    hits: int
    total: int

    @property
    def share(self) -> float:
        """``hits / total``; NaN of no photos."""
        return self.hits / self.total if self.total else math.nan

    def interval(self, deviations: float = NORMAL_95) -> tuple[float, float]:
        """Compute the score interval of the share, which is right for few photos and for shares near 0 and 1.

        Args:
            deviations: of the normal distribution; the default is a 95 % interval.

        Source: Wilson 1927.
        """
        if not self.total:
            return 0.0, 1.0
        square = deviations**2
        center = self.hits + square / 2
        half = deviations * math.sqrt(self.hits * (self.total - self.hits) / self.total + square / 4)
        whole = self.total + square
        return max(0.0, (center - half) / whole), min(1.0, (center + half) / whole)

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.share:.0%} ({low:.0%} to {high:.0%})".replace("%", " %")


class Difference(NamedTuple):
    """A difference of two shares.

    Attributes:
        value: the first share minus the second.
        low, high: the interval, of 95 % where nothing else is said.
    """

    value: float
    low: float
    high: float

    @property
    def is_sure(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def subtract(first: Proportion, second: Proportion, deviations: float = NORMAL_95) -> Difference:
    """Compute the difference of two shares of different photos, and its interval.

    Args:
        first, second: of at least one photo each.
        deviations: of the normal distribution; the default is a 95 % interval.

    Source: Newcombe 1998, method 10.

    Example:
        >>> subtract(Proportion(9, 10), Proportion(3, 10)).is_sure
        True
    """
    (low1, high1), (low2, high2) = first.interval(deviations), second.interval(deviations)
    value = first.share - second.share
    below = math.hypot(first.share - low1, high2 - second.share)
    above = math.hypot(high1 - first.share, second.share - low2)
    return Difference(value, value - below, value + above)
