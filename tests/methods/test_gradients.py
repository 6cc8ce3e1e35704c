"""The methods of activations and gradients: by hand, against replicas in loops, on hard inputs."""

import doctest
import importlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from explainable_model.methods.eigen import eigengradcam, segeigencam
from explainable_model.methods.elementwise import elementwise, hirescam, layercam
from explainable_model.methods.gradcam import gradcam
from explainable_model.methods.gradcam_plus_plus import gradcam_plus_plus, smoothgradcam_plus_plus
from explainable_model.methods.xgradcam import xgradcam
from tests.support import method_checks as checks

METHODS = [gradcam, gradcam_plus_plus, xgradcam, layercam, hirescam, elementwise, eigengradcam, segeigencam]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
SPATIAL = [(4,), (3, 5), (2, 3, 4)]


def loops(activations: Tensor, gradients: Tensor, channel: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Tensor:
    """Sum over the channels of ``channel(A_k, g_k)``, one image and one channel at a time."""
    a, g = activations.numpy(), gradients.numpy()
    maps = np.zeros((a.shape[0], *a.shape[2:]))
    for n in range(a.shape[0]):
        for k in range(a.shape[1]):
            maps[n] += channel(a[n, k], g[n, k])
    return torch.from_numpy(maps)


def replica_gradcam_plus_plus(a: np.ndarray, g: np.ndarray) -> np.ndarray:
    """The paper's equation 19 as printed, with squares and cubes."""
    weight = 0.0
    for index in np.ndindex(*a.shape):
        denominator = 2 * g[index] ** 2 + a.sum() * g[index] ** 3
        if denominator > 0:
            weight += g[index] ** 2 / denominator * max(g[index], 0.0)
    return weight * a


def replica_xgradcam(a: np.ndarray, g: np.ndarray) -> np.ndarray:
    weight = 0.0
    for index in np.ndindex(*a.shape):
        weight += a[index] / a.sum() * g[index]
    return weight * a


REPLICAS = {
    gradcam_plus_plus: replica_gradcam_plus_plus,
    xgradcam: replica_xgradcam,
    hirescam: lambda a, g: a * g,
    layercam: lambda a, g: a * np.where(g > 0, g, 0),
    elementwise: lambda a, g: np.where(a * g > 0, a * g, 0),
}


@pytest.mark.parametrize("spatial", SPATIAL, ids=str)
@pytest.mark.parametrize("method", list(REPLICAS), ids=lambda method: method.__name__)
def test_replica(method: checks.Method, spatial: tuple[int, ...]) -> None:
    # Rectified activations, for which the papers are written.
    activations, gradients = checks.inputs([(4, *spatial)] * 2, batch=3)
    activations = activations.relu() + 0.01
    expected = loops(activations, gradients, REPLICAS[method])
    assert checks.relative(method(activations, gradients), expected) < 1e-12


@pytest.mark.parametrize("method", [xgradcam, hirescam, layercam, elementwise], ids=lambda method: method.__name__)
def test_replica_with_negative_activations(method: checks.Method) -> None:
    activations, gradients = checks.inputs([(4, 3, 5)] * 2, batch=3, seed=5)
    expected = loops(activations, gradients, REPLICAS[method])
    assert checks.relative(method(activations, gradients), expected) < 1e-10


# Activations [[1, 2], [3, 4]] and [[0, -1], [1, 0]]; gradients [[1, 1], [1, 5]] and [[-4, 0], [0, 2]].
BY_HAND = {
    # Channel 0: S = 10, so 1 / (2 + 10) three times and 5 / (2 + 50): w = 3/12 + 5/52 = 9/26.
    # Channel 1: S = 0, only g = 2 is positive: w = 2 / 2 = 1.
    gradcam_plus_plus: [[9 / 26, 18 / 26 - 1], [27 / 26 + 1, 36 / 26]],
    # Channel 0: (1 + 2 + 3 + 20) / 10 = 2.6. Channel 1: sum of g A = 0, so w = 0 whatever it is divided by.
    xgradcam: [[2.6, 5.2], [7.8, 10.4]],
    # g A: [[1, 2], [3, 20]] and [[0, 0], [0, 0]].
    hirescam: [[1.0, 2.0], [3.0, 20.0]],
    layercam: [[1.0, 2.0], [3.0, 20.0]],
    elementwise: [[1.0, 2.0], [3.0, 20.0]],
}


@pytest.mark.parametrize("method", list(BY_HAND), ids=lambda method: method.__name__)
def test_by_hand(method: checks.Method) -> None:
    activations = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, -1.0], [1.0, 0.0]]]], dtype=torch.float64)
    gradients = torch.tensor([[[[1.0, 1.0], [1.0, 5.0]], [[-4.0, 0.0], [0.0, 2.0]]]], dtype=torch.float64)
    expected = torch.tensor([BY_HAND[method]], dtype=torch.float64)
    assert (method(activations, gradients) - expected).abs().max() < 1e-12


