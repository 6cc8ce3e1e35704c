"""Maps at image resolution, from gradients by the image: saliency and what grew out of it."""

from collections.abc import Sequence

from torch import Tensor

from explainable_model.attribution.counting import counting
from explainable_model.attribution.postprocess import minmax, resize
from explainable_model.methods.precision import in_float32


def saliency(gradients: Tensor) -> Tensor:
    """``map_ij = max_c |g_cij|`` with ``g = d score / d image``.

    The same reduction makes a map of guided backpropagation (Springenberg et al. 2015, arXiv 1412.6806),
    whose gradients pass a ReLU only where they are positive.

    Args:
        gradients: ``(N, C, *size)``, floating point.

    Returns:
        Map ``(N, *size)``, not negative.

    Source: Simonyan et al. 2014, arXiv 1312.6034, section 3.1.

    Example:
        >>> saliency(torch.tensor([[[[1., 0.]], [[-2., 0.5]]]]))
        tensor([[[2.0000, 0.5000]]])
    """
    return gradients.abs().amax(1)


@in_float32
def inputxgradient(image: Tensor, gradients: Tensor) -> Tensor:
    """``map_ij = sum_c x_cij g_cij`` with ``x`` the image as the network gets it and ``g = d score / d x``.

    For a network without biases whose activations are piecewise linear, the map adds up to the score.

    Args:
        image: ``(N, C, *size)``, floating point.
        gradients: the same shape and dtype.

    Returns:
        Signed map ``(N, *size)``.

    Source: Shrikumar et al. 2016, arXiv 1605.01713.

    Example:
        >>> inputxgradient(torch.tensor([[[[1., 2.]], [[3., 4.]]]]), torch.tensor([[[[1., 0.]], [[1., -1.]]]]))
        tensor([[[ 4., -4.]]])
    """
    return (image * gradients).sum(1)


@in_float32
def smoothgrad(gradients: Tensor) -> Tensor:
    """``map_ij = max_c |(1 / n) sum_m g_mcij|``: the saliency of gradients averaged over noisy images.

    Signs are averaged too, as in the paper's equation, so that noise cancels; magnitudes are taken after
    that.

    Args:
        gradients: ``(N, n, C, *size)``, at n noisy copies of each image; floating point.

    Returns:
        Map ``(N, *size)``, not negative.

    Source: Smilkov et al. 2017, SmoothGrad, arXiv 1706.03825.

    Example:
        >>> smoothgrad(torch.tensor([[[[[1., 0.]]], [[[-3., 4.]]]]]))
        tensor([[[1., 2.]]])
    """
    return saliency(gradients.mean(1))


@in_float32
def smoothgrad_sq(gradients: Tensor) -> Tensor:
    """``map_ij = max_c (1 / n) sum_m g_mcij^2``: the mean square of gradients at noisy images.

    Signs do not cancel, so that a place where the gradient changes its sign stays.

    Args:
        gradients: ``(N, n, C, *size)``, at n noisy copies of each image; floating point.

    Returns:
        Map ``(N, *size)``, not negative.

    Source: Hooker et al. 2019, SmoothGrad-Squared, arXiv 1806.10758.

    Example:
        >>> smoothgrad_sq(torch.tensor([[[[[1., 0.]]], [[[-3., 4.]]]]]))
        tensor([[[5., 8.]]])
    """
    return gradients.square().mean(1).amax(1)


@in_float32
def vargrad(gradients: Tensor) -> Tensor:
    """``map_ij = max_c (1 / n) sum_m (g_mcij - mean_m g_mcij)^2``: the variance of gradients at noisy images.

    Args:
        gradients: ``(N, n, C, *size)``, at n noisy copies of each image; floating point.

    Returns:
        Map ``(N, *size)``, not negative.

    Source: Adebayo et al. 2018, VarGrad, arXiv 1810.03307.

    Example:
        >>> vargrad(torch.tensor([[[[[1., 0.]]], [[[-3., 4.]]]]]))
        tensor([[[4., 4.]]])
    """
    return (gradients - gradients.mean(1, keepdim=True)).square().mean(1).amax(1)


@in_float32
def expected_gradients(products: Tensor) -> Tensor:
    """``map_ij = sum_c E[(x_cij - x'_cij) g_cij]``, with ``g`` the gradient at a random point between ``x'`` and ``x``.

    The expectation runs over baselines ``x'`` and over points ``x' + a (x - x')`` with ``a`` uniform in (0, 1). The
    map adds up to the score of the image less the mean score of the baselines, up to the error of sampling.

    Where this differs from the paper: each baseline takes its turn instead of being drawn.

    Args:
        products: ``(N, C, *size)``: the mean of the products.

    Returns:
        Signed map ``(N, *size)``.

    Source: Erion et al. 2021, arXiv 1906.10670. With noise on the image it is GradientSHAP of Lundberg and
    Lee 2017, arXiv 1705.07874, as captum has it.

    Example:
        >>> expected_gradients(torch.tensor([[[[1., 2.]], [[3., -4.]]]]))
        tensor([[[ 4., -2.]]])
    """
    return products.sum(1)


