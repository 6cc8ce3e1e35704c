"""Whether an artifact answers as the network does, on fresh images."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.artifact.metadata import Metadata
from explainable_model.artifact.runner import Array, Runner, as_array
from explainable_model.artifact.tolerances import (
    AGREEMENTS,
    FLIP_CORRELATION,
    FLIP_SHARE,
    NOISE_FACTOR,
    NOISE_SAMPLES,
    Tolerance,
    tolerance_of,
)
from explainable_model.errors import VerificationError
from explainable_model.explanation import PREDICTED
from explainable_model.verify.samples import example_like, fresh_images, tested_sizes

if TYPE_CHECKING:
    from torch import Tensor

    from explainable_model.explanation import Explanation
    from explainable_model.lowering.imaging import PhotoIO
    from explainable_model.lowering.lowered import LoweredModel
    from explainable_model.model import ExplainableModel

BATCHES = (1, 2, 7)
OTHER_CLASSES = 3
OVERLAY_LEVELS = 1.0  # neighbours in a colormap differ by a few levels, and a map that is a little off takes one


@dataclass(frozen=True)
class Parity:
    """How an artifact compares with the network.

    Attributes:
        images: how many were compared.
        batches: the batch sizes.
        logits: largest difference, in units of the largest logit.
        cam: largest difference of a map.
        correlation: smallest correlation of two maps.
        flipped: images whose map is the same picture, but for a ReLU's gradient that flipped.
        classes: share of images whose predicted class agrees (ties excepted).
        passed: whether all is within the tolerance.
        reason: what is not, else empty.
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
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Expected:
    """One batch: what goes in, what the network answers, and how exact each of its maps is."""

    image: Array
    inputs: list[Array]
    logits: Array
    predicted: NDArray[np.int64]
    class_idx: NDArray[np.int64]
    cam: Array
    noise: NDArray[np.float64]
    overlay: Array | None = None


def check_parity(
    explainable: "ExplainableModel | LoweredModel", lowered: "LoweredModel", metadata: Metadata, runner: Runner
) -> Parity:
    """Compare on fresh images: not the example, at batch sizes 1, 2 and 7 where the batch is open, and of
    three sizes where the size is.

    Args:
        explainable: what the artifact must agree with.
        lowered: the graph it was made from, for its example.
        metadata: the artifact's.
        runner: the artifact in its runtime.
    """
    sizes = tested_sizes(lowered)
    batches = list(BATCHES) if metadata.batch is None else [metadata.batch] * len(sizes)
    precision = metadata.precision if metadata.precision in AGREEMENTS else lowered.precision
    tolerance = tolerance_of(precision, metadata.format, photos=lowered.photo_io is not None)
    rows = []
    for seed, batch in enumerate(batches):
        size = sizes[seed % len(sizes)]
        image = example_like(lowered, batch, seed, size)
        inputs = [fresh_images(each, batch, seed) for each in lowered.example_inputs]
        expected = _expected(explainable, metadata.classes, image, inputs, tolerance, lowered.photo_io)
        rows += list(_compare(expected, runner, tolerance))
    reasons = [row.reason for row in rows if row.reason]
    flipped = [row for row in rows if row.flipped]
    if not reasons and len(flipped) > FLIP_SHARE * len(rows):
        worst = max(flipped, key=lambda row: row.cam)
        reasons = [f"the map differs by {worst.cam:.1e} or less, in {len(flipped)} of {len(rows)} images"]
    return Parity(
        images=len(rows),
        batches=batches,
        logits=max(row.logits for row in rows),
        cam=max(row.cam for row in rows),
        correlation=min(row.correlation for row in rows),
        flipped=len(flipped),
        classes=sum(row.same_class for row in rows) / len(rows),
        passed=not reasons,
        reason=reasons[0] if reasons else "",
    )


def require_parity(
    explainable: "ExplainableModel | LoweredModel", lowered: "LoweredModel", metadata: Metadata, runner: Runner
) -> Parity:
    """``check_parity``, and an error where it fails.

    Raises:
        VerificationError: what differs, and by how much.
    """
    parity = check_parity(explainable, lowered, metadata, runner)
    if not parity.passed:
        raise VerificationError(
            f"The {metadata.format} artifact of {metadata.model} at {metadata.target_layer!r} disagrees with the "
            f"network: {parity.reason}. Nothing was written."
        )
    return parity


@dataclass(frozen=True)
class _Row:
    logits: float
    cam: float
    correlation: float
    same_class: bool
    flipped: bool
    reason: str


