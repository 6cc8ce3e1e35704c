"""Runs an artifact on images of one shape: one of a fixed batch as often as needed."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.artifact.limits import check_volume
from explainable_model.runtime import Session

Array = NDArray[Any]


def split_into_batches(
    session: Session, images: Array, *others: Array, most: int | None = None
) -> Iterator[tuple[Array, ...]]:
    """Split images, and arrays of as many rows, into batches that the artifact takes; the last row fills the last one.

    Args:
        session: the artifact.
        images: of one shape.
        others: what belongs to them.
        most: images of a batch, where the artifact takes any number.

    Raises:
        InputError: a batch would take too much memory.
    """
    size = session.metadata.batch or min(len(images), most or len(images))
    check_volume((size, *images.shape[1:]), 1, session.path)
    for start in range(0, len(images), size):
        yield tuple(_fill(values[start : start + size], size) for values in (images, *others))


def join_batches(outputs: Sequence[Sequence[Array]], count: int) -> tuple[Array, ...]:
    """Join the outputs of batches, and drop what filled the last one."""
    return tuple(np.concatenate(parts)[:count] for parts in zip(*outputs, strict=True))


def _fill(values: Array, size: int) -> Array:
    return values if len(values) == size else np.concatenate([values, np.repeat(values[-1:], size - len(values), 0)])
