"""What an artifact is made of: the lowered model and its description."""

from collections.abc import Sequence
from importlib import metadata as distributions

import numpy as np
import torch
from torch import Tensor

from explainable_model.errors import InputError
from explainable_model.explanation import OVERLAY
from explainable_model.frame import make_frame
from explainable_model.lowering import LoweredModel, framed, lower
from explainable_model.metadata import Metadata, shape_problem
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
        return explainable
    example = explainable.example if image is None else image
    if example is None:
        raise InputError("export needs an example image: export(explainable, path, image), shape (N, C, H, W).")
    return lower(explainable, example, *inputs, dynamic_size=dynamic_size, dynamic_batch=dynamic_batch)


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
