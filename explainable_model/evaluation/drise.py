"""D-RISE: maps of a detector's boxes from its answers to masked copies of an image, without gradients."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from explainable_model.errors import InputError
from explainable_model.explanation import Progress
from explainable_model.progress import ProgressLike, as_progress

Floats: TypeAlias = NDArray[np.float64]
Image: TypeAlias = NDArray[np.float32]

MASKS = 1000
GRID = 16
PROBABILITY = 0.5
CHUNK = 16  # images that exist at once


class Detected(NamedTuple):
    """The boxes that a detector found in one image.

    Attributes:
        boxes: ``(m, 4)``: left, top, right, bottom in pixels.
        scores: ``(m,)``, 0 to 1.
        labels: ``(m,)`` classes; or ``(m, C)`` with the probability of each class.
    """

    boxes: ArrayLike
    scores: ArrayLike
    labels: ArrayLike


Detect: TypeAlias = Callable[[Image], Sequence[Detected]]
"""``(N, C, H, W)`` to what was found in each of the N images."""


def drise(
    detect: Detect,
    image: Image,
    boxes: ArrayLike,
    labels: ArrayLike,
    *,
    masks: int = MASKS,
    grid: int = GRID,
    probability: float = PROBABILITY,
    baseline: float = 0.0,
    seed: int = 0,
    normalize: bool = True,
    progress: ProgressLike = None,
) -> Floats:
    """Explain boxes by the answers of the detector to masked copies of the image.

    ``map_t = sum_i w_ti M_i / (N p)`` with the weight ``w_ti = max_j IoU(b_t, b_j) cos(P_t, P_j) s_j`` over the boxes
    ``j`` that are found in the image under mask ``M_i``. The vectors ``P`` are the classes, one-hot or as
    probabilities. It runs the detector ``masks`` times, and serves as the reference for maps of gradients.

    Args:
        detect: see ``Detect``.
        image: ``(C, H, W)`` float32.
        boxes: ``(k, 4)`` of the boxes to explain: left, top, right, bottom in pixels of the image.
        labels: ``(k,)`` their classes, or ``(k, C)`` the probability of each class, as ``detect`` returns them.
        masks: how many copies are made.
        grid: cells of a mask in each direction.
        probability: of a cell to be visible, above 0 and below 1.
        baseline: value of a hidden pixel.
        seed: of the masks.
        normalize: whether each map is scaled to [0, 1] by its smallest and its largest value.
        progress: ``True`` for a bar, or a function that is called with (``"copies"``, masks done, masks in all).

    Returns:
        ``(k, H, W)``; a map is zero where no copy had a box that is like its own.

    Raises:
        InputError: an image, boxes, labels or an option outside of these ranges.

    Source: D-RISE, Petsiuk et al. 2021, arXiv 2006.03204, equations 1 to 4; the masks are those of RISE, Petsiuk et al.
    2018, arXiv 1806.07421.
    """
    wanted, classes = _check(image, boxes, labels, masks, grid, probability)
    report: Progress | None = as_progress(progress)
    total = np.zeros((len(wanted), *image.shape[1:]))
    done = 0
    for chunk in iterate_masks(image.shape[1:], masks, grid=grid, probability=probability, seed=seed):
        copies = image * chunk[:, None] + np.float32(baseline) * (1 - chunk[:, None])
        found = detect(copies.astype(np.float32))
        if len(found) != len(chunk):
            raise InputError(f"detect returned {len(found)} answers to {len(chunk)} images; expected one for each.")
        weights = np.stack([compute_similarity(wanted, classes, each) for each in found])
        total += np.einsum("it,ihw->thw", weights, chunk)
        done += len(chunk)
        if report is not None:
            report("copies", done, masks)
    maps = total / (masks * probability)
    return _scale(maps) if normalize else maps


def iterate_masks(
    size: Sequence[int], count: int, *, grid: int = GRID, probability: float = PROBABILITY, seed: int = 0
) -> Iterator[Image]:
    """Draw masks in chunks: cells that are visible with a probability, enlarged bilinearly and shifted at random.

    Args:
        size: ``(H, W)``.
        count: how many masks there are in all.
        grid, probability, seed: as of ``drise``.

    Returns:
        Arrays ``(n, H, W)`` in [0, 1]; 1 is visible.

    Source: RISE, Petsiuk et al. 2018, arXiv 1806.07421, section 3.3.
    """
    random = np.random.default_rng(seed)
    cells = [-(-length // grid) for length in size]
    for start in range(0, count, CHUNK):
        chunk = []
        for _ in range(min(CHUNK, count - start)):
            visible = random.random((grid, grid)) < probability
            row, column = (int(random.integers(0, cell)) for cell in cells)
            chunk.append(enlarge(visible, cells)[row : row + size[0], column : column + size[1]])
        yield np.stack(chunk)


def enlarge(visible: NDArray[Any], cells: Sequence[int]) -> Image:
    """Enlarge ``(g, g)`` cells bilinearly to ``((g + 1) height, (g + 1) width)`` of a cell."""
    from PIL import Image as Pillow

    rows, columns = (cell * (len(visible) + 1) for cell in cells)
    picture = Pillow.fromarray(visible.astype(np.float32)).resize((columns, rows), Pillow.Resampling.BILINEAR)
    return np.asarray(picture, np.float32)


def compute_similarity(boxes: Floats, classes: Floats, found: Detected) -> Floats:
    """Compute how well the box that is most like each wanted one was found: ``max_j IoU cos(P_t, P_j) s_j``.

    Args:
        boxes: ``(k, 4)``.
        classes: ``(k,)`` classes or ``(k, C)`` probabilities.
        found: in one image.

    Returns:
        ``(k,)``, 0 to 1; 0 where nothing was found.

    Example:
        >>> found = Detected([[0, 0, 10, 5]], [0.8], [3])
        >>> compute_similarity(np.array([[0.0, 0, 10, 10], [0, 0, 10, 10]]), np.array([3.0, 2.0]), found)
        array([0.4, 0. ])

    Raises:
        InputError: classes on one side and probabilities on the other.
    """
    others, scores, labels = (np.asarray(part, np.float64) for part in found)
    if not len(others):
        return np.zeros(len(boxes))
    if labels.shape[1:] != classes.shape[1:]:
        form = "(m,), a class" if classes.ndim == 1 else f"(m, {classes.shape[1]}), probabilities"
        raise InputError(f"detect returned labels of shape {labels.shape}; expected {form} as of the boxes to explain.")
    alike = intersection_over_union(boxes, others)
    if classes.ndim == 1:
        alike *= classes[:, None] == labels[None]
    else:
        lengths = np.linalg.norm(classes, axis=1)[:, None] * np.linalg.norm(labels, axis=1)[None]
        alike *= classes @ labels.T / np.maximum(lengths, np.finfo(np.float64).tiny)
    best: Floats = (alike * scores[None]).max(1)
    return best


def intersection_over_union(boxes: Floats, others: Floats) -> Floats:
    """Compute the share of the union of two boxes that both cover.

    Args:
        boxes: ``(k, 4)``.
        others: ``(m, 4)``.

    Returns:
        ``(k, m)``; 0 for two boxes without an area.
    """
    lower, upper = (
        np.maximum(boxes[:, None, :2], others[None, :, :2]),
        np.minimum(boxes[:, None, 2:], others[None, :, 2:]),
    )
    shared = (upper - lower).clip(0).prod(2)
    areas = [(each[:, 2:] - each[:, :2]).clip(0).prod(1) for each in (boxes, others)]
    union = areas[0][:, None] + areas[1][None] - shared
    ratio: Floats = np.where(union > 0, shared / np.where(union > 0, union, 1), 0)
    return ratio


def _scale(maps: Floats) -> Floats:
    """Scale each map to [0, 1] by its own range; a constant map becomes zero."""
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    spread = high - low
    scaled: Floats = np.where(spread > 0, (maps - low) / np.where(spread > 0, spread, 1), 0)
    return scaled


def _check(
    image: Any, boxes: ArrayLike, labels: ArrayLike, masks: int, grid: int, probability: float
) -> tuple[Floats, Floats]:
    wanted, classes = np.asarray(boxes, np.float64), np.asarray(labels, np.float64)
    if not isinstance(image, np.ndarray) or image.ndim != 3:
        raise InputError(f"image has shape {np.shape(image)}; expected (C, H, W) of NumPy, one prepared image.")
    if wanted.ndim != 2 or wanted.shape[1] != 4:
        raise InputError(f"boxes has shape {wanted.shape}; expected (k, 4): left, top, right, bottom.")
    if classes.ndim not in (1, 2) or len(classes) != len(wanted):
        raise InputError(f"labels has shape {classes.shape}; expected ({len(wanted)},), a class for each box.")
    if masks < 1 or not 0 < probability < 1:
        raise InputError(f"masks is {masks} and probability {probability}; expected 1 or more, and between 0 and 1.")
    if not 1 <= grid <= min(image.shape[1:]):
        raise InputError(f"grid is {grid}; expected 1 to {min(image.shape[1:])}, the shorter side of the image.")
    return wanted, classes
