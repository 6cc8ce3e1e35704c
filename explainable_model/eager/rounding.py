"""Gradients that are nothing but rounding, since what the score reads is constant: the mean of a normalized map."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from explainable_model.attribution.network import ForwardRun
from explainable_model.attribution.scores import one_hot

# Times the dtype's precision: a gradient with which a change of all activations moves the score by less may be noise.
TINY_SHARE = 4096
COARSE_EPS = 1e-5  # in 16 bits the gradient of a deep network is no multiple either
FACTOR = 1.37  # no power of two, so that rounding falls elsewhere
SAME_GRADIENT = 0.3  # a gradient is linear in what it is started with, up to this share of its largest value


def without_rounding(
    run: ForwardRun, gradients: Sequence[Tensor], differentiate: Callable[[Tensor], Sequence[Tensor]]
) -> list[Tensor]:
    """Set the gradient of each score to zero that is rounding noise.

    Where a gradient is so small that it may be noise, the score is differentiated once more, multiplied by a factor: a
    gradient is multiplied as well, and noise is other noise.

    Args:
        run: what was differentiated.
        gradients: ``(N, k, ...)`` for each tap.
        differentiate: gives the gradients for other weights ``(N, k, S)`` of the scores.
    """
    values = run.scores.values
    scale = values.abs().amax(1, keepdim=True)
    doubtful = [_is_tiny(gradient, tensor, scale) for gradient, tensor in zip(gradients, run.activations, strict=True)]
    if not any(bool(mask.any()) for mask in doubtful):
        return list(gradients)
    weights = torch.stack([one_hot(column, values) for column in run.scores.columns.unbind(1)], 1)
    again = differentiate(FACTOR * weights)
    return [
        _kept(gradient, other / FACTOR, mask) for gradient, other, mask in zip(gradients, again, doubtful, strict=True)
    ]


def _is_tiny(gradient: Tensor, activations: Tensor, scale: Tensor) -> Tensor:
    """``(N, k)``: whether no change of the activations by their own size can move the score by more than rounding."""
    eps = max(torch.finfo(gradient.dtype).eps, torch.finfo(scale.dtype).eps)
    if eps > COARSE_EPS or gradient.shape[0] != scale.shape[0]:  # frames may be folded into the batch
        return torch.zeros(gradient.shape[:2], dtype=torch.bool, device=gradient.device)
    slope = torch.linalg.vector_norm(gradient.flatten(2), dim=2, dtype=scale.dtype)
    length = torch.linalg.vector_norm(activations.flatten(1), dim=1, keepdim=True, dtype=scale.dtype)
    tiny: Tensor = (slope > 0) & (slope * length < TINY_SHARE * eps * scale)
    return tiny


def _kept(gradient: Tensor, again: Tensor, doubtful: Tensor) -> Tensor:
    difference, largest = ((gradient - again).flatten(2).abs().amax(2), gradient.flatten(2).abs().amax(2))
    noise = doubtful & (difference > SAME_GRADIENT * largest)
    return gradient.masked_fill(noise.reshape(*noise.shape, *[1] * (gradient.ndim - 2)), 0.0)
