"""Checks of what an explainable network is given: the image, the classes and the extra inputs."""

from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explainable_model.errors import InputError
from explainable_model.explanation import PREDICTED

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32)


def check_inputs(inputs: Sequence[Tensor], batch: int, expected: int) -> None:
    """Refuse extra inputs that are too few, or that do not have the batch first.

    Raises:
        InputError: an input is missing, no tensor, or of another batch.
    """
    if len(inputs) < expected:
        raise InputError(
            f"{len(inputs)} extra input(s) given; the target takes {expected}: explainable(image, class_idx, ...)."
        )
    for number, extra in enumerate(inputs):
        if not isinstance(extra, Tensor) or extra.ndim == 0 or extra.shape[0] != batch:
            got = f"of shape {tuple(extra.shape)}" if isinstance(extra, Tensor) else type(extra).__name__
            raise InputError(
                f"Extra input {number} is {got}; expected a tensor with the batch of {batch} first. What all "
                "images share goes into a function: forward=lambda network, image: network(image, shared)."
            )


def check_image(image: Tensor) -> None:
    """Refuse an image that no network can be explained for.

    Raises:
        InputError: not a floating point tensor with a batch, channels and 1 to 3 spatial
            dimensions, empty, or (in host memory) with NaN or infinity.
    """
    if not isinstance(image, Tensor):
        hint = ""
        if isinstance(image, np.ndarray):
            hint = " Convert it: torch.from_numpy(image)."
        elif hasattr(image, "convert"):  # a picture of Pillow
            hint = " Prepare a photo: torch.from_numpy(Preprocess((224, 224), resize=256)(photo))."
        elif isinstance(image, (dict, list, tuple)):
            hint = f" {_container_hint(image)}"
        raise InputError(f"image is {type(image).__name__}; expected a torch.Tensor of shape (N, C, H, W).{hint}")
    if image.layout != torch.strided:
        raise InputError(f"image is {image.layout}; expected a dense tensor: image.to_dense().")
    if not 3 <= image.ndim <= 5:
        hint = " Add the batch dimension: image.unsqueeze(0)." if image.ndim == 2 else ""
        raise InputError(
            f"image has shape {tuple(image.shape)}; expected (N, C, H, W) (or one or three spatial dimensions).{hint}"
        )
    if not image.is_floating_point():
        raise InputError(
            f"image is {image.dtype}; expected floating point, scaled and normalized as the network was trained "
            "(e.g. image.float() / 255)."
        )
    if image.numel() == 0:
        raise InputError(f"image is empty: shape {tuple(image.shape)}; expected at least one image.")
    if image.device.type == "cpu" and not _is_finite(image):
        raise InputError("image has NaN or infinite values; expected finite ones.")


def _container_hint(image: Any) -> str:
    """How to call a network that takes a dictionary or a list."""
    made = "list(image)"
    if isinstance(image, dict):
        tensors = [key for key, value in image.items() if isinstance(value, Tensor) and value.ndim > 2]
        key = (tensors or list(image) or ["image"])[0]
        made = "{" + ", ".join(f"{name!r}: {'image' if name == key else '...'}" for name in image or [key]) + "}"
    return (
        "Give the image as one tensor, the batch first, and say how the network is called: "
        f"ExplainableModel(network, ..., forward=lambda network, image: network({made}))."
    )


def _is_finite(image: Tensor) -> bool:
    """Whether every value is finite; the sum, if it does not overflow, shows this in a quarter of the time."""
    return bool(torch.isfinite(image.sum())) or bool(torch.isfinite(image).all())


def predicted_class_idx(image: Tensor, top_k: int | None) -> Tensor:
    """The ``class_idx`` that stands for the predicted class of each image, or for its ``top_k`` most likely ones."""
    shape = image.shape[:1] if top_k is None else (image.shape[0], top_k)
    return torch.full(shape, PREDICTED, dtype=torch.int64, device=image.device)


ClassIdx: TypeAlias = Tensor | Sequence[int] | NDArray[Any] | int | None
"""The classes to explain, as a user passes them."""


def as_class_idx(class_idx: Any, image: Tensor, top_k: int | None) -> Tensor:
    """Turn the classes that a user asks for into a tensor: one number for all images, a list, an array, or ``None``.

    Raises:
        InputError: as ``check_class_idx``.
    """
    if class_idx is None:
        return predicted_class_idx(image, top_k)
    if not isinstance(class_idx, Tensor):
        try:
            class_idx = torch.as_tensor(class_idx, device=image.device)
        except (TypeError, ValueError, RuntimeError):
            check_class_idx(class_idx, image.shape[0], top_k)
    if class_idx.dtype in INTEGERS:
        class_idx = class_idx.to(torch.int64)
    if class_idx.ndim == 0 and top_k is None:
        class_idx = class_idx.expand(image.shape[0])
    check_class_idx(class_idx, image.shape[0], top_k)
    return cast(Tensor, class_idx)


def check_class_idx(class_idx: Tensor, batch: int, top_k: int | None = None) -> None:
    """Refuse a class index that is not int64 of shape ``(N,)``, or ``(N, top_k)``.

    Raises:
        InputError: wrong type, dtype or shape.
    """
    shape = (batch,) if top_k is None else (batch, top_k)
    meaning = "one class per image" if top_k is None else f"{top_k} classes per image"
    if not isinstance(class_idx, Tensor) or class_idx.dtype != torch.int64:
        got = f"a {class_idx.dtype} tensor" if isinstance(class_idx, Tensor) else type(class_idx).__name__
        raise InputError(
            f"class_idx is {got}; expected an int64 tensor of shape {shape}, {meaning}, "
            f"e.g. torch.tensor([281]). Use {PREDICTED} or None for the predicted class."
        )
    if class_idx.shape != shape:
        raise InputError(f"class_idx has shape {tuple(class_idx.shape)}; expected {shape}, {meaning}.")


def check_class_range(class_idx: Tensor, classes: int) -> None:
    """Refuse a class index outside ``-1 .. classes - 1``.

    Raises:
        InputError: out of range.
    """
    low, high = int(class_idx.min()), int(class_idx.max())
    if low < PREDICTED or high >= classes:
        wrong = low if low < PREDICTED else high
        raise InputError(
            f"class_idx {wrong} is out of range; the network has {classes} class(es): expected "
            f"0 to {classes - 1}, or {PREDICTED} for the predicted class."
        )
