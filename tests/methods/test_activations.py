"""The methods of activations alone, and Eigen-Grad-CAM: against decompositions and loops in float64."""

import numpy as np
import pytest
import torch
from torch import Tensor

from explainable_model.methods.dff import dff as dff_of_all_steps
from explainable_model.methods.eigen import eigencam, eigengradcam, kpcacam, segeigencam
from explainable_model.methods.fem import fem
from tests.support import method_checks as checks


def dff(activations: Tensor) -> Tensor:
    """The graph repeats each step: few are enough here."""
    return dff_of_all_steps(activations, steps=3)


METHODS = [eigencam, fem, kpcacam, dff]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
# Fewer positions than channels, more, one dimension, three.
SHAPES = [(8, 2, 3), (4, 5, 4), (4, 6), (3, 2, 3, 4)]


def up_to_sign(cam: Tensor, expected: Tensor) -> float:
    """Worst relative difference of any image, whichever sign each has."""
    return max(
        min(checks.relative(given, wanted), checks.relative(-given, wanted))
        for given, wanted in zip(cam, expected, strict=True)
    )


def svd_projection(activations: Tensor) -> Tensor:
    """Each image on its first right singular vector, of either sign."""
    maps = []
    for image in activations.double().numpy():
        matrix = image.reshape(image.shape[0], -1).T
        _, _, right = np.linalg.svd(matrix, full_matrices=False)
        maps.append((matrix @ right[0]).reshape(image.shape[1:]))
    return torch.from_numpy(np.stack(maps))


def kernel_projection(activations: Tensor) -> Tensor:
    """Kernel PCA in its textbook form: kernel, centering matrix, eigendecomposition."""
    maps = []
    for image in activations.double().numpy():
        matrix = image.reshape(image.shape[0], -1).T
        matrix = matrix - matrix.mean(0)
        positions, channels = matrix.shape
        kernel = np.array([[np.tanh(np.dot(a, b) / channels + 1) for b in matrix] for a in matrix])
        centering = np.eye(positions) - 1 / positions
        values, vectors = np.linalg.eigh(centering @ kernel @ centering)
        maps.append((np.sqrt(values[-1]) * vectors[:, -1]).reshape(image.shape[1:]))
    return torch.from_numpy(np.stack(maps))


def fem_loops(activations: Tensor) -> Tensor:
    a = activations.numpy()
    maps = np.zeros((a.shape[0], *a.shape[2:]))
    for n in range(a.shape[0]):
        for k in range(a.shape[1]):
            for index in np.ndindex(*a.shape[2:]):
                if a[n, k][index] > np.mean(a[n, k]) + 2 * np.std(a[n, k]):
                    maps[n][index] += np.mean(a[n, k])
    return torch.from_numpy(maps)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("rectified", [True, False])
def test_eigencam_is_the_svd(shape: tuple[int, ...], rectified: bool) -> None:
    activations = checks.normal(3, *shape)
    activations = activations.relu() if rectified else activations
    cam = eigencam(activations)
    assert up_to_sign(cam, svd_projection(activations)) < 1e-6
    strength = activations.abs().mean(1)
    assert ((cam * strength).flatten(1).sum(1) > 0).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_eigengradcam_is_the_svd_of_the_products(shape: tuple[int, ...]) -> None:
    activations, gradients = checks.inputs([shape, shape], batch=3, seed=3)
    products = activations * gradients
    cam = eigengradcam(activations, gradients)
    assert up_to_sign(cam, svd_projection(products)) < 1e-6
    assert ((cam * products.sum(1)).flatten(1).sum(1) > 0).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_segeigencam_is_the_first_principal_component(shape: tuple[int, ...]) -> None:
    activations, gradients = checks.inputs([shape, shape], batch=3, seed=5)
    weighed = activations * gradients.abs()
    mean = weighed.flatten(2).mean(2).reshape(3, -1, *[1] * (len(shape) - 1))
    cam = segeigencam(activations, gradients)
    assert up_to_sign(cam, svd_projection(weighed - mean)) < 1e-6
    assert (cam.flatten(1).amax(1) >= -cam.flatten(1).amin(1)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("positions", "channels"), [(49, 8), (6, 40), (49, 64)])
