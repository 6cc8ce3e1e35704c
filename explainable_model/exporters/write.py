"""What an artifact is made of: the lowered model and its description."""

from collections.abc import Sequence
from importlib import metadata as distributions
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from explainable_model.agreement import Progress
from explainable_model.calibration import MINIMUM, Calibration, calibration_images
from explainable_model.errors import InputError
from explainable_model.explanation import OVERLAY
from explainable_model.frame import make_frame
from explainable_model.lowering import LoweredModel, framed, lower
from explainable_model.metadata import PRECISIONS, Metadata, Precision, Profile, shape_problem
from explainable_model.model import ExplainableModel
from explainable_model.overlay import Look
from explainable_model.preprocess import Preprocess
from explainable_model.targets import target_name
from explainable_model.verify import example_like, make_reference, tested_sizes

PACKAGES = ("explainable-model", "torch", "onnx", "onnxscript", "onnxruntime", "openvino", "executorch")


def lowered_of(
    explainable: ExplainableModel | LoweredModel,
    image: Tensor | None,
    inputs: Sequence[Tensor],
    *,
    dynamic_size: bool = False,
    dynamic_batch: bool = True,
    profile: Profile = "full",
) -> LoweredModel:
    """The lowered model, made with ``image`` or the example that the module knows.

    Raises:
        InputError: there is no example at all, or the lowered model is for other dimensions.
    """
    if isinstance(explainable, LoweredModel):
        if dynamic_size and explainable.sizes is None:
            raise InputError("The lowered model is for one image size; lower it with dynamic_size=True.")
        if not dynamic_batch and explainable.dynamic_batch:
            raise InputError("The lowered model is for any batch size; lower it with dynamic_batch=False.")
        if profile != "full" and explainable.profile != profile:
            raise InputError(f"The lowered model is not of the {profile} profile; lower it with profile={profile!r}.")
        return explainable
    example = explainable.example if image is None else image
    if example is None:
        raise InputError("export needs an example image: export(explainable, path, image), shape (N, C, H, W).")
    return lower(explainable, example, *inputs, dynamic_size=dynamic_size, dynamic_batch=dynamic_batch, profile=profile)


def with_pixels(
    lowered: LoweredModel, preprocess: Preprocess | None, pixels: str | None, render: str | Look | None
) -> LoweredModel:
    """The lowered model that takes photos, where it is asked for.

    Raises:
        InputError: what to draw is not known, or there are no pixels to draw on; and as ``make_frame``.
    """
    if pixels is None and render is not None:
        raise InputError("render draws on the photo, which the artifact needs to take: pixels='NCHW' or 'NHWC'.")
    if pixels is None:
        return lowered
    look = Look() if render == OVERLAY else render
    if isinstance(look, str):
        raise InputError(f"render is {render!r}; expected 'overlay' or explainable_model.overlay.Look(...).")
    return framed(lowered, make_frame(lowered.plan, lowered.example, preprocess, pixels, look))


def describe(
    lowered: LoweredModel, format: str, preprocess: Preprocess | None, class_names: Sequence[str] | None
) -> Metadata:
    """The record that goes into the artifact.

    Raises:
        InputError: another number of class names than classes, or a preprocessing that makes
            another input than the example.
    """
    if class_names is not None and len(class_names) != lowered.classes:
        raise InputError(f"class_names has {len(class_names)} names; the network has {lowered.classes} classes.")
    image_shape, logits_shape, cam_shape = _open_shapes(lowered)
    frame = lowered.frame
    if frame is None and preprocess is not None:
        _check_preprocess(preprocess, lowered, image_shape)
    plan = lowered.plan
    return Metadata(
        format=format,
        model=plan.model,
        method=plan.method,
        options={**plan.row.options, **plan.options},
        passes=plan.row.passes,
        target_layers=list(plan.layers),
        fusion=plan.fusion,
        target=target_name(plan.target),
        top_k=plan.top_k,
        normalize=plan.finish.normalize,
        upsample=plan.finish.upsample,
        signed=plan.finish.signed,
        shared_scale=plan.finish.shared_scale,
        cam_range=list(plan.finish.range),
        augment=plan.augment,
        image_shape=image_shape,
        dtype=str(lowered.dtype).removeprefix("torch."),
        classes=lowered.classes,
        logits_shape=logits_shape,
        cam_shape=cam_shape,
        sizes=list(lowered.sizes) if lowered.sizes else None,
        pixels=lowered.pixels,
        look=frame.look if frame else None,
        extra_inputs=[
            {"shape": [image_shape[0], *extra.shape[1:]], "dtype": str(extra.dtype).removeprefix("torch.")}
            for extra in lowered.example_inputs
        ],
        preprocess=frame.preprocess if frame else preprocess,
        class_names=list(class_names) if class_names is not None else None,
        reference=make_reference(lowered),
        precision=lowered.precision,
        profile=lowered.profile,
        versions=_versions(),
    )


