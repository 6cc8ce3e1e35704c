"""The metadata of an artifact, made of its lowered model."""

from collections.abc import Sequence
from importlib import metadata as distributions

import numpy as np
import torch
from torch import Tensor

from explainable_model.artifact.answer import Reference
from explainable_model.artifact.metadata import Metadata
from explainable_model.artifact.reference import REFERENCE_BATCH, make_reference, reference_array
from explainable_model.artifact.runner import as_array
from explainable_model.artifact.shapes import PIXEL_DTYPES, shape_problem
from explainable_model.artifact.tolerances import tolerance_of
from explainable_model.attribution.boxes import BoxScore
from explainable_model.errors import InputError
from explainable_model.explanation import (
    OUTPUT_KINDS,
    PRESENT,
    PROBABILITY_KINDS,
    OutputKind,
    check_presence,
    list_outputs,
)
from explainable_model.exporters import FORMATS
from explainable_model.exporters.box_reference import answer_box_reference
from explainable_model.imaging.preprocess import Preprocess
from explainable_model.lowering.lowered import LoweredModel
from explainable_model.verify.samples import example_like, fresh_input, takes_any_value, tested_sizes


def describe(
    lowered: LoweredModel,
    format: str,
    preprocess: Preprocess | None,
    class_names: Sequence[str] | None,
    output_kind: OutputKind | None = None,
    threshold: float = PRESENT,
    reference: Tensor | None = None,
) -> Metadata:
    """Describe an artifact.

    Args:
        lowered: the model that the artifact is written from.
        format: key of ``FORMATS``.
        preprocess: how a photo becomes the input, if known.
        class_names: one name per class, if known.
        output_kind: how the output is read as probabilities; ``None`` finds it.
        threshold: smallest probability of a class that is present.
        reference: a photo with objects, for the recorded answer of a detector; ``None`` for waves.

    Raises:
        InputError: ``output_kind`` does not fit the output, the number of class names is not the number of classes,
            ``threshold`` has nothing to be compared with, or the preprocessing makes an input of another shape than the
            example.
    """
    has_boxes = isinstance(lowered.plan.target, BoxScore)
    if class_names is not None and not has_boxes and len(class_names) != lowered.classes:
        raise InputError(f"class_names has {len(class_names)} names; the network has {lowered.classes} classes.")
    if preprocess is not None and preprocess.pad is not None and not has_boxes:
        raise InputError(f"pad={preprocess.pad:.3g} puts a border around the photo; it is for detectors: leave it out.")
    image_shape, logits_shape, cam_shape = _find_open_shapes(lowered)
    photo_io, kind = lowered.photo_io, _choose_output_kind(lowered, output_kind)
    check_presence(threshold, kind)
    if photo_io is None and preprocess is not None:
        _check_preprocess(preprocess, lowered, image_shape)
    return Metadata(
        format=format,
        **lowered.plan.to_record(),
        image_shape=image_shape,
        dtype=str(lowered.dtype).removeprefix("torch."),
        classes=lowered.classes,
        logits_shape=logits_shape,
        cam_shape=cam_shape,
        sizes=list(lowered.sizes) if lowered.sizes else None,
        pixels=lowered.pixels,
        pixel_dtype=photo_io.pixel_dtype if photo_io else "uint8",
        look=photo_io.look if photo_io else None,
        extra_inputs=[
            {"shape": [image_shape[0], *extra.shape[1:]], "dtype": str(extra.dtype).removeprefix("torch.")}
            for extra in lowered.example_inputs
        ],
        input_names=lowered.input_names if format == "onnx" else {},
        preprocess=photo_io.preprocess if photo_io else preprocess,
        class_names=list(class_names) if class_names is not None else None,
        reference=answer_box_reference(lowered, reference) if has_boxes else answer_reference(lowered),
        precision=lowered.precision,
        profile=lowered.profile,
        output_kind=kind,
        threshold=threshold,
        versions=_find_versions(),
    )


