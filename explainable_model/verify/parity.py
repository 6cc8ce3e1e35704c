"""Whether an artifact answers as the network does, on fresh images."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from explainable_model.artifact.metadata import Metadata
from explainable_model.artifact.runner import Array, Runner
from explainable_model.artifact.tolerances import (
    AGREEMENTS,
    FLIP_CORRELATION,
    FLIP_SHARE,
    NOISE_FACTOR,
    Tolerance,
    tolerance_of,
)
from explainable_model.explanation import PREDICTED
from explainable_model.verify.network_answer import NetworkAnswer, answer_network, map_difference, measure_weight_noise
from explainable_model.verify.samples import example_like, fresh_input, tested_sizes

if TYPE_CHECKING:
    from torch import Tensor

    from explainable_model.lowering.lowered import LoweredModel
    from explainable_model.model import ExplainableModel

BATCHES = (1, 2, 7)
ZERO_MAPS = (
    "every map of the network is zero, on the example too, so that nothing could be compared; explain another layer, "
    "or keep what speaks against a class with signed=True"
)
OVERLAY_LEVELS = 1.0  # neighboring colors differ by a few levels, and rounding may choose the neighbor


@dataclass(frozen=True)
class Parity:
    """How an artifact's answers compare with the network's.

    Attributes:
        images: number of compared images.
        batches: the batch sizes.
        logits: largest difference of the logits, in units of the largest logit.
        cam: largest difference of a map, in units of its largest value.
        correlation: smallest correlation of two maps.
        flipped: number of images whose map differs by more than rounding and still correlates, as where the gradient
            of a ReLU flips.
        classes: share of images whose predicted class agrees; a tie agrees.
        passed: whether every difference is within the tolerance.
        reason: the first difference that is not, else empty.
    """

    images: int
    batches: list[int]
    logits: float
    cam: float
    correlation: float
    flipped: int
    classes: float
    passed: bool
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON stores it."""
        return asdict(self)


@dataclass(frozen=True)
class ImageComparison:
    """How the artifact's answer to one image differs from the network's, see ``Parity``.

    Attributes:
        logits, cam, correlation, flipped, reason: as of ``Parity``, of this image.
        same_class: whether the predicted class agrees.
        zero: whether the network's map is zero.
    """

    logits: float
    cam: float
    correlation: float
    same_class: bool
    flipped: bool
    zero: bool
    reason: str


def check_parity(
    explainable: "ExplainableModel | LoweredModel", lowered: "LoweredModel", metadata: Metadata, runner: Runner
) -> Parity:
    """Compare an artifact with the network on new images.

    The batch sizes are 1, 2 and 7 where the batch is open, and there are three image sizes where the size is open.

    Args:
        explainable: the network, or the graph, that the artifact must agree with.
        lowered: the graph that the artifact was made from; the new images are like its example.
        metadata: the artifact's metadata.
        runner: the artifact in its runtime.
    """
    sizes = tested_sizes(lowered)
    batches = list(BATCHES) if metadata.batch is None else [metadata.batch] * len(sizes)
    precision = metadata.precision if metadata.precision in AGREEMENTS else lowered.precision
    tolerance = tolerance_of(precision, metadata.format, photos=lowered.photo_io is not None)
    rows: list[ImageComparison] = []
    for seed, batch in enumerate(batches):
        size = sizes[seed % len(sizes)]
        image = example_like(lowered, batch, seed, size)
        inputs = [fresh_input(example, batch, seed) for example in lowered.example_inputs]
        rows += _compare_images(explainable, lowered, metadata.classes, image, inputs, runner, tolerance)
    if all(row.zero for row in rows):  # the example has a map, where the network is of any use
        example = lowered.example, lowered.example_inputs
        rows += _compare_images(explainable, lowered, metadata.classes, *example, runner, tolerance)
    return summarize(rows, batches)


def _compare_images(
    explainable: "ExplainableModel | LoweredModel",
    lowered: "LoweredModel",
    classes: int,
    image: "Tensor",
    inputs: "Sequence[Tensor]",
    runner: Runner,
    tolerance: Tolerance,
) -> "list[ImageComparison]":
    """Compare one batch; where a map differs, allow for the rounding of the network's weights as well."""
    expected = answer_network(explainable, classes, image, inputs, tolerance, lowered.photo_io)
    rows = list(_compare_batch(expected, runner, tolerance))
    if not any(row.flipped for row in rows):
        return rows
    prepared = image if lowered.photo_io is None else lowered.photo_io.image(image)
    noise = measure_weight_noise(explainable, prepared, expected, inputs, tolerance)
    return list(_compare_batch(replace(expected, noise=np.maximum(expected.noise, noise)), runner, tolerance))