def _compare(expected: _Expected, runner: Runner, tolerance: Tolerance) -> Iterator[_Row]:
    batch = len(expected.image)
    predicted = runner(expected.image, np.full_like(expected.class_idx, PREDICTED), *expected.inputs)[1]
    logits, class_idx, cam, *drawn = runner(expected.image, expected.class_idx, *expected.inputs)
    for name, got, want in (("logits", logits, expected.logits), ("cam", cam, expected.cam)):
        if got.shape != want.shape or not np.isfinite(got).all():
            problem = (
                f"{name} has shape {got.shape} instead of {want.shape}"
                if got.shape != want.shape
                else (f"{name} is not finite")
            )
            yield _Row(np.inf, np.inf, 0.0, False, False, f"{problem} at batch {batch}")
            return
    for n in range(batch):
        off_logits = float(np.abs(logits[n] - expected.logits[n]).max() / max(np.abs(expected.logits[n]).max(), 1e-12))
        off_cam, alike = _map_difference(cam[n], expected.cam[n]), correlation(cam[n], expected.cam[n])
        allowed = max(tolerance.cam, NOISE_FACTOR * float(expected.noise[n]))
        same = np.array_equal(class_idx[n], expected.class_idx[n]) and all(
            _same_prediction(int(got), int(want), expected.logits[n], tolerance)
            for got, want in zip(np.ravel(predicted[n]), np.ravel(expected.predicted[n]), strict=True)
        )
        reason = ""
        if off_logits > tolerance.logits:
            reason = f"logits differ by {off_logits:.1e} of the largest, allowed {tolerance.logits:.0e}"
        elif off_cam > allowed and alike < FLIP_CORRELATION:
            reason = f"the map differs by {off_cam:.1e}, allowed {allowed:.0e}, correlation {alike:.4f}"
        elif not same:
            reason = f"class {predicted[n]} instead of {expected.predicted[n]}"
        elif expected.overlay is not None and _levels(drawn[0][n], expected.overlay[n]) > OVERLAY_LEVELS:
            reason = f"the overlay differs by {_levels(drawn[0][n], expected.overlay[n]):.1f} levels on average"
        where = f" (image {n} of a batch of {batch})" if reason else ""
        yield _Row(off_logits, off_cam, alike, same, off_cam > allowed, reason + where)


def _levels(overlay: Array, want: Array) -> float:
    """How many of 255 levels two pictures differ on average."""
    return float(np.abs(overlay.astype(np.float64) - want).mean()) if overlay.shape == want.shape else np.inf


def _map_difference(cam: Array, want: Array) -> float:
    """Largest difference in units of the map's largest value, whether that is normalised or 1e-9."""
    return float(np.abs(cam.astype(np.float64) - want).max() / (float(np.abs(want).max()) or 1.0))


def _same_prediction(got: int, want: int, logits: Array, tolerance: Tolerance) -> bool:
    """Equal, or a tie within the tolerance."""
    if got == want or logits.ndim != 1 or max(got, want) >= len(logits):
        return got == want
    return bool(abs(logits[got] - logits[want]) <= 2 * tolerance.logits * np.abs(logits).max())


def correlation(a: Array, b: Array) -> float:
    """Pearson's, of two maps; a constant map correlates with an equal one only."""
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    if norm > 0:
        return float((a * b).sum() / norm)
    return 1.0 if np.array_equal(a, b) else 0.0


def _expected(
    explainable: "ExplainableModel | LoweredModel",
    classes: int,
    image: "Tensor",
    inputs: "Sequence[Tensor]",
    tolerance: Tolerance,
    photo_io: "PhotoIO | None" = None,
) -> _Expected:
    import torch

    given, image = image, image if photo_io is None else photo_io.image(image)
    logits, predicted, cam = _asked(explainable, image, None, *inputs)
    class_idx = predicted
    for _ in range(OTHER_CLASSES):  # a map of zeros proves nothing: ask for another class there
        zero = cam.flatten(1).abs().amax(1) == 0
        if classes == 1 or not bool(zero.any()):
            break
        class_idx = torch.where(zero.reshape(-1, *[1] * (class_idx.ndim - 1)), (class_idx + 1) % classes, class_idx)
        cam = _asked(explainable, image, class_idx, *inputs).cam
    noise = np.zeros(len(image))
    generator = torch.Generator().manual_seed(0)
    for _ in range(NOISE_SAMPLES):
        rounding = 1 + tolerance.rounding * torch.randn(image.shape, generator=generator).to(image)
        nearby = _asked(explainable, image * rounding, class_idx, *inputs).cam
        differences = [_map_difference(as_array(a), as_array(b)) for a, b in zip(nearby, cam, strict=True)]
        noise = np.maximum(noise, differences)
    if photo_io is not None:
        cam = photo_io.maps(cam, given)
    return _Expected(
        as_array(given),
        [as_array(each) for each in inputs],
        as_array(logits),
        predicted.cpu().numpy(),
        class_idx.cpu().numpy(),
        as_array(cam),
        noise,
        None if photo_io is None or photo_io.look is None else as_array(photo_io.overlay(cam, given)),
    )


def _asked(
    explainable: "ExplainableModel | LoweredModel", image: "Tensor", class_idx: "Tensor | None", *inputs: "Tensor"
) -> "Explanation[Tensor]":
    """One call, whatever the network writes to its buffers or its image."""
    from explainable_model.eager.buffers import restored_buffers
    from explainable_model.model import ExplainableModel

    if not isinstance(explainable, ExplainableModel):
        return explainable(image, class_idx, *inputs)  # type: ignore[no-any-return]
    with restored_buffers(explainable.model):
        return explainable(image.clone(), class_idx, *inputs)  # type: ignore[no-any-return]


# The answer to a fixed image
