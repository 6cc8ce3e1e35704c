"""Finds how a network's output is to be read, from the autograd graph that its forward leaves."""

import re
from typing import Any

import torch
from torch import Tensor, nn

from explainable_model.attribution.prediction import Select, find_prediction
from explainable_model.output_kind import OutputKind

REARRANGING = {
    "Alias", "AsStrided", "Clone", "Detach", "Expand", "Index", "IndexSelect", "Permute", "ReshapeAlias", "Select",
    "Slice", "Squeeze", "T", "ToCopy", "Transpose", "Unsqueeze", "UnsafeView", "View",
}  # fmt: skip
"""Nodes that move values without changing them."""
JOINING = {"Cat", "Stack"}
ACTIVATIONS = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid"}


def find_output_kind(
    model: nn.Module, image: Tensor, inputs: tuple[Tensor, ...] = (), output: Select = None
) -> OutputKind | None:
    """Find the kind of a network's output from its last operation.

    Args:
        model: the network, in evaluation mode.
        image: ``(N, C, *spatial)``, an image that it accepts.
        inputs: its extra inputs.
        output: which part of its output is the prediction.

    Returns:
        ``softmax``, ``sigmoid`` or ``binary`` after a softmax or sigmoid; ``logits`` or ``binary_logits`` without one;
        ``None`` where the output is not one value per class, where its parts end differently, or where its values look
        like probabilities although neither operation made them.
    """
    with torch.inference_mode(False), torch.enable_grad():
        values = find_prediction(model(image.detach().clone().requires_grad_(), *inputs), output).tensor
    if values.ndim > 2 and values[0, 0].numel() > 1:
        return None
    classes = values.shape[1] if values.ndim > 1 else 1
    activation = _find_activation(values.grad_fn) if values.grad_fn is not None else None
    if activation == "sigmoid":
        return "binary" if classes == 1 else "sigmoid"
    if activation == "softmax":
        return "softmax" if classes > 1 else None
    if activation == "log_softmax":
        return "logits" if classes > 1 else None
    if activation is None or _look_like_probabilities(values):
        return None
    return "binary_logits" if classes == 1 else "logits"


def _find_activation(node: Any) -> str | None:
    """Name the activation behind rearranging nodes, or ``none``; ``None`` where joined parts end differently."""
    kind = re.sub(r"Backward\d*$", "", node.name())
    if kind in ACTIVATIONS:
        return ACTIVATIONS[kind]
    if kind in REARRANGING:
        return _find_activation(node.next_functions[0][0])
    if kind in JOINING:
        activations = {_find_activation(part) for part, _ in node.next_functions if part is not None}
        joined = activations.pop() if len(activations) == 1 else None
        return joined if joined in ("sigmoid", "none") else None
    return "none"


def _look_like_probabilities(values: Tensor) -> bool:
    """Whether every value lies in [0, 1] and one lies strictly between: logits of several classes hardly ever do."""
    inside = bool(((values >= 0) & (values <= 1)).all())
    return inside and bool(((values > 0) & (values < 1)).any())
