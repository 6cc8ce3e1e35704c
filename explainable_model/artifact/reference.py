"""The answer to a fixed image: an artifact carries it, so that any device can check its own answer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.artifact.answer import Reference
from explainable_model.artifact.coarse_photo import CoarsePhoto, expand_coarse
from explainable_model.artifact.metadata import Metadata
from explainable_model.artifact.runner import Array, Runner
from explainable_model.artifact.shapes import PIXEL_DTYPES, array_dtype, spatial
from explainable_model.artifact.tolerances import DEVICE_FACTOR, Tolerance, tolerance_of
from explainable_model.explanation import PREDICTED

REFERENCE_BATCH = 2
REFERENCE_GRID = 8
REFERENCE_LOGITS = 16


def reference_array(shape: Sequence[int | None], dtype: str, batch: int) -> Array:
    """The fixed image, or a fixed extra input.

    Args:
        shape: shape of the input, the batch first.
        dtype: dtype of the input.
        batch: how many images to make.

    Returns:
        ``sin(i + n)`` for element i of image n; for photos, the same waves from 0 to 255 (uint8) or 65535 (uint16).
    """
    one = [int(n) for n in shape[1:] if n is not None]
    index = np.arange(int(np.prod(one)), dtype=np.float64).reshape(one)
    waves = np.stack([np.sin(index + n) for n in range(batch)])
    if dtype in PIXEL_DTYPES:
        middle = np.iinfo(dtype).max / 2
        return np.round(middle + middle * waves).astype(dtype)
    return waves.astype(array_dtype(dtype))


def reference_arrays(metadata: Metadata) -> list[Array]:
    """The fixed image and the fixed extra inputs of an artifact."""
    batch = metadata.batch or REFERENCE_BATCH
    photo = metadata.reference.photo if metadata.reference is not None else None
    image = (
        reference_array([None, *metadata.example_shape], metadata.image_dtype, batch)
        if photo is None
        else expand_coarse(photo, metadata.example_shape, metadata.image_dtype, batch, metadata.pixels)
    )
    recorded = metadata.reference.inputs if metadata.reference is not None else None
    inputs = [
        reference_array(extra["shape"], extra["dtype"], batch)
        if values is None
        else np.asarray(values, array_dtype(extra["dtype"]))
        for extra, values in zip(metadata.extra_inputs, recorded or [None] * len(metadata.extra_inputs), strict=True)
    ]
    return [image, *inputs]


def record_reference(metadata: Metadata, runner: Runner, precision: str) -> Reference:
    """Record the artifact's own answer: in less precision it differs from the network's."""
    image, *inputs = reference_arrays(metadata)
    shape = [len(image), *(int(n or 1) for n in metadata.class_idx_shape[1:])]
    logits, class_idx, cam = runner(image, np.full(shape, PREDICTED, np.int64), *inputs)[:3]
    size = spatial(image.shape, metadata.pixels)
    return make_reference(logits, class_idx, cam, tolerance_of(precision), size)


def make_reference(
    logits: Array,
    class_idx: Array,
    cam: Array,
    tolerance: Tolerance,
    size: Sequence[int],
    inputs: list[Any] | None = None,
) -> Reference:
    """Reduce an answer to the fixed image to what the metadata stores.

    Args:
        logits: ``(N, ...)``.
        class_idx: ``(N,)`` or ``(N, k)``, the explained classes.
        cam: ``(N, ...)``, their maps.
        tolerance: how much the same kernels may differ; a device may differ ten times as much.
        size: spatial size of the image.
        inputs: values of the extra inputs, see ``Reference``.
    """
    return Reference(
        class_idx=class_idx.tolist(),
        logits=_sample_logits(logits),
        cam=_reduce_maps(cam.astype(np.float64)),
        logits_tolerance=DEVICE_FACTOR * tolerance.logits,
        cam_tolerance=DEVICE_FACTOR * tolerance.cam,
        size=list(size),
        inputs=inputs,
    )


def check_reference(metadata: Metadata, runner: Runner) -> str:
    """Run the fixed image and compare the answer with the recorded one.

    Returns:
        An empty string where both agree, else the difference.
    """
    reference = metadata.reference
    if reference is None:
        return "the artifact has no recorded answer to compare with"
    image, *inputs = reference_arrays(metadata)
    asked, name = np.asarray(reference.class_idx, np.int64), "logits"
    if metadata.detection is not None:
        ranks = np.full([len(image), *(int(n or 1) for n in metadata.class_idx_shape[1:])], PREDICTED, np.int64)
        boxes, scores, labels, _, cam = runner(image, ranks, *inputs)
        if not np.array_equal(labels.reshape(len(image), -1), asked):
            return f"it finds boxes of the classes {labels.tolist()} instead of {asked.tolist()}"
        sampled, name = sample_boxes(boxes, scores, spatial(image.shape, metadata.pixels)), "boxes and scores"
    else:
        logits, _, cam, *_ = runner(image, asked, *inputs)
        sampled = _sample_logits(logits)
    recorded, recorded_cam = np.asarray(reference.logits), np.asarray(reference.cam)
    off_logits = float(np.abs(np.asarray(sampled) - recorded).max())
    off_logits /= max(1.0, float(np.abs(recorded).max()))
    off_cam = float(np.abs(np.asarray(_reduce_maps(cam.astype(np.float64))) - recorded_cam).max())
    if not off_logits <= reference.logits_tolerance:
        return f"{name} differ by {off_logits:.1e}, allowed {reference.logits_tolerance:.0e}"
    if not off_cam <= reference.cam_tolerance * max(1.0, float(np.abs(recorded_cam).max())):
        return f"the map differs by {off_cam:.1e}, allowed {reference.cam_tolerance:.0e}"
    return ""


def make_box_reference(
    outputs: Sequence[Array], tolerance: Tolerance, size: Sequence[int], photo: CoarsePhoto | None
) -> Reference:
    """Reduce a detector's answer to a fixed image to what the metadata stores.

    Args:
        outputs: boxes, scores, labels, valid and maps.
        tolerance: how much the same kernels may differ.
        size: height and width of the image.
        photo: the image, ``None`` for waves.
    """
    boxes, scores, labels, _, cam = outputs
    return Reference(
        class_idx=labels.reshape(len(labels), -1).tolist(),
        logits=sample_boxes(boxes, scores, size),
        cam=_reduce_maps(cam.astype(np.float64)),
        logits_tolerance=DEVICE_FACTOR * tolerance.logits,
        cam_tolerance=DEVICE_FACTOR * tolerance.cam,
        size=list(size),
        photo=photo,
    )


def sample_boxes(boxes: Array, scores: Array, size: Sequence[int]) -> list[list[float]]:
    """Five values for each box of an image: its edges as shares of the image's size ``(H, W)``, and its score."""
    shares = boxes.astype(np.float64) / np.asarray([size[1], size[0]] * 2)
    rows = np.concatenate([shares, scores.astype(np.float64)[..., None]], -1)
    return [[float(value) for value in row] for row in rows.reshape(len(boxes), -1)]


def _sample_logits(logits: Array) -> list[list[float]]:
    """Up to 16 values of each image's logits, at equal distances."""
    flat = logits.reshape(len(logits), -1)
    positions = np.unique(np.linspace(0, flat.shape[1] - 1, min(flat.shape[1], REFERENCE_LOGITS)).round().astype(int))
    return [[float(value) for value in row] for row in flat[:, positions]]


def _reduce_maps(cam: NDArray[np.float64]) -> list[list[float]]:
    """The maps of each image, reduced by ``_reduce_map``."""
    return [_reduce_map(maps) for maps in cam]


def _reduce_map(cam: NDArray[np.float64]) -> list[float]:
    """The mean of every cell of an 8 x 8 grid, or of fewer cells where the map is smaller."""
    for axis in range(cam.ndim):
        length = cam.shape[axis]
        edges = np.unique(np.linspace(0, length, min(length, REFERENCE_GRID) + 1).round().astype(int))
        sums = np.add.reduceat(cam, edges[:-1], axis=axis)
        shape = [-1 if a == axis else 1 for a in range(cam.ndim)]
        cam = sums / np.diff(edges).reshape(shape)
    return [float(value) for value in cam.ravel()]
