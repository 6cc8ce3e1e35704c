"""Methods that weight every activation by its own gradient: HiResCAM, LayerCAM, element-wise Grad-CAM."""

import torch
from torch import Tensor

from explainable_model.methods.precision import in_float32

CANCELLED = 2.0  # a sum of terms below so many roundings of them is none


def hirescam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Multiply activations and gradients element by element and sum over the channels.

    ``map_ij = sum_k g_kij A_kij``, where ``A`` are the activations of the target layer and
    ``g = d score / d A``. The paper's map; the rectification that is customary is applied by the caller.
    Where the layer is followed by global average pooling and one linear layer, this is Grad-CAM.

    Args:
        activations: ``(N, K, *spatial)``, floating point.
        gradients: the same shape and dtype.

    Returns:
        Signed map ``(N, *spatial)``; zeros where the terms cancel up to rounding, as before a normalization of the
        channels, which the layer's scale does not change.

    Source: Draelos and Carin 2020, arXiv 2011.08891.

    Example:
        >>> activations = torch.tensor([[[[1., 2.], [3., 4.]]]])
        >>> hirescam(activations, torch.tensor([[[[1., -1.], [0., 2.]]]]))
        tensor([[[ 1., -2.],
                 [ 0.,  8.]]])
    """
    eps = max(torch.finfo(tensor.dtype).eps for tensor in (activations, gradients))  # with which they were computed
    return _add_products(activations, gradients, eps=eps)


@in_float32
def _add_products(activations: Tensor, gradients: Tensor, *, eps: float) -> Tensor:
    terms = gradients * activations
    cam, size = terms.sum(1), terms.abs().sum(1)
    is_rounding = cam.abs().flatten(1).amax(1) <= CANCELLED * eps * size.flatten(1).amax(1)
    return cam * (~is_rounding).to(cam.dtype).reshape(-1, *[1] * (cam.ndim - 1))


@in_float32
def layercam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Weight every activation by its own positive gradient and sum over the channels.

    ``map_ij = sum_k relu(g_kij) A_kij``, where ``A`` are the activations of the target layer and
    ``g = d score / d A``. The rectification of the map is applied by the caller. Maps of several layers
    are combined with ``fusion.fuse_layercam``.

    Args:
        activations: ``(N, K, *spatial)``, floating point.
        gradients: the same shape and dtype.

    Returns:
        Signed map ``(N, *spatial)``.

    Source: Jiang et al. 2021, LayerCAM, IEEE Transactions on Image Processing 30.

    Example:
        >>> activations = torch.tensor([[[[1., 2.], [3., 4.]]]])
        >>> layercam(activations, torch.tensor([[[[1., -1.], [0., 2.]]]]))
        tensor([[[1., 0.],
                 [0., 8.]]])
    """
    return (gradients.relu() * activations).sum(1)


@in_float32
def elementwise(activations: Tensor, gradients: Tensor) -> Tensor:
    """Rectify every product of activation and gradient and sum over the channels.

    ``map_ij = sum_k relu(g_kij A_kij)``, where ``A`` are the activations of the target layer and
    ``g = d score / d A``. Unlike HiResCAM, evidence against the class in one channel cannot cancel
    evidence for it in another.

    Args:
        activations: ``(N, K, *spatial)``, floating point.
        gradients: the same shape and dtype.

    Returns:
        Map ``(N, *spatial)``, nowhere negative.

    Source: Pillai and Pirsiavash 2021, Explainable Models with Consistent Interpretations, AAAI.

    Example:
        >>> activations = torch.tensor([[[[1., 2.]], [[1., -2.]]]])
        >>> elementwise(activations, torch.tensor([[[[1., -1.]], [[-1., -1.]]]]))
        tensor([[[1., 2.]]])
    """
    return (gradients * activations).relu().sum(1)
