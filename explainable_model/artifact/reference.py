"""The answer to a fixed image, which an artifact carries to check itself with."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from explainable_model.artifact.metadata import Metadata, Reference
from explainable_model.artifact.runner import Array, Runner
from explainable_model.artifact.shapes import array_dtype, spatial
from explainable_model.artifact.tolerances import DEVICE_FACTOR, Tolerance, tolerance_of
from explainable_model.explanation import PREDICTED

REFERENCE_BATCH = 2


REFERENCE_GRID = 8


REFERENCE_LOGITS = 16


def reference_array(shape: Sequence[int | None], dtype: str, batch: int) -> Array:
    """``sin(i + n)`` for element i of image n; of photos that, from 0 to 255, in whole levels."""
    one = [int(n) for n in shape[1:] if n is not None]
    index = np.arange(int(np.prod(one)), dtype=np.float64).reshape(one)
    waves = np.stack([np.sin(index + n) for n in range(batch)])
    return np.round(127.5 + 127.5 * waves).astype(np.uint8) if dtype == "uint8" else waves.astype(array_dtype(dtype))


def reference_image(metadata: Metadata) -> Array:
    """The fixed image."""
    return reference_arrays(metadata)[0]


def reference_arrays(metadata: Metadata) -> list[Array]:
    """The fixed image and the fixed extra inputs."""
    batch = metadata.batch or REFERENCE_BATCH
    wanted = [{"shape": [None, *metadata.example_shape], "dtype": metadata.image_dtype}, *metadata.extra_inputs]
    return [reference_array(each["shape"], each["dtype"], batch) for each in wanted]


def record_reference(metadata: Metadata, runner: Runner, precision: str) -> Reference:
    """What an artifact itself answers to the fixed image, where it is not meant to answer as the network does."""
    image, *inputs = reference_arrays(metadata)
    shape = [len(image), *(int(n or 1) for n in metadata.class_idx_shape[1:])]
    logits, class_idx, cam = runner(image, np.full(shape, PREDICTED, np.int64), *inputs)[:3]
    return _reference(logits, class_idx, cam, tolerance_of(precision), spatial(image.shape, metadata.pixels))


def _reference(logits: Array, class_idx: Array, cam: Array, tolerance: Tolerance, size: Sequence[int]) -> Reference:
    return Reference(
        class_idx=class_idx.tolist(),
        logits=_sampled(logits),
        cam=_reduced_maps(cam.astype(np.float64)),
        logits_tolerance=DEVICE_FACTOR * tolerance.logits,
        cam_tolerance=DEVICE_FACTOR * tolerance.cam,
        size=list(size),
    )


def check_reference(metadata: Metadata, runner: Runner) -> str:
    """Run the fixed image and compare with the recorded answer; what differs, or an empty string."""
    reference = metadata.reference
    if reference is None:
        return "the artifact has no recorded answer to compare with"
    image, *inputs = reference_arrays(metadata)
    logits, _, cam, *_ = runner(image, np.asarray(reference.class_idx, np.int64), *inputs)
    wanted = np.asarray(reference.logits)
    off_logits = float(np.abs(np.asarray(_sampled(logits)) - wanted).max()) / max(1.0, float(np.abs(wanted).max()))
    maps = np.asarray(_reduced_maps(cam.astype(np.float64)))
    off_cam = float(np.abs(maps - np.asarray(reference.cam)).max())
    if not off_logits <= reference.logits_tolerance:
        return f"logits differ by {off_logits:.1e}, allowed {reference.logits_tolerance:.0e}"
    if not off_cam <= reference.cam_tolerance * max(1.0, float(np.abs(reference.cam).max())):
        return f"the map differs by {off_cam:.1e}, allowed {reference.cam_tolerance:.0e}"
    return ""


def _sampled(logits: Array) -> list[list[float]]:
    """Up to 16 values of each image's logits, at equal distances."""
    flat = logits.reshape(len(logits), -1)
    positions = np.unique(np.linspace(0, flat.shape[1] - 1, min(flat.shape[1], REFERENCE_LOGITS)).round().astype(int))
    return [[float(value) for value in row] for row in flat[:, positions]]


def _reduced_maps(cam: NDArray[np.float64]) -> list[list[float]]:
    """Each image's maps as means over a grid of cells."""
    return [_reduced(maps) for maps in cam]


def _reduced(cam: NDArray[np.float64]) -> list[float]:
    """Mean over an 8 x 8 grid of cells (fewer where the map is smaller)."""
    for axis in range(cam.ndim):
        length = cam.shape[axis]
        edges = np.unique(np.linspace(0, length, min(length, REFERENCE_GRID) + 1).round().astype(int))
        sums = np.add.reduceat(cam, edges[:-1], axis=axis)
        shape = [-1 if a == axis else 1 for a in range(cam.ndim)]
        cam = sums / np.diff(edges).reshape(shape)
    return [float(value) for value in cam.ravel()]
