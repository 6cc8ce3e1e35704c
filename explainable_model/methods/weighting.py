"""A weighted sum of the channels, the last step of most CAM methods."""

import torch
from torch import Tensor


def weighted_sum(weights: Tensor, activations: Tensor) -> Tensor:
    """``map = sum_k w_k A_k``.

    Args:
        weights: ``(M, K)``, one weight per channel; M is N, or a multiple of it for several maps of each image, one
            after the other.
        activations: ``(N, K, *spatial)``, the same dtype.

    Returns:
        Signed map ``(M, *spatial)``.
    """
    maps = weights.shape[0] // activations.shape[0]
    product = torch.matmul(weights.reshape(-1, maps, weights.shape[1]), activations.flatten(2))
    return product.reshape(-1, *activations.shape[2:])
