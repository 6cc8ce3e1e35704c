"""Say why a map is zero everywhere, or next to nothing, and what to try; refuse a map that is no number."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from explainable_model.attribution.boxes import BoxScore, read_table
from explainable_model.attribution.plan import Plan
from explainable_model.attribution.targets import Difference, Target
from explainable_model.errors import CancelledMapWarning, ModelError, ZeroMapWarning
from explainable_model.explanation import Explanation

CANCELLED = 1e-3  # of the sizes of the products; sums of a thousand products with random signs reach a tenth


def check_maps(plan: Plan, explanation: Explanation[Tensor], signed: Sequence[Tensor]) -> None:
    """Warn where a map in host memory is zero or next to nothing everywhere, and refuse one that is NaN.

    Args:
        plan: what was explained.
        explanation: of the images.
        signed: the map ``(N, k, *grid)`` before it was rectified, if one is known, and of a method that adds up
            products the sum of their magnitudes.

    Raises:
        ModelError: a map is NaN.
    """
    if explanation.cam.device.type != "cpu":
        return
    if len(signed) > 1:
        _warn_of_cancelled(plan, *signed)
    maps = explanation.cam.flatten(1 if plan.top_k is None else 2)
    largest = maps.amax(-1) if not plan.postprocess.diverging else maps.abs().amax(-1)  # NaN where a value is
    blank = ~(largest > 0)
    if isinstance(plan.target, BoxScore):
        blank = blank & read_table(explanation.logits).valid.reshape(blank.shape)
    if not bool(blank.any()):
        return
    class_idx = int(explanation.class_idx[blank][0])
    if bool(largest.isnan().any()):
        raise ModelError(
            f"The map of class {int(explanation.class_idx[largest.isnan()][0])} is NaN for a finite image: the "
            "gradient of its score is infinite, as that of a logarithm of zero. Explain a logit: give target= or "
            "output= for what comes before the probabilities, or run the network in float64."
        )
    at_blank = signed[0].reshape(*blank.shape, -1)[blank] if signed else None
    warnings.warn(
        f"The map of class {class_idx} is zero everywhere ({int(blank.sum())} of {blank.numel()} maps are). "
        f"{_reason_of_target(plan.target, class_idx) or _reason(at_blank)}",
        ZeroMapWarning,
        stacklevel=5,
    )


def _warn_of_cancelled(plan: Plan, cam: Tensor, sizes: Tensor) -> None:
    largest, size = (tensor.double().abs().flatten(2).amax(2) for tensor in (cam, sizes))
    is_cancelled = (largest > 0) & (largest < CANCELLED * size)
    if not bool(is_cancelled.any()):
        return
    share = float((largest / size)[is_cancelled].max())
    warnings.warn(
        f"The products of activations and gradients that {plan.method.title} adds up cancel at every position of "
        f"{plan.layers[0]!r}: no sum exceeds {share:.0e} of their sizes ({int(is_cancelled.sum())} of "
        f"{is_cancelled.numel()} maps). So it is before a normalization of the channels, and the map shows what its "
        "epsilon leaves, or rounding. Try method 'layercam', or the layer after the normalization.",
        CancelledMapWarning,
        stacklevel=6,
    )


@contextmanager
def quiet_placeholder(image: Tensor) -> Iterator[None]:
    """Ignore ``ZeroMapWarning`` where an example image is one value throughout, as ``torch.zeros`` makes it.

    Args:
        image: ``(N, C, *spatial)``. It has nothing to see, so an empty map of it says nothing about the network.
    """
    with warnings.catch_warnings():
        if bool((image == image.flatten()[0]).all()):
            warnings.simplefilter("ignore", ZeroMapWarning)
        yield


def _reason_of_target(target: Target, class_idx: int) -> str:
    if not isinstance(target, Difference) or target.other != class_idx:
        return ""
    return (
        f"Class {class_idx} is compared with itself: Difference(other={target.other}) takes its score from that of "
        "each class. Ask for another class with class_idx, or for another rival with Difference(other=...)."
    )


def _reason(signed: Tensor | None) -> str:
    if signed is None:
        return "Try signed=True, another layer, or method 'layercam' or 'eigencam'."
    if not bool(torch.any(signed)):
        return (
            "The signed map is zero, too: the gradient of the score vanishes at the layer (a saturated output, dead "
            "activations, a class without weights), or its mean does (instance normalization or a softmax over all "
            "positions follows), or its products with the activations cancel (a normalization of the channels "
            "follows, and 'hirescam' adds them up), or the activations vanish. Try another layer, method 'layercam' or "
            "'hirescam', a target that is a logit instead of a probability, or method 'eigencam', which needs no "
            "gradient."
        )
    if bool((signed <= 0).all()):
        return (
            "The signed map is nowhere positive: all evidence at the layer speaks against the class, as it does for a "
            "class with negative weights alone. Try signed=True, which shows it, or another class."
        )
    return "The map is constant, and normalize='minmax' makes a constant zero. Try normalize='max', or another layer."
