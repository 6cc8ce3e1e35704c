"""The step that most CAM methods end with: a weighted sum of the channels."""

import torch
from torch import Tensor


def weighted_sum(weights: Tensor, activations: Tensor) -> Tensor:
    """``map = sum_k w_k A_k``.

    Args:
        weights: ``(N, K)``, one weight per channel.
        activations: ``(N, K, *spatial)``, the same dtype.

    Returns:
        Signed map ``(N, *spatial)``.
    """
    return torch.matmul(weights.unsqueeze(1), activations.flatten(2)).reshape(-1, *activations.shape[2:])
