"""Measures that change pixels in the order of the map and watch the score."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from explainable_model.errors import InputError
from explainable_model.evaluation.baselines import Baseline, fill, impute_pixels

Floats = NDArray[np.float64]
Image = NDArray[np.float32]
Predict = Callable[[NDArray[np.float32]], Floats]
"""``(N, C, H, W)`` to ``(N,)``: the probability of the explained class in each image."""

STEPS = 32
CHUNK = 16  # images that exist at once
ROAD_SHARES = (0.2, 0.4, 0.6, 0.8)


def rank_pixels(cam: Floats, rng: np.random.Generator) -> NDArray[np.intp]:
    """Sort the pixels by the map, largest first; equal values come in random order, not from the top left corner.

    Args:
        cam: ``(H, W)``.
        rng: draws the order of equal values.

    Returns:
        ``(H * W,)`` positions in the flat map.
    """
    values = cam.ravel()
    return np.lexsort((rng.random(values.size), -values))


def score_steps(
    predict: Predict, start: Image, end: Image, order: NDArray[np.intp], steps: int = STEPS
) -> tuple[Floats, Floats]:
    """Replace the pixels of one image by those of another, in order, and read the score after each step.

    Args:
        predict: see ``Predict``.
        start, end: ``(C, H, W)``.
        order: ``(H * W,)``, as from ``rank_pixels``.
        steps: how many scores follow that of ``start``, at most one per pixel.

    Returns:
        ``(steps + 1,)`` shares of replaced pixels, from 0 to 1, and the scores.

    Raises:
        InputError: fewer than one step.
    """
    if steps < 1:
        raise InputError(f"steps is {steps}; expected 1 or more.")
    counts = np.unique(np.linspace(0, order.size, steps + 1).round().astype(int))
    scores = [predict(chunk) for chunk in _changed_images(start, end, order, counts)]
    return counts / order.size, np.concatenate(scores)


def _changed_images(
    start: Image, end: Image, order: NDArray[np.intp], counts: NDArray[np.int_]
) -> Iterator[NDArray[np.float32]]:
    flat, target = start.reshape(len(start), -1).copy(), end.reshape(len(end), -1)
    done = 0
    for first in range(0, len(counts), CHUNK):
        images = []
        for count in counts[first : first + CHUNK]:
            changed = order[done:count]
            flat[:, changed] = target[:, changed]
            done = int(count)
            images.append(flat.reshape(start.shape).copy())
        yield np.stack(images)


def area_under_curve(shares: Floats, scores: Floats) -> float:
    """Integrate scores over shares by the trapezoidal rule.

    Example:
        >>> area_under_curve(np.array([0.0, 0.5, 1.0]), np.array([1.0, 0.5, 0.0]))
        0.5
    """
    return float(((scores[1:] + scores[:-1]) / 2 * np.diff(shares)).sum())


def deletion(
    predict: Predict,
    image: Image,
    cam: Floats,
    rng: np.random.Generator,
    *,
    steps: int = STEPS,
    baseline: Baseline = "mean",
) -> float:
    """Area under the score while the pixels where the map is large are removed first. Smaller is better.

    Args:
        predict: see ``Predict``.
        image: ``(C, H, W)``.
        cam: ``(H, W)``.
        rng: orders equal values.
        steps: how many times the score is read after the first.
        baseline: what a removed pixel becomes, see ``fill``.

    Returns:
        Between the smallest and the largest score, so 0 to 1 for a probability.

    Source: RISE, Petsiuk et al. 2018, arXiv 1806.07421, section 4.3.
    """
    return area_under_curve(*score_steps(predict, image, fill(image, baseline), rank_pixels(cam, rng), steps))


def insertion(
    predict: Predict,
    image: Image,
    cam: Floats,
    rng: np.random.Generator,
    *,
    steps: int = STEPS,
    baseline: Baseline = "blur",
) -> float:
    """Area under the score while the pixels where the map is large appear first. Larger is better.

    Arguments, result and source as ``deletion``.
    """
    return area_under_curve(*score_steps(predict, fill(image, baseline), image, rank_pixels(cam, rng), steps))


def road(
    predict: Predict,
    image: Image,
    cam: Floats,
    rng: np.random.Generator,
    *,
    shares: tuple[float, ...] = ROAD_SHARES,
) -> float:
    """Score without the least important pixels minus score without the most important ones, halved. Larger is better.

    The removed pixels are imputed from their neighbors, so that their shape says nothing.

    Args:
        predict: see ``Predict``.
        image: ``(C, H, W)``.
        cam: ``(H, W)``.
        rng: orders equal values and draws the noise of the imputation.
        shares: of the pixels that are removed; the differences are averaged.

    Returns:
        -0.5 to 0.5 for a probability.

    Source: ROAD, Rong et al. 2022, arXiv 2202.00449; least minus most relevant first as in pytorch-grad-cam.
    """
    order = rank_pixels(cam, rng)
    masks = np.ones((2 * len(shares), order.size), bool)
    for number, share in enumerate(shares):
        count = round(share * order.size)
        masks[2 * number, order[:count]] = False
        masks[2 * number + 1, order[order.size - count :]] = False
    images = np.stack([impute_pixels(image, mask.reshape(cam.shape), rng) for mask in masks])
    scores = predict(images)
    return float((scores[1::2] - scores[::2]).mean() / 2)
