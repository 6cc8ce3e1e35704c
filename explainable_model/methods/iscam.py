"""IS-CAM: Score-CAM whose scores are integrated over growing masks."""

import torch
from torch import Tensor

from explainable_model.methods.precision import in_float32
from explainable_model.methods.weighting import weighted_sum


def mask_factors(samples: int) -> list[float]:
    """The factors that multiply the mask of a channel, from the smallest above zero to the largest.

    ``f_i = sum_{j=0}^{i-1} j / N = i (i - 1) / (2 N)`` for ``i = 2 ... N``. The paper's ``f_0`` and ``f_1`` are zero:
    the image is black under every mask, every channel has the same score, and the softmax removes it. So these two
    take no pass.

    Args:
        samples: N, at least 2.

    Returns:
        ``N - 1`` factors; the last is ``(N - 1) / 2``, so masks pass 1 from ``N = 4`` on.

    Source: Naidu et al. 2020, arXiv 2010.03023.

    Example:
        >>> mask_factors(4)
        [0.25, 0.75, 1.5]
    """
    return [i * (i - 1) / (2 * samples) for i in range(2, samples + 1)]


@in_float32
def iscam(activations: Tensor, scores: Tensor, samples: int) -> Tensor:
    """Weight every channel by its score, averaged over masks that grow.

    ``map = sum_k w_k A_k`` with ``w = softmax_k((1 / N) sum_i y_ki)``, where ``A`` are the activations of the target
    layer and ``y_ki`` is the score of the image under the mask of channel ``k`` times the factor ``f_i`` of
    ``mask_factors``. The paper subtracts the score of a baseline image from each, which the softmax removes.

    Args:
        activations: ``(N, K, *spatial)``, floating point.
        scores: ``(N, samples - 1, K)``, in the order of ``mask_factors``.
        samples: how many masks of each channel the paper counts.

    Returns:
        Signed map ``(N, *spatial)``.

    Source: Naidu et al. 2020, IS-CAM, arXiv 2010.03023.

    Example:
        >>> iscam(torch.tensor([[[[1., 3.]], [[2., 0.]]]]), torch.zeros(1, 1, 2), samples=2)
        tensor([[[1.5000, 1.5000]]])
    """
    return weighted_sum(torch.softmax(scores.sum(1) / samples, 1), activations)