def integration_path(image: Tensor, baseline: Tensor, steps: int) -> Tensor:
    """Images between the baseline and the image, at the middles of equal steps.

    ``x_m = x' + (m - 1/2) / n (x - x')`` for ``m = 1 ... n``.

    Args:
        image: ``(N, C, *size)``, floating point.
        baseline: the image ``x'`` that stands for nothing to see; broadcastable to the image.
        steps: n.

    Returns:
        ``(N, n, C, *size)``.

    Example:
        >>> integration_path(torch.tensor([[[4.]]]), torch.tensor([[[0.]]]), 2).flatten()
        tensor([1., 3.])
    """
    middles = (counting(image.new_ones(steps)) + 0.5) / steps
    middles = middles.to(image.dtype).reshape(1, steps, *[1] * (image.ndim - 1))
    start = baseline.unsqueeze(1)
    return start + middles * (image.unsqueeze(1) - start)


@in_float32
def integrated_gradients(image: Tensor, baseline: Tensor, gradients: Tensor) -> Tensor:
    """``map_ij = sum_c (x_cij - x'_cij) (1 / n) sum_m g_mcij``.

    ``g_m`` is the gradient of the score at the m-th image of ``integration_path``. The map adds up to
    ``score(x) - score(x')``, up to the error of the integral.

    Where this differs from the paper: its equation 3 takes the right end of each step (``m / n``), this
    the middle. The error falls with the square of the number of steps instead of the number itself.

    Args:
        image: ``(N, C, *size)``, floating point.
        baseline: broadcastable to the image.
        gradients: ``(N, n, C, *size)``.

    Returns:
        Signed map ``(N, *size)``.

    Source: Sundararajan et al. 2017, arXiv 1703.01365, equation 3.

    Example:
        >>> integrated_gradients(torch.tensor([[[4.]]]), torch.tensor([[[1.]]]), torch.tensor([[[[1.]], [[3.]]]]))
        tensor([[6.]])
    """
    return ((image - baseline) * gradients.mean(1)).sum(1)


@in_float32
def fullgrad(image: Tensor, gradients: Tensor, bias_gradients: Sequence[Tensor]) -> Tensor:
    """``map = sum_c psi(x_c g_c) + sum_l sum_k psi(b_lk)``.

    ``x`` is the image, ``g = d score / d x``, and ``b_lk`` the bias of channel ``k`` in operator ``l`` times
    the gradient of the score by that channel, at every position. ``psi`` takes magnitudes, scales the
    channel to [0, 1] and resizes it to the image. The bias of an operator is ``y - J z`` with its output ``y``,
    its input ``z`` and its Jacobian ``J``: the bias of a convolution, the output of batch norm for an input of
    zero, the upper bound of a ReLU6, the implicit bias of a smooth activation. So ``x g`` and all ``b`` (those
    without space, too, which have no map) add up to the score. Group norm and layer norm are nearly all bias,
    since their output does not grow with their input.

    Where this differs from the authors' code: that scales all channels of a layer by one range. Here, as
    in the paper's equation, each channel has its own.

    Args:
        image: ``(N, C, *size)``, floating point.
        gradients: the same shape and dtype.
        bias_gradients: ``(N, K, *spatial)`` for each operator with a bias, of any sizes; those without space are
            left out.

    Returns:
        Map ``(N, *size)``, not negative.

    Source: Srinivas and Fleuret 2019, FullGrad, arXiv 1905.00780, section 4.

    Example:
        >>> fullgrad(torch.tensor([[[1., 2.]]]), torch.ones(1, 1, 2), [torch.tensor([[[-4., 3.], [0., 0.]]])])
        tensor([[1., 1.]])
    """
    size = image.shape[2:]
    cam = _scaled_channels(image * gradients)
    for layer in (share for share in bias_gradients if share.ndim == image.ndim):
        # Resizing is linear: once for the sum instead of once for every channel.
        cam = cam + resize(_scaled_channels(layer), size)
    return cam


@in_float32
def guided_gradcam(cam: Tensor, guided_gradients: Tensor) -> Tensor:
    """``map_ij = L_ij max_c |r_cij|``: Grad-CAM chooses the place, guided backpropagation the detail.

    ``L`` is the rectified Grad-CAM map at image size and ``r`` the gradient of guided backpropagation. The
    paper's picture is ``L_ij r_cij``; this is the saliency of it.

    Args:
        cam: ``(N, *size)``, not negative, floating point.
        guided_gradients: ``(N, C, *size)``.

    Returns:
        Map ``(N, *size)``, not negative.

    Source: Selvaraju et al. 2017, arXiv 1610.02391.

    Example:
        >>> guided_gradcam(torch.tensor([[0.5, 0.]]), torch.tensor([[[1., 9.], [-2., 9.]]]))
        tensor([[1., 0.]])
    """
    return cam * saliency(guided_gradients)


def _scaled_channels(maps: Tensor) -> Tensor:
    """Magnitudes of ``(N, K, *spatial)``, each channel scaled to [0, 1], summed to ``(N, *spatial)``."""
    return minmax(maps.abs().flatten(0, 1)).reshape(-1, *maps.shape[1:]).sum(1)
