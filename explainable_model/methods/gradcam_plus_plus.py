"""Grad-CAM++ and Smooth Grad-CAM++."""

import torch
from torch import Tensor

from explainable_model.methods.precision import in_float32
from explainable_model.methods.weighting import weighted_sum

# A denominator of which cancellation has left less than this share of its terms is no longer trusted.
SMALLEST_SHARE = 1e-3


@in_float32
def gradcam_plus_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    """Weight every channel by its positive gradients, each with a coefficient of its own.

    ``map = sum_k w_k A_k`` with ``w_k = sum_ij alpha_kij relu(g_kij)`` and
    ``alpha_kij = g_kij^2 / (2 g_kij^2 + S_k g_kij^3)``, where ``A`` are the activations of the target
    layer, ``S_k = sum_ab A_kab``, and ``g = d score / d A``. The paper takes ``exp(score)`` for the class
    score, whose second and third derivatives are ``exp(score) g^2`` and ``exp(score) g^3`` where the
    score is piecewise linear in ``A``.

    Where this differs from the paper:

    - The fraction is reduced to ``1 / (2 + S_k g_kij)``, which is the same number and has neither a
      square nor a cube to underflow: a gradient of 1e-20 has the coefficient it should have.
    - The factor ``exp(score)`` of every weight is left out. It is one positive number per image, which
      normalization removes, and it overflows.
    - The paper's activations are rectified. Where they are not, ``S_k`` can be negative and the
      denominator have a pole; a coefficient whose denominator is not above 0.001 of the sum of its terms
      (which includes all negative ones) is zero.
    - The authors' code divides the coefficients of a channel by their sum; their equations do not, and
      neither does this.

    The rectification of the map is applied by the caller.

    Args:
        activations: ``(N, K, *spatial)``, floating point.
        gradients: the same shape and dtype.

    Returns:
        Signed map ``(N, *spatial)``.

    Source: Chattopadhyay et al. 2018, arXiv 1710.11063, equation 19.

    Example:
        >>> activations = torch.tensor([[[[1., 0.], [0., 1.]]]])
        >>> gradcam_plus_plus(activations, torch.full_like(activations, 0.5))
        tensor([[[0.6667, 0.0000],
                 [0.0000, 0.6667]]])
    """
    gradients = gradients.flatten(2)
    total = activations.flatten(2).sum(2, keepdim=True)
    coefficients = _coefficients(torch.ones_like(gradients), total * gradients)
    return weighted_sum((coefficients * gradients.relu()).sum(2), activations)


@in_float32
def smoothgradcam_plus_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM++ with derivatives that are averaged over noisy copies of the image.

    ``map = sum_k w_k A_k`` with ``w_k = sum_ij alpha_kij relu(D1_kij)`` and
    ``alpha_kij = D2_kij / (2 D2_kij + S_k D3_kij)``. ``A`` are the activations of the image itself and
    ``S_k = sum_ab A_kab``; ``Dp = (1 / n) sum_m g_m^p`` averages the p-th power of the gradients of the
    n copies, which for the exponential score of Grad-CAM++ is the p-th derivative.

    Where this differs from the paper: it prints ``D1`` as the numerator of the coefficient, with which
    it would not be Grad-CAM++ for one copy without noise; this has ``D2``. Powers are taken of
    gradients relative to the largest among the copies, so that they neither underflow nor overflow.
    Otherwise as ``gradcam_plus_plus``.

    Args:
        activations: ``(N, K, *spatial)`` of the clean image, floating point.
        gradients: ``(N, n, K, *spatial)`` of its n noisy copies, the same dtype.

    Returns:
        Signed map ``(N, *spatial)``.

    Source: Omeiza et al. 2019, arXiv 1908.01224.

    Example:
        >>> activations = torch.tensor([[[[1., 0.], [0., 1.]]]])
        >>> smoothgradcam_plus_plus(activations, torch.full((1, 4, 1, 2, 2), 0.5))
        tensor([[[0.6667, 0.0000],
                 [0.0000, 0.6667]]])
    """
    gradients = gradients.flatten(3)
    largest = gradients.abs().amax(1)
    relative = gradients / largest.unsqueeze(1).clamp_min(torch.finfo(gradients.dtype).tiny)
    squares = relative * relative
    total = activations.flatten(2).sum(2, keepdim=True)
    third = total * largest * (squares * relative).mean(1)
    coefficients = _coefficients(squares.mean(1), third)
    return weighted_sum((coefficients * gradients.mean(1).relu()).sum(2), activations)


def _coefficients(second: Tensor, third: Tensor) -> Tensor:
    """``D2 / (2 D2 + S D3)``, zero where the denominator is not safely positive."""
    denominator = 2 * second + third
    smallest = SMALLEST_SHARE * (2 * second + third.abs())
    # The limit also keeps the branch that is not taken finite.
    limit = smallest.clamp_min(torch.finfo(second.dtype).tiny)
    return torch.where(denominator > smallest, second / denominator.clamp_min(limit), 0.0)
