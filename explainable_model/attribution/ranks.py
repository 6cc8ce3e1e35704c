"""Refuse sorted scores, whose places are ranks and no classes."""

from collections.abc import Iterator
from typing import Any, NoReturn

import torch
from torch import Tensor

from explainable_model.attribution.containers import named_values
from explainable_model.errors import ModelError

SORTING = ("TopkBackward", "SortBackward")
PASSING = ("SoftmaxBackward", "LogSoftmaxBackward", "SigmoidBackward", "MulBackward", "DivBackward", "CloneBackward")
PICKING = ("MaxBackward", "AmaxBackward", "GatherBackward", "IndexBackward", *SORTING)
RESHAPING = (
    "SqueezeBackward", "UnsqueezeBackward", "ViewBackward", "UnsafeViewBackward", "ReshapeAliasBackward",
    "SelectBackward", "SliceBackward", "AliasBackward",
)  # fmt: skip


def refuse_named_ranks(output: Any) -> None:
    """Refuse what ``torch.topk``, ``torch.sort`` or ``torch.max`` returns: values and indices."""
    if type(output).__module__ == "torch.return_types" and hasattr(output, "indices"):
        _refuse(f"torch.return_types.{type(output).__name__}, values and indices")


def refuse_ranks(logits: Tensor) -> None:
    """Refuse ``(N, classes)`` that autograd's graph shows to be sorted for each image."""
    node: Any = logits.grad_fn
    while node is not None and logits.ndim == 2:
        kind = str(node.name()).rstrip("0123456789")
        if kind in SORTING:
            if node._saved_dim in (1, 2**64 - 1) and len(node._saved_self_sym_sizes) == 2:
                _refuse(f"scores behind torch.{kind.removesuffix('Backward').lower()}")
            return
        node = node.next_functions[0][0] if kind in PASSING else None


def refuse_top_scores(output: Any, scores: Tensor) -> None:
    """Refuse one score for each image that is picked from several, beside the number of its class.

    Without such a number it may be the score of a network that takes the maximum over places or patches.
    """
    if not _is_one_each(scores) or not any(map(_is_one_each, _integers(output))):
        return
    node: Any = scores.grad_fn
    while node is not None:
        kind = str(node.name()).rstrip("0123456789")
        if kind in PICKING:
            raise ModelError(
                f"The network returned one score for each image, {tuple(scores.shape)}, beside a whole number: "
                "the score of the class that it predicts, not of a class that can be chosen. Wrap the network so that "
                "it returns the scores of all classes, or pass output= if this is the score of one and the same class."
            )
        node = node.next_functions[0][0] if kind in (*PASSING, *RESHAPING) else None


def _is_one_each(tensor: Tensor) -> bool:
    return tensor.ndim == 1 or (tensor.ndim == 2 and tensor.shape[1] == 1)


def _integers(output: Any) -> Iterator[Tensor]:
    """Every tensor of whole numbers in an output."""
    if isinstance(output, Tensor):
        if not (output.is_floating_point() or output.is_complex() or output.dtype is torch.bool):
            yield output
        return
    for _, value in named_values(output):
        yield from _integers(value)


def _refuse(found: str) -> NoReturn:
    raise ModelError(
        f"The network returned {found}: the largest comes first in each image, so that a place is a rank and no class. "
        "Explain the scores before they are sorted: wrap the network so that it returns them, or pass "
        "target=function(output, class_idx) -> (N,) for the value of a rank."
    )
