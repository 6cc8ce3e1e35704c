"""From whatever a network returns to scores, and their gradients by autograd."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, TypeAlias

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


def predicted_class_idx(image: Tensor, top_k: int | None) -> Tensor:
    """The ``class_idx`` that asks for the predicted class of each image, or for its ``top_k`` first ones."""
    shape = image.shape[:1] if top_k is None else (image.shape[0], top_k)
    return torch.full(shape, PREDICTED, dtype=torch.int64, device=image.device)


def check_class_idx(class_idx: Tensor, batch: int, top_k: int | None = None) -> None:
    """Refuse a class index that is not int64 of shape ``(N,)``, or ``(N, top_k)``.

    Raises:
        InputError: wrong type, dtype or shape.
    """
    shape = (batch,) if top_k is None else (batch, top_k)
    each = "one class per image" if top_k is None else f"{top_k} classes per image"
    if not isinstance(class_idx, Tensor) or class_idx.dtype != torch.int64:
        got = f"a {class_idx.dtype} tensor" if isinstance(class_idx, Tensor) else type(class_idx).__name__
        raise InputError(
            f"class_idx is {got}; expected an int64 tensor of shape {shape}, {each}, "
            f"e.g. torch.tensor([281]). Use {PREDICTED} or None for the predicted class."
        )
    if class_idx.shape != shape:
        raise InputError(f"class_idx has shape {tuple(class_idx.shape)}; expected {shape}, {each}.")


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


def one_hot(columns: Tensor, values: Tensor) -> Tensor:
    """``(N, S)``: one in each image's column; the gradient that its score starts with."""
    return torch.zeros_like(values).scatter_(1, columns.unsqueeze(1), 1.0)


def score_gradient(
    logits: Tensor,
    values: Tensor,
    seed: Tensor,
    activations: Sequence[Tensor],
    *,
    through_final: bool = False,
    keep_graph: bool = False,
    create_graph: bool = False,
    batched: bool = False,
) -> list[Tensor | None]:
    """Gradient of ``(values * seed).sum()`` with respect to the activations.

    Where the network ends in sigmoid or softmax, the score is the logit under it: the gradient is
    started at that function's input, so that a saturated prediction (whose own derivative rounds to
    zero) still has a map.

    Args:
        logits: the network's output, with its graph.
        values: ``(N, S)``, the scores.
        seed: ``(N, S)``, the weight of each; ``(k, N, S)`` where ``batched``.
        activations: the tensors of that graph to differentiate for.
        through_final: differentiate a final sigmoid or softmax as well.
        keep_graph: leave the graph in place for another call.
        create_graph: make the gradient itself differentiable.
        batched: several seeds in one backward pass.

    Returns:
        A tensor shaped like each of the activations (with k in front where ``batched``), or ``None``
        where the score does not depend on them.
    """
    activation = None if through_final else _final_activation(logits)
    outputs: Sequence[Any] = [values]
    if activation is not None:
        edge = GradientEdge(activation, 0)
        (seed,) = torch.autograd.grad([values], [edge], [seed], retain_graph=True, is_grads_batched=batched)
        node, output = activation.next_functions[0]
        if node is None:
            return [None for _ in activations]
        outputs = [GradientEdge(node, output)]
    return list(
        torch.autograd.grad(
            outputs,
            list(activations),
            [seed],
            retain_graph=keep_graph or create_graph,
            create_graph=create_graph,
            allow_unused=True,
            is_grads_batched=batched,
        )
    )


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
