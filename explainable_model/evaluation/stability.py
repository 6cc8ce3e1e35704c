"""Measures that compare maps with each other: of changed images, of changed pixels' scores, of other classes."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from explainable_model.evaluation.baselines import fill
from explainable_model.evaluation.curves import Floats, Image, Predict

Explain = Callable[[Image], Floats]
"""``(C, H, W)`` to ``(H, W)``: the map of the explained class."""

SAMPLES = 10
RADIUS = 0.02  # of the image's range
SUBSETS = 50
PATCHES = 7  # the image is cut into 7 x 7 patches


def average_drop(predict: Predict, image: Image, cam: Floats) -> float:
    """Share of the score that is lost where the image is multiplied by its map. Smaller is better.

    ``max(0, y - y_masked) / y``.

    Args:
        predict: see ``Predict``.
        image: ``(C, H, W)``.
        cam: ``(H, W)`` in [0, 1].

    Returns:
        0 to 1.

    Source: Grad-CAM++, Chattopadhyay et al. 2018, arXiv 1710.11063, section 4.1.
    """
    score, masked = predict(np.stack([image, mask_image(image, cam)]))
    return float(max(0.0, score - masked) / score) if score > 0 else 0.0


def increase(predict: Predict, image: Image, cam: Floats) -> float:
    """1 where the score rises when the image is multiplied by its map, else 0. Larger is better.

    Arguments and source as ``average_drop``.
    """
    score, masked = predict(np.stack([image, mask_image(image, cam)]))
    return float(masked > score)


def mask_image(image: Image, cam: Floats) -> Image:
    """Multiply an image by its map, whose negative values count as zero."""
    masked: Image = (image * cam.clip(0, 1)).astype(np.float32)
    return masked


def coherency(explain: Explain, image: Image, cam: Floats) -> float:
    """Correlation of the map with the map of the image under its map, scaled to [0, 1]. Larger is better.

    Source: ADCC, Poppi et al. 2021, arXiv 2104.10252, section 3.
    """
    return (1 + correlate(cam, explain(mask_image(image, cam)))) / 2


def complexity(cam: Floats) -> float:
    """Mean of the map, its L1 norm per pixel. Smaller is better.

    Source: ADCC, Poppi et al. 2021, arXiv 2104.10252, section 3.

    Example:
        >>> complexity(np.array([[0.0, 1.0], [0.0, 0.0]]))
        0.25
    """
    return float(np.abs(cam).mean())


def adcc(drop: float, coherent: float, complex_: float) -> float:
    """Harmonic mean of coherency, 1 - complexity and 1 - average drop. Larger is better.

    Source: ADCC, Poppi et al. 2021, arXiv 2104.10252, equation 5.

    Example:
        >>> adcc(0.5, 0.5, 0.5)
        0.5
    """
    parts = (coherent, 1 - complex_, 1 - drop)
    return 3 / sum(1 / part for part in parts) if min(parts) > 0 else 0.0


def sparseness(cam: Floats) -> float:
    """Gini index of the map: 0 where all values are equal, near 1 where one pixel holds all. Neither is better.

    Source: Chalasani et al. 2020, arXiv 1810.06583, section 5.

    Example:
        >>> sparseness(np.array([[0.0, 0.0], [0.0, 1.0]]))
        0.75
    """
    values = np.sort(np.abs(cam).ravel())
    total = values.sum()
    if total == 0:
        return 0.0
    ranks = np.arange(1, values.size + 1)
    return float(1 - 2 * (values / total * (values.size - ranks + 0.5)).sum() / values.size)


def max_sensitivity(
    explain: Explain, image: Image, cam: Floats, rng: np.random.Generator, *, samples: int = SAMPLES
) -> float:
    """Largest relative change of the map under small noise in the image. Smaller is better.

    ``max |E(x + d) - E(x)| / |E(x)|``, with ``d`` uniform within 2 % of the image's range.

    Returns:
        0 or more; 0 for a map of zeros that stays zero.

    Source: Yeh et al. 2019, arXiv 1901.09392, definition 3.
    """
    radius = RADIUS * float(image.max() - image.min())
    length = float(np.linalg.norm(cam)) or 1.0
    changes = []
    for _ in range(samples):
        noise = rng.uniform(-radius, radius, image.shape).astype(np.float32)
        changes.append(float(np.linalg.norm(explain(image + noise) - cam)) / length)
    return max(changes)


def faithfulness_correlation(
    predict: Predict, image: Image, cam: Floats, rng: np.random.Generator, *, subsets: int = SUBSETS
) -> float | None:
    """Correlation, over random sets of patches, of the map's sum in them with the score lost without them.

    Larger is better. A patch is a 49th of the image; a set holds a fifth of them; the mean stands in for them.

    Returns:
        -1 to 1; ``None`` where either never changes.

    Source: Bhatt et al. 2020, arXiv 2005.00631, equation 1, with patches instead of single pixels.
    """
    removed = _draw_patches(image.shape[1:], rng, subsets)
    baseline = fill(image, "mean")
    images = np.where(removed[:, None], baseline, image).astype(np.float32)
    lost = predict(image[None])[0] - predict(images)
    sums = (removed * cam).sum((1, 2))
    return None if np.ptp(lost) == 0 or np.ptp(sums) == 0 else correlate(sums, lost)


def infidelity(
    predict: Predict, image: Image, cam: Floats, rng: np.random.Generator, *, subsets: int = SUBSETS
) -> float | None:
    """Share of the lost score's square that the map does not predict, over random sets of patches. Smaller is better.

    ``sum (b I.E - (f(x) - f(x - I)))^2 / sum (f(x) - f(x - I))^2``, with the scale ``b`` that fits best, since a map
    has no unit.

    Returns:
        0 to 1; ``None`` where the score never changes.

    Source: Yeh et al. 2019, arXiv 1901.09392, definition 1, with the optimal scale of its section 2.
    """
    removed = _draw_patches(image.shape[1:], rng, subsets)
    baseline = fill(image, "mean")
    images = np.where(removed[:, None], baseline, image).astype(np.float32)
    lost = predict(image[None])[0] - predict(images)
    sums = (removed * cam).sum((1, 2))
    total = float((lost**2).sum())
    if total == 0:
        return None
    scale = float(sums @ lost) / (float(sums @ sums) or 1.0)
    return float(((scale * sums - lost) ** 2).sum()) / total


def _draw_patches(shape: tuple[int, ...], rng: np.random.Generator, subsets: int) -> NDArray[np.bool_]:
    """``(subsets, H, W)``: true in a random fifth of the patches."""
    height, width = shape
    rows = np.arange(height) * PATCHES // height
    columns = np.arange(width) * PATCHES // width
    count = max(1, PATCHES * PATCHES // 5)
    chosen = np.argsort(rng.random((subsets, PATCHES * PATCHES)), 1) < count
    return chosen.reshape(subsets, PATCHES, PATCHES)[:, rows][:, :, columns]


def correlate(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Pearson's correlation; 0 where either is constant."""
    x, y = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    x, y = x - x.mean(), y - y.mean()
    length = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / length if length > 0 else 0.0


def correlate_ranks(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Spearman's correlation: Pearson's of the ranks, where equal values share their mean rank.

    Example:
        >>> correlate_ranks(np.array([1.0, 2.0, 3.0]), np.array([1.0, 10.0, 100.0]))
        1.0
    """
    return correlate(_rank(a.ravel()), _rank(b.ravel()))


def _rank(values: NDArray[np.floating]) -> Floats:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: Floats = (ends - (counts - 1) / 2)[place]
    return ranks