def test_elementwise_methods_by_hand_where_signs_differ() -> None:
    activations = torch.tensor([[[[1.0, -2.0], [3.0, 0.0]], [[2.0, 1.0], [-1.0, 1.0]]]])
    gradients = torch.tensor([[[[2.0, -1.0], [-1.0, 4.0]], [[-1.0, 3.0], [2.0, -1.0]]]])
    # g A: [[2, 2], [-3, 0]] and [[-2, 3], [-2, -1]].
    assert hirescam(activations, gradients).tolist() == [[[0.0, 5.0], [-5.0, -1.0]]]
    # relu(g) A: [[2, 0], [0, 0]] and [[0, 3], [-2, 0]].
    assert layercam(activations, gradients).tolist() == [[[2.0, 3.0], [-2.0, 0.0]]]
    # relu(g A): [[2, 2], [0, 0]] and [[0, 3], [0, 0]].
    assert elementwise(activations, gradients).tolist() == [[[2.0, 5.0], [0.0, 0.0]]]


@pytest.mark.parametrize("scale", [1e-20, 1e-4, 1e4])
def test_gradcam_plus_plus_of_small_gradients_in_float32(scale: float) -> None:
    # Squares of gradients of 1e-20 are no float32 numbers any more.
    activations, gradients = checks.inputs([(4, 3, 5)] * 2, batch=2)
    activations = activations.relu()
    expected = loops(activations, gradients * scale, replica_gradcam_plus_plus)
    cam = gradcam_plus_plus(activations.float(), (gradients * scale).float())
    assert checks.relative(cam, expected) < 1e-5


def test_gradcam_plus_plus_drops_coefficients_without_a_positive_denominator() -> None:
    # S = -4. g = 0.25: 1 / (2 - 1) = 1. g = 0.5: the pole, 2 - 2 = 0. g = 1: 2 - 4 < 0. So w = 0.25.
    activations = torch.full((1, 1, 2, 2), -1.0)
    gradients = torch.tensor([[[[0.25, 0.5], [1.0, -1.0]]]])
    assert gradcam_plus_plus(activations, gradients).tolist() == [[[-0.25, -0.25], [-0.25, -0.25]]]


def test_xgradcam_limits_the_pole_and_keeps_its_sign() -> None:
    # Sum of A: 1e-6 of magnitudes 2, so the divisor is 0.001 * 2 with the sign of the sum. Sum of g A = 1.
    for total in (1e-6, -1e-6):
        activations = torch.tensor([[[[1.0 + total, -1.0]]]], dtype=torch.float64)
        gradients = torch.tensor([[[[1 / (1.0 + total), 0.0]]]], dtype=torch.float64)
        weight = 1 / (0.001 * (2 + total)) * np.sign(total)
        expected = torch.tensor([[[weight * (1.0 + total), -weight]]])
        assert checks.relative(xgradcam(activations, gradients), expected) < 1e-12


