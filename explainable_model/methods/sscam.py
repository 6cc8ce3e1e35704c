"""SS-CAM: Score-CAM whose scores are averaged over noisy masks."""

import torch
from torch import Tensor

from explainable_model.methods.precision import in_float32
from explainable_model.methods.weighting import weighted_sum


@in_float32
def sscam(activations: Tensor, scores: Tensor) -> Tensor:
    """Weight every channel by its score, averaged over noisy copies of its mask.

    ``map = sum_k w_k A_k`` with ``w = softmax_k((1 / n) sum_i y_ki)``, where ``A`` are the activations of the target
    layer and ``y_ki`` is the score of the image times ``H_k + noise_i``. ``H_k`` is the mask of channel ``k``, see
    ``masking.upsampled_masks``, and ``noise_i`` is normal noise at image size. This is the paper's first variant; its
    second adds the noise to the image instead. The paper subtracts the score of a baseline image from each, which the
    softmax removes.

    Where this differs from the paper: one ``noise_i`` serves all channels. Each noisy mask has the distribution that
    the paper gives it, and the difference between two channels is that of their masks, not that of their noise.

    Args:
        activations: ``(N, K, *spatial)``, floating point.
        scores: ``(N, n, K)``, one for each noise and channel.

    Returns:
        Signed map ``(N, *spatial)``.

    Source: Wang et al. 2020, SS-CAM, arXiv 2006.14255.

    Example:
        >>> sscam(torch.tensor([[[[1., 3.]], [[2., 0.]]]]), torch.tensor([[[5., 1.], [1., 5.]]]))
        tensor([[[1.5000, 1.5000]]])
    """
    return weighted_sum(torch.softmax(scores.mean(1), 1), activations)
