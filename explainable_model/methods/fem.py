"""FEM, the feature explanation method."""

import torch
from torch import Tensor

from explainable_model.methods.precision import in_float32
from explainable_model.methods.weighting import weighted_sum

SIGMAS = 2.0


@in_float32
def fem(activations: Tensor) -> Tensor:
    """Mark where a channel is unusually strong and sum the marks, weighted by the mean of the channel.

    ``map_ij = sum_k mu_k [A_kij > mu_k + 2 sigma_k]``, where ``A`` are the activations of the target
    layer and ``mu_k`` and ``sigma_k`` their mean and standard deviation (of the population) over space;
    ``[...]`` is 1 where it holds. It explains no class.

    Where this differs from the paper: nowhere; a channel that is constant up to rounding has no marks.
    Fewer than 6 positions cannot hold a value more than two standard deviations above their mean
    (Samuelson's inequality), so the map is then zero.

    Args:
        activations: ``(N, K, *spatial)``, floating point.

    Returns:
        Signed map ``(N, *spatial)``.

    Source: Fuad et al. 2020, Features Understanding in 3D CNNs for Actions Recognition in Video, IPTA.

    Example:
        >>> fem(torch.tensor([[[[6., 0., 0.], [0., 0., 0.]]]]))
        tensor([[[1., 0., 0.],
                 [0., 0., 0.]]])
    """
    flat = activations.flatten(2)
    mean = flat.mean(2, keepdim=True)
    deviation = flat - mean
    # Relative to the largest, so that squares neither underflow nor overflow.
    deviation = deviation / deviation.abs().amax(2, keepdim=True).clamp_min(torch.finfo(flat.dtype).tiny)
    sigma = (deviation * deviation).mean(2, keepdim=True).sqrt()
    marks = (deviation > SIGMAS * sigma).to(flat.dtype)
    return weighted_sum(mean.squeeze(2), marks.reshape(activations.shape))