def test_eigencam_with_close_singular_values(positions: int, channels: int, dtype: torch.dtype) -> None:
    rank = min(positions, channels)
    left = torch.linalg.qr(checks.normal(positions, positions))[0][:, :rank]
    right = torch.linalg.qr(checks.normal(channels, channels, seed=1))[0][:, :rank]
    spectrum = torch.cat([torch.tensor([1.0, 0.99], dtype=torch.float64), torch.linspace(0.9, 0.1, rank - 2)])
    matrix = left * spectrum @ right.T
    activations = matrix.T.reshape(1, channels, positions).to(dtype)
    assert up_to_sign(eigencam(activations), left[:, 0].reshape(1, positions)) < 1e-3


def test_eigencam_by_hand() -> None:
    # Channels [[3, 0], [0, 4]] and [[4, 0], [0, -3]]: the positions (3, 4) and (4, -3) are orthogonal and of length 5;
    # the third channel breaks the tie: (3, 4, 0) and (4, -3, 12) with length 13. v = (4, -3, 12) / 13, and
    # (3, 4, 0) . v = 0.
    activations = torch.tensor([[[[3.0, 0.0], [0.0, 4.0]], [[4.0, 0.0], [0.0, -3.0]], [[0.0, 0.0], [0.0, 12.0]]]])
    assert (eigencam(activations) - torch.tensor([[[0.0, 0.0], [0.0, 13.0]]])).abs().max() < 1e-5


def test_eigencam_picks_no_sum_of_opposite_columns() -> None:
    # v = (1, -1) / sqrt(2): both columns of v v^T are equally long and cancel.
    activations = torch.tensor([[[[1.0, 2.0]], [[-1.0, -2.0]]]])
    assert (eigencam(activations) - torch.tensor([[[2**0.5, 2 * 2**0.5]]])).abs().max() < 1e-5


def test_eigencam_with_dead_first_channel_and_position() -> None:
    # The first row and column of either Gram matrix are zero.
    for channels in (3, 12):
        activations = checks.normal(1, channels, 2, 3).relu()
        activations[:, 0] = 0
        activations[:, :, 0, 0] = 0
        assert up_to_sign(eigencam(activations), svd_projection(activations)) < 1e-6


def test_eigengradcam_by_hand() -> None:
    # g A: channel 0 [[-3, 0], [0, 0]], channel 1 [[-4, 0], [0, 0]]. v = (3, 4) / 5 up to sign, the projection 5 up to
    # sign; the sum over the channels is -7 there, so it is evidence against the class: -5.
    activations = torch.tensor([[[[3.0, 1.0], [0.0, 0.0]], [[2.0, 1.0], [1.0, 1.0]]]])
    gradients = torch.tensor([[[[-1.0, 0.0], [2.0, 1.0]], [[-2.0, 0.0], [0.0, 0.0]]]])
    expected = torch.tensor([[[-5.0, 0.0], [0.0, 0.0]]])
    assert (eigengradcam(activations, gradients) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_kpcacam_is_kernel_pca(shape: tuple[int, ...], scale: float) -> None:
    activations = scale * checks.normal(3, *shape, seed=7)
    cam = kpcacam(activations)
    assert up_to_sign(cam, kernel_projection(activations)) < 1e-6
    covariance = (cam * activations.abs().mean(1)).flatten(1).sum(1)
    assert (covariance > 0).all()


def test_kpcacam_takes_the_largest_not_the_most_negative_eigenvalue() -> None:
    # Three strong positions in different directions and 33 without activation: the kernel is far from definite.
    matrix = np.zeros((36, 2))
    matrix[:3] = [[2.0, -3.5], [-3.7, 1.5], [2.0, 2.4]]
    centered = matrix - matrix.mean(0)
    centering = np.eye(36) - 1 / 36
    values = np.linalg.eigvalsh(centering @ np.tanh(centered @ centered.T / 2 + 1) @ centering)
    assert values[0] < -1.2 * values[-1]
    activations = torch.from_numpy(matrix.T.reshape(1, 2, 6, 6))
    assert up_to_sign(kpcacam(activations), kernel_projection(activations)) < 1e-6


def test_kpcacam_centers_a_kernel_whose_mean_is_positive() -> None:
    # One position of 25 differs, by so much that the kernel saturates: most entries are tanh(large) - tanh(1) > 0.
    activations = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    activations[0, 0, 1, 2] = 1000.0
    assert up_to_sign(kpcacam(activations), kernel_projection(activations)) < 1e-6


def test_kpcacam_by_hand() -> None:
    # One channel, two kinds of position: 2 and 0, centered +1 and -1. Kernel: a = tanh(1 + 1) between equals,
    # b = tanh(-1 + 1) = 0 between unequals. Centred: c and -c with c = (a - b) / 2; as 4 x 4 with two of each kind the
    # largest eigenvalue is 4 c = 2 tanh(2) with u = (1, -1, -1, 1) / 2. Map: sqrt(1.928055) / 2 = 0.694272.
    activations = torch.tensor([[[[2.0, 0.0], [0.0, 2.0]]]], dtype=torch.float64)
    expected = 0.694272 * torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]], dtype=torch.float64)
    assert (kpcacam(activations) - expected).abs().max() < 1e-5


