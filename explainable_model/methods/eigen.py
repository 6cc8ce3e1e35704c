"""Methods that project on a principal component: Eigen-CAM, Eigen-Grad-CAM, Seg-Eigen-CAM, KPCA-CAM."""

from math import tanh

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true

from explainable_model.attribution.counting import counting
from explainable_model.methods.precision import in_float32

# 2^10 steps of power iteration: an error below 1e-4 where the second singular value is 0.995 of the first.
SQUARINGS = 10
# The kernel matrix is shifted, which brings its eigenvalues closer to each other.
KERNEL_SQUARINGS = 12


@in_float32
def eigencam(activations: Tensor) -> Tensor:
    """Project the activations on their first right singular vector.

    ``map = M v`` with ``M = U S V^T`` the singular value decomposition of the activations as a matrix of
    positions times channels, and ``v`` the first column of ``V``. It explains no class.

    Where this differs from the paper:

    - The singular vector is the dominant eigenvector of ``M^T M`` or ``M M^T``, whichever is smaller,
      found by squaring that matrix 10 times: plain products, which every format has. Where the two
      largest singular values differ by less than 0.4 %, the vector is a mixture of theirs.
    - The sign of a singular vector is arbitrary. Here the map has a positive inner product with the mean
      over the channels of ``|A|``, so that strong activations are hot.

    Args:
        activations: ``(N, K, *spatial)``, floating point.

    Returns:
        Signed map ``(N, *spatial)``.

    Source: Muhammad and Yeasin 2020, arXiv 2008.00299.

    Example:
        >>> eigencam(torch.tensor([[[[3., 0.]], [[4., 0.]]]]))
        tensor([[[5., 0.]]])
    """
    matrix, scale = _relative(_positions_by_channels(activations))
    cam = scale * _towards(matrix.abs().mean(2, keepdim=True), _project(matrix))
    return cam.reshape(-1, *activations.shape[2:])


@in_float32
def eigengradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Project the products of activations and gradients on their first right singular vector.

    Eigen-CAM of ``g_kij A_kij`` instead of ``A_kij``, where ``A`` are the activations of the target layer
    and ``g = d score / d A``. No paper has it; it comes from the library pytorch-grad-cam. The sign is
    that of a positive inner product with ``sum_k g_kij A_kij`` (HiResCAM), so that evidence for the class
    is hot.

    Args:
        activations: ``(N, K, *spatial)``, floating point.
        gradients: the same shape and dtype.

    Returns:
        Signed map ``(N, *spatial)``.

    Source: Muhammad and Yeasin 2020, arXiv 2008.00299, for the projection.

    Example:
        >>> activations = torch.tensor([[[[3., 0.]], [[-4., 0.]]]])
        >>> eigengradcam(activations, torch.tensor([[[[1., 1.]], [[-1., 1.]]]]))
        tensor([[[5., 0.]]])
    """
    matrix, scale = _relative(_positions_by_channels(gradients * activations))
    cam = scale * _towards(matrix.sum(2, keepdim=True), _project(matrix))
    return cam.reshape(-1, *activations.shape[2:])


@in_float32
def segeigencam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Project activations, weighted by the size of their gradients, on their first principal component.

    ``map = M v`` with ``M`` the matrix of positions times channels of ``|g_kij| A_kij``, less the mean of each channel,
    and ``v`` its first right singular vector. ``A`` are the activations of the target layer, ``g = d score / d A``.
    The sign is that which makes the largest magnitude of the map positive.

    Where this differs from the paper: the singular vector is found as in ``eigencam``. The mean of each channel is
    subtracted as in pytorch-grad-cam, whose code names the paper's equations.

    Args:
        activations: ``(N, K, *spatial)``, floating point.
        gradients: the same shape and dtype.

    Returns:
        Signed map ``(N, *spatial)``, of mean zero.

    Source: Chung and Ying 2025, Seg-Eigen-CAM, doi 10.3390/app15137562, equations 10 to 13.

    Example:
        >>> segeigencam(torch.tensor([[[[3., 0., 0.]]]]), torch.tensor([[[[-1., 1., 1.]]]])).round(decimals=4)
        tensor([[[ 2., -1., -1.]]])
    """
    matrix, scale = _relative(_positions_by_channels(gradients.abs() * activations))
    projection = _project(matrix - matrix.mean(1, keepdim=True))
    low, high = projection.amin(1, keepdim=True), projection.amax(1, keepdim=True)
    cam = scale * torch.where(-low > high, -projection, projection)
    return cam.reshape(-1, *activations.shape[2:])


