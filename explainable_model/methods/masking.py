"""Methods that read the score of masked copies: Score-CAM, Ablation-CAM, Recipro-CAM, ViT-ReciproCAM.

The caller runs the network, in chunks of any size. This module makes the masks before these runs, and the maps from
their scores.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from explainable_model.attribution.postprocess import minmax, resize
from explainable_model.methods.precision import in_float32
from explainable_model.methods.weighting import weighted_sum

# Scores closer to zero than this share of the largest drop do not enlarge the weights further.
SMALLEST_SHARE = 1e-6


@in_float32
def upsampled_masks(activations: Tensor, size: Sequence[int]) -> Tensor:
    """One mask in [0, 1] at image size for every channel: resized, then scaled by its own range.

    ``H_k = s(up(A_k))`` with ``s(A) = (A - min A) / (max A - min A)``. The mask of a channel that is
    constant is zero. The paper leaves that case open, the authors' code gives such a channel no weight,
    and both pytorch-grad-cam and torchcam make its mask zero. Channels are independent: a slice of the
    activations gives that slice of the masks.

    Args:
        activations: ``(N, K, *spatial)``, floating point.
        size: spatial size of the image.

    Returns:
        ``(N, K, *size)``.

    Source: Wang et al. 2020, Score-CAM, arXiv 1910.01279.

    Example:
        >>> upsampled_masks(torch.tensor([[[[1., 3.]], [[5., 5.]]]]), (1, 2))
        tensor([[[[0., 1.]],
        <BLANKLINE>
                 [[0., 0.]]]])
    """
    channels = activations.flatten(0, 1)
    flat = channels.flatten(1)
    # Interpolating a constant leaves differences in the last bit, which the range would blow up.
    varies = (flat.amax(1) > flat.amin(1)).to(flat.dtype).reshape(-1, *[1] * len(size))
    masks = minmax(resize(channels, size)) * varies
    return masks.reshape(-1, activations.shape[1], *size)


def scorecam_weights(scores: Tensor) -> Tensor:
    """``w_k = exp(y_k) / sum_j exp(y_j)``: softmax over the channels.

    ``y_k`` is the score of the image multiplied by the mask of channel ``k``. The paper subtracts the
    score of a baseline image from each, which the softmax removes again; so it takes no pass.

    Args:
        scores: ``(N, K)``, floating point.

    Returns:
        ``(N, K)``, each row of sum one.

    Source: Wang et al. 2020, arXiv 1910.01279.

    Example:
        >>> scorecam_weights(torch.tensor([[1., 3.]]).log())
        tensor([[0.2500, 0.7500]])
    """
    return torch.softmax(scores, 1)


@in_float32
def scorecam(activations: Tensor, scores: Tensor) -> Tensor:
    """``map = sum_k w_k A_k`` with the weights of ``scorecam_weights``.

    Args:
        activations: ``(N, K, *spatial)``, floating point.
        scores: ``(N, K)``, of the image under each of ``upsampled_masks``.

    Returns:
        Signed map ``(N, *spatial)``.

    Source: Wang et al. 2020, arXiv 1910.01279.

    Example:
        >>> scorecam(torch.tensor([[[[1., 3.]], [[2., 0.]]]]), torch.zeros(1, 2))
        tensor([[[1.5000, 1.5000]]])
    """
    return weighted_sum(scorecam_weights(scores), activations)


def ablation_weights(score: Tensor, ablated: Tensor) -> Tensor:
    """``w_k = (y - y_k) / |y|``: the share of the score that is lost without channel ``k``.

    Where this differs from the paper: it divides by ``y``, which for a negative score turns every weight
    round: channels that the score needs would count against it. ``|y|`` is the same for positive
    scores. It is at least 1e-6 of the largest ``|y - y_k|``, so that a score of zero has weights; being
    one positive number per image, it does not change a normalized map.

    Args:
        score: ``(N,)``, of the activations as they are; floating point.
        ablated: ``(N, K)``, of the activations with channel ``k`` set to zero.

    Returns:
        ``(N, K)``.

    Source: Desai and Ramaswamy 2020, Ablation-CAM, WACV.

    Example:
        >>> ablation_weights(torch.tensor([4.]), torch.tensor([[3., 5.]]))
        tensor([[ 0.2500, -0.2500]])
    """
    drop = score.unsqueeze(1) - ablated
    smallest = (SMALLEST_SHARE * drop.abs().amax(1, keepdim=True)).clamp_min(torch.finfo(score.dtype).tiny)
    return drop / score.abs().unsqueeze(1).maximum(smallest)


@in_float32
def ablationcam(activations: Tensor, score: Tensor, ablated: Tensor) -> Tensor:
    """``map = sum_k w_k A_k`` with the weights of ``ablation_weights``.

    Args:
        activations: ``(N, K, *spatial)``, floating point.
        score: ``(N,)``, of the activations as they are.
        ablated: ``(N, K)``, of the activations with channel ``k`` set to zero.

    Returns:
        Signed map ``(N, *spatial)``.

    Source: Desai and Ramaswamy 2020, Ablation-CAM, WACV.

    Example:
        >>> ablationcam(torch.tensor([[[[4., 8.]]]]), torch.tensor([4.]), torch.tensor([[3.]]))
        tensor([[[1., 2.]]])
    """
    return weighted_sum(ablation_weights(score, ablated), activations)


def reciprocam_masks(spatial: Sequence[int], *, gaussian: bool = False, dtype: torch.dtype = torch.float32) -> Tensor:
    """One mask for every position: multiplied with the mask, the activations of that position alone remain.

    Where this differs from the authors' code: there, the Gaussian variant writes the activations of the
    one position to its neighbors too; here, as in the paper's equation, the mask multiplies the
    activations, so that neighbors keep their own. Both cut the mask off at the border.

    Args:
        spatial: size of the map, one to three dimensions.
        gaussian: let the neighbors through as well, by the binomial ``[1, 2, 1] / 4`` in every dimension
            (the 3 x 3 mask ``[[1, 2, 1], [2, 4, 2], [1, 2, 1]] / 16``).
        dtype: of the masks.

    Returns:
        ``(P, *spatial)`` with P the number of positions, in row-major order.

    Source: Byun and Lee 2022, Recipro-CAM, arXiv 2209.14074.

    Example:
        >>> reciprocam_masks((1, 3), gaussian=True)
        tensor([[[0.2500, 0.1250, 0.0000]],
        <BLANKLINE>
                [[0.1250, 0.2500, 0.1250]],
        <BLANKLINE>
                [[0.0000, 0.1250, 0.2500]]])
    """
    masks = torch.ones(1, 1, dtype=dtype)
    for size in spatial:
        band = torch.eye(size, dtype=dtype)
        if gaussian:
            neighbors = torch.ones(size, size, dtype=dtype).tril(1).triu(-1)
            band = (neighbors + band) / 4
        masks = torch.kron(masks, band)
    return masks.reshape(prod(spatial), *spatial)


@in_float32
def reciprocam(scores: Tensor, spatial: Sequence[int]) -> Tensor:
    """Arrange the scores of all positions as a map, less the smallest.

    ``map_p = y_p - min_q y_q`` with ``y_p`` the score of the activations under the mask of position ``p``;
    the division by the range that the paper adds is the caller's normalization. The smallest is
    subtracted here, since all scores may be negative and the caller rectifies the map. The authors take
    softmax probabilities for scores.

    Args:
        scores: ``(N, P)``, floating point, in the order of ``reciprocam_masks``.
        spatial: size of the map.

    Returns:
        Map ``(N, *spatial)``, zero at its smallest.

    Source: Byun and Lee 2022, Recipro-CAM, arXiv 2209.14074.

    Example:
        >>> reciprocam(torch.tensor([[-3., -1.]]), (1, 2))
        tensor([[[0., 2.]]])
    """
    return (scores - scores.amin(1, keepdim=True)).reshape(-1, *spatial)