def _choose_output_kind(lowered: LoweredModel, output_kind: str | None) -> OutputKind:
    kind = next((kind for kind in OUTPUT_KINDS if kind == output_kind), None)
    if output_kind is None or isinstance(lowered.plan.target, BoxScore):
        return lowered.output_kind
    logits = lowered.outputs[0]
    classes = logits.shape[1] if logits.ndim > 1 else 1
    problem = ""
    if kind is None:
        problem = f"known kinds: {', '.join(OUTPUT_KINDS)}"
    elif kind != "scores" and (classes == 1) != kind.startswith("binary"):
        problem = f"the output has {classes} channel(s), and only the binary kinds are for a single one"
    elif kind in PROBABILITY_KINDS and not bool(((logits >= 0) & (logits <= 1)).all()):
        problem = f"the output has values from {logits.min():.3g} to {logits.max():.3g}, which are no probabilities"
    elif kind == "softmax" and not bool(((logits.double().sum(1) - 1).abs() < 1e-2).all()):
        problem = "the output does not sum to one over the classes"
    if kind is None or problem:
        raise InputError(f"output_kind is {output_kind!r}; {problem}. Leave it out to have it found from the graph.")
    return kind


def _check_preprocess(preprocess: Preprocess, lowered: LoweredModel, image_shape: Sequence[int | None]) -> None:
    channels, *size = lowered.example.shape[1:]
    problem = shape_problem((1, 1, *preprocess.size), (None, None, *image_shape[2:]), lowered.sizes)
    if len(preprocess.mean) != channels or problem is not None:
        raise InputError(
            f"preprocess makes ({len(preprocess.mean)}, *{preprocess.size}) of a photo; the example image is "
            f"({channels}, *{tuple(size)})."
        )


def _find_open_shapes(lowered: LoweredModel) -> list[list[int | None]]:
    """Shapes of image, logits and maps, with ``None`` where another size of the image changes a dimension."""
    shapes = [list(lowered.logits_shape), list(lowered.cam_shape)]
    others = shapes
    if lowered.sizes:
        image = example_like(lowered, lowered.example.shape[0], 0, tested_sizes(lowered)[1])
        with torch.no_grad():
            outputs = list_outputs(lowered(image, None, *lowered.example_inputs))
        cam = outputs[-1 if isinstance(lowered.plan.target, BoxScore) else 2]
        others = [list(outputs[0].shape), list(cam.shape)]
    batch = lowered.image_shape[0]
    outputs = [
        [batch, *(n if n == other else None for n, other in zip(shape[1:], changed[1:], strict=True))]
        for shape, changed in zip(shapes, others, strict=True)
    ]
    return [lowered.image_shape, *outputs]


def _find_versions() -> dict[str, str]:
    versions = {"numpy": np.__version__, "torch": torch.__version__}
    for package in ("explainable-model", *(package for fmt in FORMATS.values() for package in fmt.packages)):
        try:
            versions.setdefault(package, distributions.version(package))
        except distributions.PackageNotFoundError:
            continue
    return versions


def answer_reference(lowered: LoweredModel) -> Reference:
    """The lowered model's answer to the fixed image."""
    batch = REFERENCE_BATCH if lowered.dynamic_batch else len(lowered.example)
    image = _make_waves(lowered.example, batch)
    recorded = [None if takes_any_value(extra) else fresh_input(extra, batch, 0) for extra in lowered.example_inputs]
    inputs = [
        _make_waves(extra, batch) if values is None else values
        for extra, values in zip(lowered.example_inputs, recorded, strict=True)
    ]
    with torch.no_grad():
        logits, class_idx, cam, *_ = lowered(image, None, *inputs)
    return make_reference(
        as_array(logits.float()),
        as_array(class_idx),
        as_array(cam.double()),
        tolerance_of(lowered.precision, photos=lowered.photo_io is not None),
        lowered.size,
        [None if values is None else values.tolist() for values in recorded] or None,
    )


def _make_waves(example: Tensor, batch: int) -> Tensor:
    stored = str(example.dtype).removeprefix("torch.")
    dtype = stored if stored in PIXEL_DTYPES else "float64"
    return torch.from_numpy(reference_array([None, *example.shape[1:]], dtype, batch)).to(example)
