"""A detector's recorded answer: to a coarse copy of a photo, or to waves, in which it finds no box or its own."""

import numpy as np
import torch
from torch import Tensor

from explainable_model.artifact.answer import Reference
from explainable_model.artifact.coarse_photo import MAX_BYTES, CoarsePhoto, expand_coarse, make_coarse
from explainable_model.artifact.reference import REFERENCE_BATCH, make_box_reference, reference_array, sample_boxes
from explainable_model.artifact.runner import Array, as_array
from explainable_model.artifact.shapes import spatial
from explainable_model.artifact.tolerances import tolerance_of
from explainable_model.errors import InputError
from explainable_model.lowering.example_photos import make_photos_like
from explainable_model.lowering.lowered import LoweredModel

SIDES = (8, 4, 2, 1)  # pixels of a square, the coarsest copy first
NOISE = 1e-3  # of the image's range, which must not change the boxes
ROOM = 0.05  # by which it may move scores and edges, as shares


def answer_box_reference(lowered: LoweredModel, photo: Tensor | None = None) -> Reference | None:
    """The lowered detector's answer to a fixed image.

    Args:
        lowered: the detector.
        photo: with objects, shaped like the example; the coarsest copy is stored in which boxes are found. ``None``
            takes waves.

    Returns:
        ``None`` where each call gives boxes, or where rounding decides which boxes are found in waves.

    Raises:
        InputError: each call gives boxes, the photo has another shape than the example, or no copy of it has boxes
            that rounding leaves alone.
    """
    if lowered.example_inputs and photo is not None:
        raise InputError(
            "reference= is a photo, and each call of this detector takes boxes or other inputs as well, so that its "
            "file records no answer; leave out reference."
        )
    if lowered.example_inputs:
        return None
    if photo is None:
        shape = [None, *lowered.example.shape[1:]]
        return _record(lowered, reference_array(shape, _name_dtype(lowered), _count_images(lowered)), None)
    image = as_array(_as_example(photo, lowered)[0])
    for side in SIDES:
        coarse = make_coarse(image, side, lowered.pixels)
        if len(coarse.values) > MAX_BYTES:
            break
        batch = _count_images(lowered)
        copies = expand_coarse(coarse, image.shape, _name_dtype(lowered), batch, lowered.pixels)
        found = _record(lowered, copies, coarse)
        if found is not None and all(max(labels) >= 0 for labels in found.class_idx if isinstance(labels, list)):
            return found
    raise InputError(
        "The detector finds no box in the photo of reference=, or boxes that rounding would change; give a photo with "
        "larger objects that it knows, or leave out reference."
    )


def _as_example(photo: Tensor, lowered: LoweredModel) -> Tensor:
    """A prepared photo as the graph takes it."""
    photo_io = lowered.photo_io
    expected = tuple(lowered.example.shape[1:]) if photo_io is None else photo_io.image_shape
    if tuple(photo.shape[1:]) != expected or not len(photo):
        raise InputError(
            f"reference has shape {tuple(photo.shape)}; expected one image like the example: "
            f"(1, {', '.join(map(str, expected))})."
        )
    return photo[:1].to(lowered.example) if photo_io is None else make_photos_like(photo[:1], photo_io)


def _record(lowered: LoweredModel, image: Array, photo: CoarsePhoto | None) -> Reference | None:
    """The answer to an image; ``None`` where a little noise changes which boxes are found."""
    outputs, others = _run(lowered, image), _run(lowered, _add_noise(image))
    if not np.array_equal(outputs[2], others[2]):
        return None
    size = spatial(image.shape, lowered.pixels)
    before, after = (sample_boxes(each[0], each[1], size) for each in (outputs, others))
    if np.abs(np.asarray(before) - np.asarray(after)).max(initial=0) > ROOM:
        return None
    tolerance = tolerance_of(lowered.precision, photos=lowered.photo_io is not None)
    return make_box_reference(outputs, tolerance, size, photo)


def _run(lowered: LoweredModel, image: Array) -> list[Array]:
    with torch.no_grad():
        (boxes, scores, labels, valid), cam, *_ = lowered(torch.from_numpy(image).to(lowered.example))
    return [as_array(output) for output in (boxes.float(), scores.float(), labels, valid, cam.float())]


def _add_noise(image: Array) -> Array:
    generator = np.random.default_rng(0)
    noise = generator.uniform(-1, 1, image.shape)
    if np.issubdtype(image.dtype, np.integer):  # of less than a level: some pixels change by one
        top = np.iinfo(image.dtype).max
        levels = np.round(NOISE * top * noise + generator.uniform(-0.5, 0.5, image.shape))
        return np.clip(image + levels, 0, top).astype(image.dtype)
    return (image + NOISE * float(np.ptp(image)) * noise).astype(image.dtype)


def _count_images(lowered: LoweredModel) -> int:
    return REFERENCE_BATCH if lowered.dynamic_batch else len(lowered.example)


def _name_dtype(lowered: LoweredModel) -> str:
    return str(lowered.example.dtype).removeprefix("torch.")