def summarize(rows: Sequence[ImageComparison], batches: list[int], nothing: str = ZERO_MAPS) -> Parity:
    """The comparisons of all images as one record; ``nothing`` is the reason where every map is zero."""
    reason = next((row.reason for row in rows if row.reason), "")
    if not reason and all(row.zero for row in rows):
        reason = nothing
    flipped = [row for row in rows if row.flipped]
    if not reason and len(flipped) > FLIP_SHARE * len(rows):
        largest = max(row.cam for row in flipped)
        reason = f"the map differs by {largest:.1e} or less, in {len(flipped)} of {len(rows)} images"
    return Parity(
        images=len(rows),
        batches=batches,
        logits=max(row.logits for row in rows),
        cam=max(row.cam for row in rows),
        correlation=min(row.correlation for row in rows),
        flipped=len(flipped),
        classes=sum(row.same_class for row in rows) / len(rows),
        passed=not reason,
        reason=reason,
    )


def _compare_batch(expected: NetworkAnswer, runner: Runner, tolerance: Tolerance) -> Iterator[ImageComparison]:
    batch = len(expected.image)
    predicted = runner(expected.image, np.full_like(expected.class_idx, PREDICTED), *expected.inputs)[1]
    logits, class_idx, cam, *drawn = runner(expected.image, expected.class_idx, *expected.inputs)
    problem = _find_invalid("logits", logits, expected.logits) or _find_invalid("cam", cam, expected.cam)
    if problem:
        yield ImageComparison(np.inf, np.inf, 0.0, False, False, False, f"{problem} at batch {batch}")
        return
    for n in range(batch):
        off_logits = _logits_difference(logits[n], expected.logits[n])
        off_cam, similarity = map_difference(cam[n], expected.cam[n]), correlation(cam[n], expected.cam[n])
        allowed = max(tolerance.cam, NOISE_FACTOR * float(expected.noise[n]))
        same = np.array_equal(class_idx[n], expected.class_idx[n]) and all(
            _same_prediction(int(got), int(want), expected.logits[n], tolerance)
            for got, want in zip(np.ravel(predicted[n]), np.ravel(expected.predicted[n]), strict=True)
        )
        reason = ""
        if off_logits > tolerance.logits:
            reason = f"logits differ by {off_logits:.1e} of the largest, allowed {tolerance.logits:.0e}"
        elif off_cam > allowed and similarity < FLIP_CORRELATION:
            reason = f"the map differs by {off_cam:.1e}, allowed {allowed:.0e}, correlation {similarity:.4f}"
        elif not same:
            reason = f"class {predicted[n]} instead of {expected.predicted[n]}"
        elif expected.overlay is not None:
            reason = _find_overlay_difference(drawn[0][n], expected.overlay[n])
        where = f" (image {n} of a batch of {batch})" if reason else ""
        zero = not expected.cam[n].any()
        yield ImageComparison(off_logits, off_cam, similarity, same, off_cam > allowed, zero, reason + where)


def _find_invalid(name: str, got: Array, want: Array) -> str:
    if got.shape != want.shape:
        return f"{name} has shape {got.shape} instead of {want.shape}"
    return "" if np.isfinite(got).all() else f"{name} is not finite"


def _find_overlay_difference(overlay: Array, want: Array) -> str:
    same_shape = overlay.shape == want.shape
    levels = float(np.abs(overlay.astype(np.float64) - want).mean()) if same_shape else np.inf
    return f"the overlay differs by {levels:.1f} levels on average" if levels > OVERLAY_LEVELS else ""


def _logits_difference(logits: Array, want: Array) -> float:
    """Largest difference in units of the largest logit."""
    return float(np.abs(logits - want).max() / max(np.abs(want).max(), 1e-12))


def _same_prediction(got: int, want: int, logits: Array, tolerance: Tolerance) -> bool:
    """Whether the classes are equal, or their logits tie within the tolerance."""
    if got == want or logits.ndim != 1 or max(got, want) >= len(logits):
        return got == want
    return bool(abs(logits[got] - logits[want]) <= 2 * tolerance.logits * np.abs(logits).max())


def correlation(a: Array, b: Array) -> float:
    """Pearson's correlation of two maps; a constant map correlates with an equal map only."""
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    x, y = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((x * x).sum() * (y * y).sum()))
    if norm > 0:
        return float((x * y).sum() / norm)
    return 1.0 if np.array_equal(a, b) else 0.0
