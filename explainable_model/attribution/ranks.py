"""Refuse sorted scores, whose places are ranks and no classes."""

from typing import Any, NoReturn

from torch import Tensor

from explainable_model.errors import ModelError

SORTING = ("TopkBackward", "SortBackward")
PASSING = ("SoftmaxBackward", "LogSoftmaxBackward", "SigmoidBackward", "MulBackward", "DivBackward", "CloneBackward")


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


def _refuse(found: str) -> NoReturn:
    raise ModelError(
        f"The network returned {found}: the largest comes first in each image, so that a place is a rank and no class. "
        "Explain the scores before they are sorted: wrap the network so that it returns them, or pass "
        "target=function(output, class_idx) -> (N,) for the value of a rank."
    )
