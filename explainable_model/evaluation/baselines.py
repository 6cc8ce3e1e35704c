"""What stands in for the pixels that a measure removes."""

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from explainable_model.errors import InputError

Image = NDArray[np.float32]
Values: TypeAlias = NDArray[np.float64]
Baseline: TypeAlias = Literal["mean", "blur", "zero"]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)

BLUR = 11.0  # standard deviation in pixels for an image of 224 x 224
BLUR_SIZE = 224
NOISE = 0.01  # standard deviation of the imputation's noise, in units of the image's own
DIRECT, DIAGONAL = 1 / 6, 1 / 12  # weights of the eight neighbors
TOLERANCE = 1e-4
ROUNDS = 2000
SMALLEST = 8  # an image of less rows or columns is solved at once


def fill(image: Image, baseline: Baseline) -> Image:
    """Make the image in which everything is removed.

    Args:
        image: ``(C, H, W)``.
        baseline: ``mean``: the mean of each channel; ``blur``: the image under a Gaussian; ``zero``: zeros, which are
            the mean of the training data where the image was normalized by it.

    Raises:
        InputError: another baseline.
    """
    if baseline == "mean":
        return np.broadcast_to(image.mean((1, 2), keepdims=True), image.shape).astype(np.float32)
    if baseline == "blur":
        return blur(image, BLUR * max(image.shape[1:]) / BLUR_SIZE)
    if baseline == "zero":
        return np.zeros_like(image)
    raise InputError(f"baseline is {baseline!r}; expected one of {', '.join(BASELINES)}.")


def blur(image: Image, sigma: float) -> Image:
    """Convolve an image with a Gaussian; its edges are continued by mirror images.

    Args:
        image: ``(C, H, W)``.
        sigma: standard deviation in pixels.
    """
    for axis in (1, 2):
        radius = min(int(3 * sigma + 0.5), image.shape[axis] - 1)
        offsets = np.arange(-radius, radius + 1)
        weights = np.exp(-0.5 * (offsets / sigma) ** 2)
        weights /= weights.sum()
        widths = [(radius, radius) if n == axis else (0, 0) for n in range(3)]
        padded = np.pad(image, widths, mode="reflect" if radius else "edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1, axis)
        image = np.ascontiguousarray(windows @ weights.astype(image.dtype), np.float32)
    return image


def impute_pixels(image: Image, keep: NDArray[np.bool_], rng: np.random.Generator) -> Image:
    """Replace removed pixels so that each is the weighted mean of its neighbors, plus a little noise.

    The equations for all removed pixels hold at once. Conjugate gradients solve them, from the solution at half the
    size on.

    Args:
        image: ``(C, H, W)``.
        keep: ``(H, W)``, false where a pixel is removed. Where all are removed, the mean remains.
        rng: draws the noise.

    Returns:
        ``(C, H, W)``; kept pixels are as they were.

    Source: noisy linear imputation, ROAD, Rong et al. 2022, arXiv 2202.00449, section 4.
    """
    if keep.all():
        return image.copy()
    if not keep.any():
        return fill(image, "mean")
    noise = NOISE * image.std() * rng.standard_normal(image.shape)
    solved = _solve_neighbors(image.astype(np.float64), keep)
    return np.where(keep, image, solved + noise).astype(np.float32)


def _solve_neighbors(image: Values, keep: NDArray[np.bool_]) -> Values:
    """Solve the equations of the removed pixels; the values of the removed pixels of ``image`` are not read."""
    removed = ~keep
    degree = _sum_neighbors(np.ones((1, *keep.shape)))
    known = np.where(removed, 0.0, image)

    def apply(values: Values) -> Values:
        return np.where(removed, degree * values - _sum_neighbors(values), 0.0)

    start = np.where(removed, _start(known, keep), 0.0)
    return _solve(apply, np.where(removed, _sum_neighbors(known), 0.0), start)


def _start(known: Values, keep: NDArray[np.bool_]) -> Values:
    """Solve at half the size, or take the mean where the image is small."""
    channels, height, width = known.shape
    if min(height, width) < SMALLEST:
        return np.broadcast_to(known.sum((1, 2), keepdims=True) / keep.sum(), known.shape)
    even = ((0, 0), (0, height % 2), (0, width % 2))
    blocks = (channels, (height + 1) // 2, 2, (width + 1) // 2, 2)
    counts = np.pad(keep, even[1:]).reshape(blocks[1:]).sum((1, 3))
    sums = np.pad(known, even).reshape(blocks).sum((2, 4))
    coarse = sums / np.maximum(counts, 1)
    if (counts == 0).any():
        coarse = np.where(counts > 0, coarse, _solve_neighbors(coarse, counts > 0))
    doubled: Values = coarse.repeat(2, 1).repeat(2, 2)[:, :height, :width]
    return doubled


def _sum_neighbors(values: Values) -> Values:
    """The weighted sum of the eight neighbors of every pixel; beyond the edge there is none."""
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1)))
    rows = padded[:, :-2] + padded[:, 2:]
    direct = rows[:, :, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    diagonal = rows[:, :, :-2] + rows[:, :, 2:]
    total: Values = DIRECT * direct + DIAGONAL * diagonal
    return total


def _solve(
    apply: Callable[[Values], Values],
    target: Values,
    solution: Values,
) -> Values:
    """Conjugate gradients for a symmetric positive definite map, each channel by itself."""

    def dot(a: Values, b: Values) -> Values:
        product: Values = (a * b).sum((1, 2), keepdims=True)
        return product

    residual = target - apply(solution)
    direction, size = residual, dot(residual, residual)
    goal = TOLERANCE**2 * np.maximum(dot(target, target), np.finfo(float).tiny)
    for _ in range(ROUNDS):
        if (size <= goal).all():
            break
        image = apply(direction)
        step = size / np.maximum(dot(direction, image), np.finfo(float).tiny)
        solution = solution + step * direction
        residual = residual - step * image
        before, size = size, dot(residual, residual)
        direction = residual + size / np.maximum(before, np.finfo(float).tiny) * direction
    return solution
