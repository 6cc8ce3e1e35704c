"""What an artifact is made of: the lowered model and its description."""

from collections.abc import Sequence
from importlib import metadata as distributions

import numpy as np
import torch
from torch import Tensor

from explainable_model.errors import InputError
from explainable_model.lowering import LoweredModel, lower
from explainable_model.metadata import Metadata
from explainable_model.model import ExplainableModel
from explainable_model.preprocess import Preprocess
from explainable_model.verify import make_reference

PACKAGES = ("explainable-model", "torch", "onnx", "onnxscript", "onnxruntime")


def lowered_of(explainable: ExplainableModel | LoweredModel, image: Tensor | None) -> LoweredModel:
    """The lowered model, made with ``image`` or the example that the module knows.

    Raises:
        InputError: there is no example at all.
    """
    if isinstance(explainable, LoweredModel):
        return explainable
    example = explainable.example if image is None else image
    if example is None:
        raise InputError("export needs an example image: export(explainable, path, image), shape (N, C, H, W).")
    return lower(explainable, example)


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
    channels, *spatial = lowered.example.shape[1:]
    if preprocess is not None and (len(preprocess.mean) != channels or list(preprocess.size) != spatial):
        raise InputError(
            f"preprocess makes ({len(preprocess.mean)}, *{preprocess.size}) of a photo; the example image is "
            f"({channels}, *{tuple(spatial)})."
        )
    batch = None if lowered.dynamic_batch else lowered.example.shape[0]
    return Metadata(
        format=format,
        model=lowered.recipe.model,
        method=lowered.recipe.method,
        target_layer=lowered.recipe.target_layer,
        normalize=lowered.recipe.normalize,
        upsample=lowered.recipe.upsample,
        image_shape=[batch, *lowered.example.shape[1:]],
        dtype=str(lowered.example.dtype).removeprefix("torch."),
        classes=lowered.classes,
        logits_shape=[batch, *lowered.logits_shape[1:]],
        cam_shape=[batch, *lowered.cam_shape[1:]],
        preprocess=preprocess,
        class_names=list(class_names) if class_names is not None else None,
        reference=make_reference(lowered),
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    found = {"numpy": np.__version__, "torch": torch.__version__}
    for package in PACKAGES:
        try:
            found.setdefault(package, distributions.version(package))
        except distributions.PackageNotFoundError:
            continue
    return found