def replica_smooth(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """One image: activations ``(K, ...)``, gradients ``(n, K, ...)``; derivatives averaged in loops."""
    copies = gradients.shape[0]
    cam = np.zeros(activations.shape[1:])
    for k, channel in enumerate(activations):
        weight = 0.0
        for index in np.ndindex(*channel.shape):
            first, second, third = (
                sum(gradients[m, k][index] ** power for m in range(copies)) / copies for power in (1, 2, 3)
            )
            denominator = 2 * second + channel.sum() * third
            if denominator > 0:
                weight += second / denominator * max(first, 0.0)
        cam += weight * channel
    return cam


@pytest.mark.parametrize("spatial", SPATIAL, ids=str)
def test_smoothgradcam_plus_plus_replica(spatial: tuple[int, ...]) -> None:
    # Mostly positive gradients with rectified activations, so that no denominator is near its pole.
    activations, gradients = checks.inputs([(4, *spatial), (5, 4, *spatial)], batch=3)
    activations, gradients = activations.relu(), gradients + 2
    expected = [replica_smooth(a, g) for a, g in zip(activations.numpy(), gradients.numpy(), strict=True)]
    cam = smoothgradcam_plus_plus(activations, gradients)
    assert checks.relative(cam, torch.from_numpy(np.stack(expected))) < 1e-12


def test_smoothgradcam_plus_plus_by_hand() -> None:
    # Gradients 1 and 3 everywhere in two copies: D1 = 2, D2 = 5, D3 = 14. S = 4, so alpha = 5 / (10 + 56) and
    # w = 4 * 5/66 * 2 = 20/33.
    activations = torch.tensor([[[[1.0, 2.0], [1.0, 0.0]]]], dtype=torch.float64)
    gradients = torch.ones(1, 2, 1, 2, 2, dtype=torch.float64)
    gradients[:, 1] = 3
    expected = 20 / 33 * activations[:, 0]
    assert checks.relative(smoothgradcam_plus_plus(activations, gradients), expected) < 1e-12


def test_smoothgradcam_plus_plus_of_one_copy_is_gradcam_plus_plus() -> None:
    activations, gradients = checks.inputs([(4, 3, 5)] * 2, batch=2)
    expected = gradcam_plus_plus(activations, gradients)
    assert checks.relative(smoothgradcam_plus_plus(activations, gradients.unsqueeze(1)), expected) < 1e-10


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
@pytest.mark.parametrize("spatial", [*SPATIAL, (1, 1)], ids=str)
def test_hard_inputs(method: checks.Method, spatial: tuple[int, ...]) -> None:
    checks.assert_finite_on_hard_inputs(method, [(3, *spatial)] * 2, DTYPES)


@pytest.mark.parametrize("spatial", [*SPATIAL, (1, 1)], ids=str)
def test_smoothgradcam_plus_plus_hard_inputs(spatial: tuple[int, ...]) -> None:
    checks.assert_finite_on_hard_inputs(smoothgradcam_plus_plus, [(3, *spatial), (2, 3, *spatial)], DTYPES)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_half_precision_is_float32_rounded(method: checks.Method) -> None:
    given = checks.inputs([(3, 4, 4)] * 2, batch=2, dtype=torch.float16)
    expected = method(*(tensor.float() for tensor in given)).half()
    assert torch.equal(method(*given), expected)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_batch_and_tracing(method: checks.Method) -> None:
    shapes = [(4, 3, 5)] * 2
    checks.assert_batch_is_independent(method, shapes)
    checks.assert_traces(method, shapes)


def test_smoothgradcam_plus_plus_batch_and_tracing() -> None:
    shapes = [(4, 3, 5), (3, 4, 3, 5)]
    checks.assert_batch_is_independent(smoothgradcam_plus_plus, shapes)
    checks.assert_traces(smoothgradcam_plus_plus, shapes)


@pytest.mark.parametrize("method", [gradcam_plus_plus, xgradcam, eigengradcam], ids=lambda method: method.__name__)
def test_onnx_runtime(method: checks.Method) -> None:
    checks.assert_equal_in_onnx_runtime(method, [(4, 3, 5)] * 2)


@pytest.mark.parametrize("module", ["gradcam_plus_plus", "xgradcam", "elementwise", "eigen", "fem"])
def test_docstring_examples(module: str) -> None:
    results = doctest.testmod(
        importlib.import_module(f"explainable_model.methods.{module}"), extraglobs={"torch": torch}
    )
    assert results.attempted > 0
    assert results.failed == 0