def _check_preprocess(preprocess: Preprocess, lowered: LoweredModel, image_shape: Sequence[int | None]) -> None:
    channels, *size = lowered.example.shape[1:]
    problem = shape_problem((1, 1, *preprocess.size), (None, None, *image_shape[2:]), lowered.sizes)
    if len(preprocess.mean) != channels or problem is not None:
        raise InputError(
            f"preprocess makes ({len(preprocess.mean)}, *{preprocess.size}) of a photo; the example image is "
            f"({channels}, *{tuple(size)})."
        )


def _open_shapes(lowered: LoweredModel) -> list[list[int | None]]:
    """Shapes of image, logits and maps, with ``None`` for what is open: what differs for an image of another size."""
    shapes = [list(lowered.logits_shape), list(lowered.cam_shape)]
    others = shapes
    if lowered.sizes:
        image = example_like(lowered, lowered.example.shape[0], 0, tested_sizes(lowered)[1])
        with torch.no_grad():
            logits, _, cam, *_ = lowered(image, None, *lowered.example_inputs)
        others = [list(logits.shape), list(cam.shape)]
    batch = lowered.image_shape[0]
    outputs = [
        [batch, *(n if n == other else None for n, other in zip(shape[1:], changed[1:], strict=True))]
        for shape, changed in zip(shapes, others, strict=True)
    ]
    return [lowered.image_shape, *outputs]


def _versions() -> dict[str, str]:
    found = {"numpy": np.__version__, "torch": torch.__version__}
    for package in PACKAGES:
        try:
            found.setdefault(package, distributions.version(package))
        except distributions.PackageNotFoundError:
            continue
    return found


def reduce(
    path: Path,
    lowered: LoweredModel,
    metadata: Metadata,
    precision: Precision,
    calibration: Calibration | None,
    progress: Progress | None,
) -> None:
    """Rewrite a finished artifact in less precision, see ``reduce_precision``.

    Raises:
        InputError: no photos to calibrate with.
    """
    from explainable_model.exporters.onnx_precision import reduce_precision

    if calibration is not None:
        images = calibration_images(calibration, metadata, progress)
    else:
        batch = metadata.batch or 1
        size = tested_sizes(lowered)[0]
        images = [example_like(lowered, batch, seed, size).cpu().numpy() for seed in range(MINIMUM)]
    reduce_precision(path, metadata, precision, images, photos=calibration is not None, progress=progress)


def check_precision(format: str, precision: str | None, calibration: Calibration | None) -> None:
    """Refuse a precision that there is not, before any work is done.

    Raises:
        InputError: an unknown precision, one that the format has not, or int8 without photos.
    """
    if precision is None:
        if calibration is not None:
            raise InputError("calibration is for precision='int8' (or 'float16', to compare with); name one.")
        return
    if precision not in PRECISIONS:
        raise InputError(
            f"Unknown precision {precision!r}; known: {', '.join(PRECISIONS)}, or None for the network's own."
        )
    if format != "onnx":
        raise InputError(
            f"The format {format} is written in the network's own precision only; precision={precision!r} is for onnx. "
            "Or give a network.half() with a float16 image."
        )
    if precision == "int8" and calibration is None:
        raise InputError(
            f"precision='int8' needs calibration=: a folder of {MINIMUM} or more photos of the kind that the network "
            "will see, their paths, or an array of what it takes."
        )