@in_float32
def kpcacam(activations: Tensor) -> Tensor:
    """Project the activations on their first principal component in the space of a sigmoid kernel.

    ``map_p = sqrt(l) u_p`` with ``l`` the largest eigenvalue and ``u`` its unit eigenvector of the
    doubly centered kernel matrix of the positions, ``k(a, b) = tanh(a . b / K + 1)``. ``a`` and ``b`` are
    the K activations at two positions, less their mean over all positions. It explains no class. The
    kernel matrix has a row and a column for every position: use layers of a few hundred positions.

    Where this differs from the paper:

    - The paper leaves the kernel open. This one, its slope 1 / K and its offset 1 are the defaults of the
      authors' code.
    - ``tanh(s + 1)`` is taken less ``tanh(1)``, in closed form: centering removes the constant, and
      without it differences between small ``s`` are not rounded away.
    - A sigmoid kernel may have negative eigenvalues. Half its Frobenius norm is added to all of them, so
      that the largest, not the one of largest magnitude, comes out of squaring the matrix 12 times. Where
      the two largest differ by less than 1 %, the map may be a mixture of their vectors.
    - The sign is that of a positive inner product with the mean over the channels of ``|A|``.

    Args:
        activations: ``(N, K, *spatial)``, floating point.

    Returns:
        Signed map ``(N, *spatial)``, of mean zero.

    Source: Karmani et al. 2024, arXiv 2410.00267; kernel PCA: Schoelkopf et al. 1998.

    Example:
        >>> kpcacam(torch.tensor([[[[2., 0.]]]])) > 0
        tensor([[[ True, False]]])
    """
    matrix = _positions_by_channels(activations)
    centered = matrix - matrix.mean(1, keepdim=True)
    kernel, scale = _relative(_center(_sigmoid_kernel(centered)))
    shift = (kernel * kernel).sum((1, 2), keepdim=True).sqrt() / 2
    axis = _principal_axis(kernel + shift * _identity(kernel), KERNEL_SQUARINGS)
    eigenvalue = (axis * torch.matmul(kernel, axis)).sum(1, keepdim=True).relu()
    strength, _ = _relative(matrix)
    cam = (scale * eigenvalue).sqrt() * _towards(strength.abs().mean(2, keepdim=True), axis)
    return cam.reshape(-1, *activations.shape[2:])


def _positions_by_channels(activations: Tensor) -> Tensor:
    return activations.flatten(2).transpose(1, 2)


def _relative(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The matrix divided by its largest magnitude, and that: products of its entries cannot overflow."""
    scale = matrix.abs().amax((1, 2), keepdim=True)
    return matrix / scale.clamp_min(torch.finfo(matrix.dtype).tiny), scale


def _project(matrix: Tensor) -> Tensor:
    """``(N, P, K)`` on its first right singular vector: ``(N, P, 1)``."""
    transposed = matrix.transpose(1, 2)
    positions, channels = matrix.shape[1:]
    if statically_known_true(positions < channels):
        axis = _unit(torch.matmul(transposed, _principal_axis(torch.matmul(matrix, transposed), SQUARINGS)))
    else:
        axis = _principal_axis(torch.matmul(transposed, matrix), SQUARINGS)
    return torch.matmul(matrix, axis)


def _principal_axis(gram: Tensor, squarings: int) -> Tensor:
    """Unit eigenvector ``(N, n, 1)`` of the largest eigenvalue of a positive definite ``(N, n, n)``."""
    power, _ = _relative(gram)
    for _ in range(squarings):
        power, _ = _relative(torch.matmul(power, power))
    # What is left is c v v^T: every column is v times one of its entries. The longest is the safest.
    longest = (power * power).sum(1).argmax(1)
    column = longest.reshape(-1, 1, 1).expand(-1, gram.shape[1], 1)
    return _unit(power.gather(2, column))


def _unit(vector: Tensor) -> Tensor:
    """Columns ``(N, n, 1)`` of length one; a zero column stays zero."""
    vector, _ = _relative(vector)
    length = (vector * vector).sum(1, keepdim=True).sqrt()
    return vector / length.clamp_min(torch.finfo(vector.dtype).tiny)


def _towards(reference: Tensor, vector: Tensor) -> Tensor:
    """The vector or its negative, whichever has the larger inner product with the reference."""
    return torch.where((vector * reference).sum(1, keepdim=True) < 0, -vector, vector)


def _sigmoid_kernel(matrix: Tensor) -> Tensor:
    """``tanh(a . b / K + 1) - tanh(1)`` for every pair of rows: ``(N, P, P)``."""
    offset = tanh(1.0)
    curve = torch.tanh(torch.matmul(matrix, matrix.transpose(1, 2)) / matrix.shape[2])
    return (1 - offset * offset) * curve / (1 + offset * curve)


def _identity(kernel: Tensor) -> Tensor:
    count = counting(kernel, 1)
    return (count.unsqueeze(1) == count).to(kernel.dtype)


def _center(kernel: Tensor) -> Tensor:
    """Centre in the space of the kernel: rows and columns of mean zero."""
    rows = kernel.mean(2, keepdim=True)
    return kernel - rows - rows.transpose(1, 2) + rows.mean(1, keepdim=True)
