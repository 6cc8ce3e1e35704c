"""From the network's prediction to one score per image and class."""

from typing import Any

import torch
from torch import Tensor

from explainable_model.attribution.inputs import check_class_range
from explainable_model.errors import InputError, ModelError
from explainable_model.explanation import PREDICTED


def class_scores(logits: Tensor, batch: Any) -> Tensor:
    """One score per image and class: ``(N, classes)``.

    ``(N, classes)`` stays and ``(N,)`` becomes ``(N, 1)``. Further dimensions are summed: ``(N, classes, 1, 1)``
    holds one value per class, and a segmentation map ``(N, classes, H, W)`` gives the class score summed over all
    pixels (Vinogradova et al. 2020, arXiv 2002.11434). ``check_class_scores`` refuses other dimensions.

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
            "the batch dimension (a bare .squeeze() loses it for a batch of one). For a network that takes one image "
            "without a batch, give (1, C, H, W) and say how it is called: ExplainableModel(network, ..., "
            "forward=lambda network, image: network(image.squeeze(0)).unsqueeze(0))."
        )
    if logits.ndim == 1:
        return logits.unsqueeze(1)
    return logits if logits.ndim == 2 else logits.flatten(2).sum(2)


def resolve_class_idx(class_idx: Tensor, classes: Tensor) -> Tensor:
    """``class_idx`` with every ``-1`` in column j replaced by the class that is predicted j-th.

    Args:
        class_idx: ``(N, k)`` int64.
        classes: ``(N, classes)``, a score for each class.

    Raises:
        InputError: the network has fewer classes than are to be explained, or an index in host memory is out of range.
    """
    count = class_idx.shape[1]
    if count > classes.shape[1]:
        raise InputError(f"top_k is {count}; the network has {classes.shape[1]} class(es).")
    if class_idx.device.type == "cpu" and not torch.compiler.is_exporting():
        check_class_range(class_idx, classes.shape[1])
    predicted = classes.argmax(1, keepdim=True) if count == 1 else classes.topk(count, dim=1).indices
    return torch.where(class_idx == PREDICTED, predicted, class_idx.to(predicted.device))


def one_hot(columns: Tensor, values: Tensor) -> Tensor:
    """``(N, S)``: one in the column of each image, the gradient of its score with respect to all scores."""
    return torch.zeros_like(values).scatter_(1, columns.unsqueeze(1), 1.0)