def test_kpcacam_of_small_activations_is_centered_pca() -> None:
    # The kernel is linear there, in float32 too: tanh(s + 1) itself would round s = 1e-12 away.
    activations = checks.normal(2, 4, 5, 4)
    centered = activations - activations.flatten(2).mean(2)[..., None, None]
    cam = kpcacam((activations * 1e-6).float()).double()
    expected = svd_projection(centered)
    assert up_to_sign(cam / cam.abs().amax((1, 2), True), expected / expected.abs().amax((1, 2), True)) < 1e-4


@pytest.mark.parametrize("shape", [(8, 3, 4), (4, 30), (3, 2, 3, 4)], ids=str)
def test_fem_replica(shape: tuple[int, ...]) -> None:
    activations = checks.normal(3, *shape, seed=11) ** 3
    expected = fem_loops(activations)
    assert expected.abs().max() > 0
    assert checks.relative(fem(activations), expected) < 1e-12


def test_fem_by_hand() -> None:
    # Channel 0: mean 1, variance (25 + 5) / 6 = 5, threshold 1 + 2 * 2.236 = 5.47 < 6: a mark of weight 1.
    # Channel 1: 12 - 2 * 5 = 2, mean 2, deviations 10 and -2: variance 120 / 6 = 20, threshold 2 + 8.94 < 12.
    # Channel 2: mean -1, the mark is where it is least negative, but 0 is below -1 + 2 * 2.236.
    activations = torch.tensor(
        [[[[6.0, 0, 0], [0, 0, 0]], [[12.0, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, -6.0]], [[0, 0, 0], [6.0, 0, 0]]]]
    )
    assert fem(activations).tolist() == [[[3.0, 0.0, 0.0], [1.0, 0.0, 0.0]]]


def test_fem_of_a_two_by_two_map_is_zero() -> None:
    # The largest of four values is at most 3 / sqrt(4 - 1) = 1.73 standard deviations above their mean.
    assert fem(torch.tensor([[[[9.0, 0.0], [0.0, 0.0]]]])).abs().max() == 0


def test_fem_has_no_marks_in_a_constant_channel() -> None:
    # The mean of 49 values of 0.1 is not 0.1 in float32.
    assert fem(torch.full((1, 3, 7, 7), 0.1)).abs().max() == 0


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
@pytest.mark.parametrize("spatial", [(4,), (3, 5), (2, 3, 4), (1, 1), (1, 2)], ids=str)
def test_hard_inputs(method: checks.Method, spatial: tuple[int, ...]) -> None:
    checks.assert_finite_on_hard_inputs(method, [(3, *spatial)], DTYPES)


# The sigmoid kernel of kpcacam depends on the scale.
@pytest.mark.parametrize("method", [eigencam, fem, dff], ids=lambda method: method.__name__)
@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_scale_does_not_matter_in_float32(method: checks.Method, scale: float) -> None:
    activations = checks.normal(2, 4, 5, 4).relu()
    assert checks.relative(method((activations * scale).float()) / scale, method(activations)) < 1e-5


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_half_precision_is_float32_rounded(method: checks.Method) -> None:
    activations = checks.normal(2, 3, 4, 4, dtype=torch.float16)
    assert torch.equal(method(activations), method(activations.float()).half())


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
@pytest.mark.parametrize("shape", [(4, 3, 5), (20, 3, 3)], ids=str)
def test_batch_and_tracing(method: checks.Method, shape: tuple[int, ...]) -> None:
    checks.assert_batch_is_independent(method, [shape], 1e-10)
    checks.assert_traces(method, [shape])


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_onnx_runtime(method: checks.Method) -> None:
    checks.assert_equal_in_onnx_runtime(method, [(20, 3, 3)])
