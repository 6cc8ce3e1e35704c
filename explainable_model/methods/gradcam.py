"""Grad-CAM."""

from torch import Tensor

from explainable_model.methods.precision import in_float32
from explainable_model.methods.weighting import weighted_sum


@in_float32
def gradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Weight every channel by the spatial mean of its gradient and sum.

    ``map = sum_k w_k A_k`` with ``w_k = mean_ij g_kij``, where ``A`` are the activations of the
    target layer and ``g = d score / d A``. The rectification of equation 2 is applied by the caller,
    so that the signed map stays available.

    Args:
        activations: ``(N, K, *spatial)``, floating point.
        gradients: ``(M, K, *spatial)``, the same dtype; M is N, or a multiple of it for several classes of each image,
            one after the other.

    Returns:
        Signed map ``(M, *spatial)``.

    Source: Selvaraju et al. 2017, arXiv 1610.02391, equations 1 and 2.

    Example:
        >>> activations = torch.tensor([[[[1., 2.], [3., 4.]]]])
        >>> gradcam(activations, torch.full_like(activations, 0.5))
        tensor([[[0.5000, 1.0000],
                 [1.5000, 2.0000]]])
    """
    return weighted_sum(gradients.flatten(2).mean(2), activations)
