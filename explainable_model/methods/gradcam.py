"""Grad-CAM."""

import torch
from torch import Tensor


def gradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Weight every channel by the spatial mean of its gradient and sum.

    ``map = sum_k w_k A_k`` with ``w_k = mean_ij g_kij``, where ``A`` are the activations of the
    target layer and ``g = d score / d A``. The rectification of equation 2 is applied by the caller,
    so that the signed map stays available.

    Args:
        activations: ``(N, K, *spatial)``, floating point.
        gradients: the same shape and dtype.

    Returns:
        Signed map ``(N, *spatial)``.

    Source: Selvaraju et al. 2017, arXiv 1610.02391, equations 1 and 2.

    Example:
        >>> activations = torch.tensor([[[[1., 2.], [3., 4.]]]])
        >>> gradcam(activations, torch.full_like(activations, 0.5))
        tensor([[[0.5000, 1.0000],
                 [1.5000, 2.0000]]])
    """
    spatial = activations.shape[2:]
    weights = gradients.flatten(2).mean(2)
    return torch.matmul(weights.unsqueeze(1), activations.flatten(2)).reshape(-1, *spatial)
