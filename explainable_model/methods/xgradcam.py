"""XGrad-CAM."""

import torch
from torch import Tensor

from explainable_model.methods.precision import in_float32
from explainable_model.methods.weighting import weighted_sum

# A channel whose activations cancel to less than this share of their magnitude is divided by that share.
SMALLEST_SHARE = 1e-3


@in_float32
def xgradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Weight every channel by the mean of its gradient, weighted by the activations.

    ``map = sum_k w_k A_k`` with ``w_k = sum_ij g_kij A_kij / sum_ij A_kij``, where ``A`` are the
    activations of the target layer and ``g = d score / d A``. The rectification is applied by the
    caller.

    Where this differs from the paper: its activations are rectified, so their sum is zero only where the
    channel is. With SiLU, GELU or no activation function they cancel, and the weight has a pole. The
    sum keeps its sign and is at least 0.001 of ``sum_ij |A_kij|``; sums above that are untouched.

    Args:
        activations: ``(N, K, *spatial)``, floating point.
        gradients: the same shape and dtype.

    Returns:
        Signed map ``(N, *spatial)``.

    Source: Fu et al. 2020, arXiv 2008.02312.

    Example:
        >>> activations = torch.tensor([[[[1., 3.], [0., 0.]]]])
        >>> xgradcam(activations, torch.tensor([[[[2., 1.], [9., 9.]]]]))
        tensor([[[1.2500, 3.7500],
                 [0.0000, 0.0000]]])
    """
    flat = activations.flatten(2)
    total = flat.sum(2)
    smallest = (SMALLEST_SHARE * flat.abs().sum(2)).clamp_min(torch.finfo(flat.dtype).tiny)
    safe = torch.where(total < 0, -1.0, 1.0) * total.abs().maximum(smallest)
    weights = (gradients.flatten(2) * flat).sum(2) / safe
    return weighted_sum(weights, activations)
