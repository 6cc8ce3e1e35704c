"""ShapleyCAM."""

from torch import Tensor

from explainable_model.methods.precision import in_float32
from explainable_model.methods.weighting import weighted_sum


@in_float32
def shapleycam(activations: Tensor, gradients: Tensor, hessian_products: Tensor) -> Tensor:
    """Grad-CAM with the second-order term of the Shapley value of each activation.

    ``map = sum_k w_k A_k`` with ``w_k = mean_ij (g_kij - (H A)_kij / 2)``, where ``A`` are the activations
    of the target layer, ``g = d score / d A`` and ``H A`` the product of the score's Hessian by ``A`` with
    ``A``: the gradient of ``sum(g A)`` by ``A`` with that factor ``A`` held fixed. Where the tail of the
    network is piecewise linear, ``H`` is zero and this is Grad-CAM; the paper's scores (after the softmax)
    are not.

    Args:
        activations: ``(N, K, *spatial)``, floating point.
        gradients: the same shape and dtype.
        hessian_products: the same shape and dtype.

    Returns:
        Signed map ``(N, *spatial)``.

    Source: Cai 2025, arXiv 2501.06261 (ShapleyCAM).

    Example:
        >>> activations = torch.tensor([[[[1., 2.]]]])
        >>> shapleycam(activations, torch.tensor([[[[3., 1.]]]]), torch.tensor([[[[2., 2.]]]]))
        tensor([[[1., 2.]]])
    """
    weights = (gradients - hessian_products / 2).flatten(2).mean(2)
    return weighted_sum(weights, activations)
