"""Which values of one channel are foreground: those above 0, if the channel holds logits."""

from typing import Any

import torch
from torch import Tensor

from explainable_model.errors import ModelError

# Autograd's nodes behind which no value is negative, by the words for their operators.
POSITIVE = {"SigmoidBackward": "a sigmoid", "SoftmaxBackward": "a softmax", "ExpBackward": "an exponential",
            "SoftplusBackward": "softplus"}  # fmt: skip
# These only scale, invert or rearrange what they are given.
SCALING = (
    "MulBackward", "DivBackward", "AddBackward", "SubBackward", "RsubBackward", "ReciprocalBackward", "PowBackward",
    "ClampBackward", "ClampMinBackward", "ClampMaxBackward", "RoundBackward", "CloneBackward", "ToCopyBackward",
    "SliceBackward", "SelectBackward", "UnsqueezeBackward", "SqueezeBackward", "ViewBackward", "UnsafeViewBackward",
    "UpsampleBilinear", "UpsampleNearest", "UpsampleBicubic",
)  # fmt: skip


def select_foreground(logits: Tensor, threshold: float) -> Tensor:
    """One where a value of ``(N, 1, *spatial)`` is above the threshold, without a gradient.

    Raises:
        ModelError: the threshold is 0, and the values are probabilities, or a multiple of them.
    """
    scores = logits.detach()
    in_memory = scores.device.type == "cpu" and not torch.compiler.is_exporting()
    if in_memory and threshold == 0 and bool((scores >= 0).all()):
        _refuse_probabilities(logits, scores)
    return (scores > threshold).to(logits.dtype)


def _refuse_probabilities(logits: Tensor, scores: Tensor) -> None:
    asked = "Segmentation('own') of one channel takes pixels with a logit above 0, and"
    if bool((scores <= 1).all()):
        raise ModelError(
            f"{asked} every value lies between 0 and 1, as after a sigmoid. Write Segmentation('own', threshold=0.5)."
        )
    ending = _find_positive_ending(logits.grad_fn)
    if ending is not None:
        raise ModelError(
            f"{asked} the network ends in a multiple of {ending}, so that no value is negative (they lie between "
            f"{float(scores.min()):.3g} and {float(scores.max()):.3g}). Write Segmentation('own', threshold=...) with "
            "the value that means a half: 50 for percent, 127.5 for values up to 255."
        )


def _find_positive_ending(node: Any) -> str | None:
    """The words for the function from which a node only scales or rearranges; ``None`` for another."""
    while node is not None:
        kind = str(node.name()).rstrip("0123456789")
        if kind in POSITIVE:
            return POSITIVE[kind]
        sources = [source for source, _ in node.next_functions if source is not None]
        if not kind.startswith(SCALING) or len(sources) != 1:
            return None
        node = sources[0]
    return None
