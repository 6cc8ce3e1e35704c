"""From whatever a network returns to scores, and their gradients by autograd."""

from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from explainable_model.attribution.containers import first_tensor
from explainable_model.attribution.inputs import check_class_range
from explainable_model.errors import InputError, ModelError
from explainable_model.explanation import PREDICTED

LOGIT_KEYS = ("logits", "out")  # Hugging Face's name and torchvision segmentation's


Select: TypeAlias = str | int | Callable[[Any], Tensor] | None
"""Which part of the network's output is the prediction: a key or attribute, a position, or a function."""


def find_logits(output: Any, select: Select = None) -> Tensor:
    """The tensor that holds the prediction in whatever the network returns.

    A tensor is itself. In a mapping or dataclass the entry ``logits`` or ``out`` wins; else, and in
    a tuple or list, the first floating point tensor.

    Args:
        output: what the network returned.
        select: the part to take instead.

    Raises:
        ModelError: there is no floating point tensor in the output, or none where ``select`` points.
    """
    if select is not None:
        return _selected(output, select)
    if isinstance(output, Tensor) and output.is_floating_point():
        return output
    for key in LOGIT_KEYS:
        if isinstance(output, Mapping) and isinstance(output.get(key), Tensor):
            return output[key]  # type: ignore[no-any-return]
        if is_dataclass(output) and isinstance(getattr(output, key, None), Tensor):
            return getattr(output, key)  # type: ignore[no-any-return]
    logits = first_tensor(output)
    if logits is None:
        raise ModelError(
            f"The network returned {type(output).__name__} without a floating point tensor; "
            "expected logits of shape (N, classes). Wrap the network so that it returns them."
        )
    return logits


def _selected(output: Any, select: str | int | Callable[[Any], Tensor]) -> Tensor:
    try:
        if callable(select):
            chosen = select(output)
        elif isinstance(select, str) and not isinstance(output, Mapping):
            chosen = getattr(output, select)
        else:
            chosen = output[select]
    except (KeyError, IndexError, AttributeError, TypeError) as error:
        parts = ", ".join(map(str, output)) if isinstance(output, Mapping) else type(output).__name__
        raise ModelError(f"output={select!r} is not in what the network returned ({parts}).") from error
    if not isinstance(chosen, Tensor) or not chosen.is_floating_point():
        raise ModelError(
            f"output={select!r} is {type(chosen).__name__} in what the network returned; expected a floating point "
            "tensor with the batch first."
        )
    return chosen


def class_scores(logits: Tensor, batch: Any) -> Tensor:
    """One score per image and class: ``(N, classes)``.

    ``(N, classes)`` is itself and ``(N,)`` becomes ``(N, 1)``. Further dimensions are summed: for
    ``(N, 1, 1, 1)`` that is the one value, for a segmentation map ``(N, classes, H, W)`` the class
    score summed over the map (Vinogradova et al. 2020, arXiv 2002.11434, with all pixels as the
    region).

    Args:
        logits: the network's output; its first dimension is the batch.
        batch: N, the number of images.

    Raises:
        ModelError: the first dimension is not the batch.
    """
    if logits.ndim == 0 or (isinstance(batch, int) and logits.shape[0] != batch):
        raise ModelError(
            f"The network returned logits of shape {tuple(logits.shape)} for {batch} image(s); expected "
            "(N, classes) or (N, classes, ...) with the batch first. Wrap the network so that it keeps "
            "the batch dimension (a bare .squeeze() loses it for a batch of one)."
        )
    if logits.ndim == 1:
        return logits.unsqueeze(1)
    return logits if logits.ndim == 2 else logits.flatten(2).sum(2)


def resolve_class_idx(class_idx: Tensor, classes: Tensor) -> Tensor:
    """``class_idx`` with every ``-1`` replaced: in column j by the class that is predicted j-th.

    Args:
        class_idx: ``(N, k)`` int64.
        classes: ``(N, classes)``, a score for each class.

    Raises:
        InputError: fewer classes than are to be explained, or (in host memory) an index out of range.
    """
    count = class_idx.shape[1]
    if count > classes.shape[1]:
        raise InputError(f"top_k is {count}; the network has {classes.shape[1]} class(es).")
    if class_idx.device.type == "cpu" and not torch.compiler.is_exporting():
        check_class_range(class_idx, classes.shape[1])
    predicted = classes.argmax(1, keepdim=True) if count == 1 else classes.topk(count, dim=1).indices
    return torch.where(class_idx == PREDICTED, predicted, class_idx.to(predicted.device))


def one_hot(columns: Tensor, values: Tensor) -> Tensor:
    """``(N, S)``: one in each image's column; the gradient that its score starts with."""
    return torch.zeros_like(values).scatter_(1, columns.unsqueeze(1), 1.0)
