"""What is explained: from whatever a network returns to one score per image."""

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from explainable_model.errors import InputError, ModelError
from explainable_model.explanation import PREDICTED
from explainable_model.tap import first_tensor

LOGIT_KEYS = ("logits", "out")  # Hugging Face's name and torchvision segmentation's

# Differentiating these at a saturated prediction gives a gradient that rounds to zero.
FINAL_ACTIVATIONS = ("SigmoidBackward", "SoftmaxBackward", "LogSoftmaxBackward", "LogSigmoidBackward")
# Operations between a final activation and the output that only rearrange or copy.
REARRANGEMENTS = (
    "ViewBackward", "UnsafeViewBackward", "ReshapeAliasBackward", "SqueezeBackward", "UnsqueezeBackward",
    "AliasBackward", "CloneBackward", "ToCopyBackward", "PermuteBackward", "TransposeBackward", "TBackward",
)  # fmt: skip


def find_logits(output: Any) -> Tensor:
    """The tensor that holds the prediction in whatever the network returns.

    A tensor is itself. In a mapping or dataclass the entry ``logits`` or ``out`` wins; else, and in
    a tuple or list, the first floating point tensor.

    Raises:
        ModelError: there is no floating point tensor in the output.
    """
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


def resolve_class_idx(class_idx: Tensor | None, scores: Tensor) -> Tensor:
    """``class_idx`` with ``None`` and every ``-1`` replaced by the predicted class, ``(N,)`` int64."""
    predicted = scores.argmax(1)
    if class_idx is None:
        return predicted
    return torch.where(class_idx == PREDICTED, predicted, class_idx)


def check_class_idx(class_idx: Tensor, batch: int) -> None:
    """Refuse a class index that is not ``(N,)`` int64.

    Raises:
        InputError: wrong type, dtype or shape.
    """
    if not isinstance(class_idx, Tensor) or class_idx.dtype != torch.int64:
        got = f"a {class_idx.dtype} tensor" if isinstance(class_idx, Tensor) else type(class_idx).__name__
        raise InputError(
            f"class_idx is {got}; expected an int64 tensor of shape ({batch},), one class per image, "
            f"e.g. torch.tensor([281]). Use {PREDICTED} or None for the predicted class."
        )
    if class_idx.shape != (batch,):
        raise InputError(f"class_idx has shape {tuple(class_idx.shape)}; expected ({batch},), one class per image.")


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


def score_gradient(
    logits: Tensor, scores: Tensor, class_idx: Tensor, activations: Tensor, *, keep_graph: bool = False
) -> Tensor | None:
    """Gradient of the chosen class scores with respect to the activations.

    Where the network ends in sigmoid or softmax, the score is the logit under it: the gradient is
    started at that function's input, so that a saturated prediction (whose own derivative rounds to
    zero) still has a map.

    Args:
        logits: the network's output, with its graph.
        scores: ``class_scores(logits, N)``.
        class_idx: ``(N,)`` int64 in ``0 .. classes - 1``.
        activations: the tensor of that graph to differentiate for.
        keep_graph: leave the graph in place for another call.

    Returns:
        A tensor shaped like ``activations``, or ``None`` if the score does not depend on them.
    """
    seed = torch.zeros_like(scores).scatter_(1, class_idx.unsqueeze(1), 1.0)
    activation = _final_activation(logits)
    if activation is None:
        (gradients,) = torch.autograd.grad(scores, [activations], seed, retain_graph=keep_graph, allow_unused=True)
        return gradients
    (at_activation,) = torch.autograd.grad(scores, [GradientEdge(activation, 0)], seed, retain_graph=True)
    node, output = activation.next_functions[0]
    if node is None:
        return None
    below = GradientEdge(node, output)
    (gradients,) = torch.autograd.grad(
        [below], [activations], [at_activation], retain_graph=keep_graph, allow_unused=True
    )
    return gradients


def _final_activation(logits: Tensor) -> Node | None:
    node: Node | None = get_gradient_edge(logits).node
    while node is not None:
        kind = node.name().rstrip("0123456789")
        if kind in FINAL_ACTIVATIONS:
            return node
        if kind not in REARRANGEMENTS:
            return None
        node = node.next_functions[0][0]
    return None
