"""Artifact against network: the tolerances, the comparison, and the answer to a fixed image."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.errors import VerificationError
from explainable_model.exporters.format import Array, Runner
from explainable_model.metadata import Metadata, Reference

if TYPE_CHECKING:
    from torch import Tensor

    from explainable_model.lowering import LoweredModel
    from explainable_model.model import ExplainableModel

BATCHES = (1, 2, 7)
REFERENCE_BATCH = 2
REFERENCE_GRID = 8


@dataclass(frozen=True)
class Tolerance:
    """How much two runtimes may differ.

    Attributes:
        logits: largest difference, in units of the largest logit.
        cam: largest difference of a map, in units of its range.
        rounding: unit of rounding of the dtype; scales the allowance for badly conditioned maps.
    """

    logits: float
    cam: float
    rounding: float


TOLERANCES: Mapping[str, Tolerance] = {
    "float64": Tolerance(logits=1e-10, cam=1e-9, rounding=2.3e-16),
    "float32": Tolerance(logits=1e-4, cam=1e-4, rounding=1.2e-7),
    "float16": Tolerance(logits=2e-2, cam=5e-2, rounding=9.8e-4),
    "bfloat16": Tolerance(logits=1e-1, cam=2e-1, rounding=7.9e-3),
}
"""By dtype. Every tolerance of the library and its tests is here."""

# Where a ReLU before the layer flips at an activation near zero, a few pixels differ by more; such a
# map passes if nearly all of it is within the tolerance and it is the same picture.
FLIP_QUANTILE = 0.99
FLIP_CORRELATION = 0.999

# A map is a sum of terms of both signs; where they nearly cancel, or the map is nearly constant, its
# range is small against the terms and normalising it magnifies their rounding. The allowance is this
# many roundings of the terms, in units of the range.
CONDITION_FACTOR = 64.0


@dataclass(frozen=True)
class Parity:
    """How an artifact compares with the network.

    Attributes:
        images: how many were compared.
        batches: the batch sizes.
        logits: largest difference, in units of the largest logit.
        cam: largest difference of a map.
        cam_quantile: its 99 % quantile.
        correlation: smallest correlation of two maps.
        classes: share of images whose predicted class agrees (ties excepted).
        passed: whether all is within the tolerance.
        reason: what is not, else empty.
    """

    images: int
    batches: list[int]
    logits: float
    cam: float
    cam_quantile: float
    correlation: float
    classes: float
    passed: bool
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Expected:
    """One batch: what goes in, what the network answers, and how exact its maps can be."""

    image: Array
    logits: Array
    class_idx: NDArray[np.int64]
    cam: Array
    condition: NDArray[np.float64]


def check_parity(
    explainable: "ExplainableModel | LoweredModel", lowered: "LoweredModel", metadata: Metadata, runner: Runner
) -> Parity:
    """Compare on fresh images: not the example, and at batch sizes 1, 2 and 7 where the batch is open.

    Args:
        explainable: what the artifact must agree with.
        lowered: the graph it was made from, for its example.
        metadata: the artifact's.
        runner: the artifact in its runtime.
    """
    batches = list(BATCHES) if metadata.batch is None else [metadata.batch]
    tolerance = TOLERANCES[metadata.dtype]
    rows = []
    for seed, batch in enumerate(batches):
        expected = _expected(explainable, fresh_images(lowered.example, batch, seed))
        rows += list(_compare(expected, runner, tolerance))
    reasons = [row.reason for row in rows if row.reason]
    return Parity(
        images=len(rows),
        batches=batches,
        logits=max(row.logits for row in rows),
        cam=max(row.cam for row in rows),
        cam_quantile=max(row.quantile for row in rows),
        correlation=min(row.correlation for row in rows),
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
    quantile: float
    correlation: float
    same_class: bool
    reason: str


def _compare(expected: _Expected, runner: Runner, tolerance: Tolerance) -> Iterator[_Row]:
    batch = len(expected.image)
    _, predicted, _ = runner(expected.image, np.full(batch, -1, np.int64))
    logits, class_idx, cam = runner(expected.image, expected.class_idx)
    for name, got, want in (("logits", logits, expected.logits), ("cam", cam, expected.cam)):
        if got.shape != want.shape or not np.isfinite(got).all():
            problem = (
                f"{name} has shape {got.shape} instead of {want.shape}"
                if got.shape != want.shape
                else (f"{name} is not finite")
            )
            yield _Row(np.inf, np.inf, np.inf, 0.0, False, f"{problem} at batch {batch}")
            return
    for n in range(batch):
        row = _compare_one(logits[n], cam[n], expected.logits[n], expected.cam[n], expected.condition[n], tolerance)
        same = bool(class_idx[n] == expected.class_idx[n]) and _same_prediction(
            int(predicted[n]), int(expected.class_idx[n]), expected.logits[n], tolerance
        )
        reason = row.reason or ("" if same else f"class {predicted[n]} instead of {expected.class_idx[n]}")
        where = f" (image {n} of a batch of {batch})" if reason else ""
        yield _Row(row.logits, row.cam, row.quantile, row.correlation, same, reason + where)


def _compare_one(
    logits: Array, cam: Array, want_logits: Array, want_cam: Array, condition: float, tolerance: Tolerance
) -> _Row:
    off_logits = float(np.abs(logits - want_logits).max() / max(np.abs(want_logits).max(), 1e-12))
    span = max(float(np.ptp(want_cam)), 1.0 if want_cam.max() <= 1.0 else 1e-12)
    off = np.abs(cam.astype(np.float64) - want_cam).ravel() / span
    off_cam, quantile = float(off.max()), float(np.quantile(off, FLIP_QUANTILE))
    correlation = _correlation(cam, want_cam)
    allowed = max(tolerance.cam, CONDITION_FACTOR * tolerance.rounding * condition)
    reason = ""
    if off_logits > tolerance.logits:
        reason = f"logits differ by {off_logits:.1e} of the largest, allowed {tolerance.logits:.0e}"
    elif off_cam > allowed and not (quantile <= allowed and correlation >= FLIP_CORRELATION):
        reason = f"the map differs by {off_cam:.1e}, allowed {allowed:.0e}, correlation {correlation:.4f}"
    return _Row(off_logits, off_cam, quantile, correlation, True, reason)


def _same_prediction(got: int, want: int, logits: Array, tolerance: Tolerance) -> bool:
    """Equal, or a tie within the tolerance."""
    if got == want or logits.ndim != 1:
        return got == want
    return bool(abs(logits[got] - logits[want]) <= 2 * tolerance.logits * np.abs(logits).max())


def _correlation(a: Array, b: Array) -> float:
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / norm) if norm > 0 else 1.0


def _expected(explainable: "ExplainableModel | LoweredModel", image: "Tensor") -> _Expected:
    from explainable_model.model import ExplainableModel

    logits, class_idx, cam = explainable(image)
    condition = np.ones(len(image))
    if isinstance(explainable, ExplainableModel):
        condition = _condition(explainable, image, class_idx)
    return _Expected(_array(image), _array(logits), class_idx.cpu().numpy(), _array(cam), condition)


def _condition(explainable: "ExplainableModel", image: "Tensor", class_idx: "Tensor") -> NDArray[np.float64]:
    """Size of the terms that a map is summed from, in units of its range."""
    from explainable_model.methods import find_method

    parts = explainable.attribute(image, class_idx)
    method = find_method(explainable.method)
    cam = method(parts.activations.double(), parts.gradients.double()).flatten(1).clamp_min(0)
    terms = method(parts.activations.double().abs(), parts.gradients.double().abs()).flatten(1).amax(1)
    span = cam.amax(1) - cam.amin(1)
    condition: NDArray[np.float64] = (terms / span.clamp_min(1e-300)).cpu().numpy()
    return condition


def _array(tensor: "Tensor") -> Array:
    array: Array = tensor.detach().cpu().numpy()
    return array


def fresh_images(example: "Tensor", batch: int, seed: int) -> "Tensor":
    """Images like the example, and unlike it: flipped and shifted copies under noise of the same spread.

    Args:
        example: ``(N, C, *spatial)``.
        batch: how many to make.
        seed: of the noise.
    """
    import torch

    spread = float(example.float().std())
    spread = spread if spread > 0 else 1.0
    generator = torch.Generator().manual_seed(seed)
    images = []
    for n in range(batch):
        source = example[n % len(example)].cpu().flip(-1).roll(7 * (n + 1) + seed, -1)
        noise = torch.randn(source.shape, generator=generator, dtype=torch.float32) * spread
        images.append((0.5 * source.float() + noise).to(example.dtype))
    return torch.stack(images).to(example.device)


# The answer to a fixed image


def reference_image(metadata: Metadata) -> Array:
    """``sin(i + n)`` for element i of image n."""
    batch = metadata.batch or REFERENCE_BATCH
    shape = [int(n) for n in metadata.image_shape[1:] if n is not None]
    index = np.arange(int(np.prod(shape)), dtype=np.float64).reshape(shape)
    return np.stack([np.sin(index + n) for n in range(batch)]).astype(metadata.dtype)


def make_reference(lowered: "LoweredModel") -> Reference:
    """What the lowered model answers to the fixed image."""
    import torch

    example = lowered.example
    batch = REFERENCE_BATCH if lowered.dynamic_batch else len(example)
    index = torch.arange(example[0].numel(), dtype=torch.float64).reshape(example.shape[1:])
    image = torch.stack([torch.sin(index + n) for n in range(batch)]).to(example)
    with torch.no_grad():
        logits, class_idx, cam = lowered(image)
    dtype = str(example.dtype).removeprefix("torch.")
    return Reference(
        class_idx=[int(c) for c in class_idx],
        logits=_chosen(_array(logits.float()), class_idx.cpu().numpy()),
        cam=[_reduced(_array(m.double())) for m in cam],
        logits_tolerance=10 * TOLERANCES[dtype].logits,
        cam_tolerance=10 * TOLERANCES[dtype].cam,
    )


def check_reference(metadata: Metadata, runner: Runner) -> str:
    """Run the fixed image and compare with the recorded answer; what differs, or an empty string."""
    reference = metadata.reference
    if reference is None:
        return "the artifact has no recorded answer to compare with"
    wanted = np.asarray(reference.class_idx, np.int64)
    logits, _, cam = runner(reference_image(metadata), wanted)
    got = _chosen(logits, wanted)
    scale = max(1.0, max(abs(value) for value in reference.logits))
    off_logits = max(abs(a - b) for a, b in zip(got, reference.logits, strict=True)) / scale
    maps = [_reduced(m.astype(np.float64)) for m in cam]
    off_cam = float(np.abs(np.asarray(maps) - np.asarray(reference.cam)).max())
    if not off_logits <= reference.logits_tolerance:
        return f"logits differ by {off_logits:.1e}, allowed {reference.logits_tolerance:.0e}"
    if not off_cam <= reference.cam_tolerance * max(1.0, float(np.max(reference.cam))):
        return f"the map differs by {off_cam:.1e}, allowed {reference.cam_tolerance:.0e}"
    return ""


def _chosen(logits: Array, class_idx: NDArray[np.int64]) -> list[float]:
    scores = logits.reshape(len(logits), -1) if logits.ndim < 3 else logits.reshape(*logits.shape[:2], -1).sum(2)
    return [float(scores[n, c]) for n, c in enumerate(class_idx)]


def _reduced(cam: NDArray[np.float64]) -> list[float]:
    """Mean over an 8 x 8 grid of cells (fewer where the map is smaller)."""
    for axis in range(cam.ndim):
        length = cam.shape[axis]
        edges = np.unique(np.linspace(0, length, min(length, REFERENCE_GRID) + 1).round().astype(int))
        sums = np.add.reduceat(cam, edges[:-1], axis=axis)
        shape = [-1 if a == axis else 1 for a in range(cam.ndim)]
        cam = sums / np.diff(edges).reshape(shape)
    return [float(value) for value in cam.ravel()]
