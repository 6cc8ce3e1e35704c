"""Methods that change the score or its weights: ShapleyCAM and Finer-CAM."""

import doctest

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explainable_model.methods import finercam
from explainable_model.methods import shapleycam as shapleycam_module
from explainable_model.methods.finercam import finercam_weights
from explainable_model.methods.gradcam import gradcam
from explainable_model.methods.shapleycam import shapleycam
from tests.support import method_checks as checks
from tests.support.nets import seeded

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("spatial", [(4,), (3, 5), (2, 3, 4)], ids=str)
def test_shapleycam_replica(spatial: tuple[int, ...]) -> None:
    given = checks.inputs([(4, *spatial)] * 3, batch=2)
    a, g, h = (tensor.numpy() for tensor in given)
    expected = np.zeros((2, *spatial))
    for n in range(2):
        for k in range(4):
            weight = sum(g[n, k][i] - 0.5 * h[n, k][i] for i in np.ndindex(*spatial)) / np.prod(spatial)
            expected[n] += weight * a[n, k]
    assert np.abs(shapleycam(*given).numpy() - expected).max() < 1e-12


def test_shapleycam_by_hand() -> None:
    # Channel 0: g - h / 2 = [[0, 2], [3, 3]], mean 2. Channel 1: [[-1, -1], [-1, -1]].
    activations = torch.tensor([[[[1.0, 0.0], [2.0, 1.0]], [[1.0, 1.0], [0.0, 3.0]]]])
    gradients = torch.tensor([[[[1.0, 2.0], [4.0, 3.0]], [[0.0, 0.0], [0.0, 0.0]]]])
    products = torch.tensor([[[[2.0, 0.0], [2.0, 0.0]], [[2.0, 2.0], [2.0, 2.0]]]])
    assert shapleycam(activations, gradients, products).tolist() == [[[1.0, -1.0], [4.0, -1.0]]]


def hessian_product(tail: nn.Module, activations: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient and ``H A`` of the first score, as the caller gets them."""
    leaf = activations.clone().requires_grad_()
    (gradients,) = torch.autograd.grad(tail(leaf)[:, 0].sum(), leaf, create_graph=True)
    (product,) = torch.autograd.grad((gradients * activations).sum(), leaf)
    return gradients.detach(), product


def test_shapleycam_of_a_network_with_its_whole_hessian() -> None:
    tail = seeded(nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(9, 4), nn.Softmax(1))).double()
    activations = checks.normal(1, 2, 2, 4)
    gradients, product = hessian_product(tail, activations)
    hessian = torch.autograd.functional.hessian(
        lambda flat: tail(flat.reshape(1, 2, 2, 4))[0, 0], activations.flatten()
    )
    weights = (gradients.flatten() - 0.5 * hessian @ activations.flatten()).reshape(2, 8).mean(1)
    expected = weights[0] * activations[:, 0] + weights[1] * activations[:, 1]
    assert checks.relative(shapleycam(activations, gradients, product), expected) < 1e-12
    assert checks.relative(gradcam(activations, gradients), expected) > 1e-3


def finer_loops(logits: np.ndarray, class_idx: int, gamma: float, references: int) -> np.ndarray:
    others = sorted((abs(value - logits[class_idx]), d) for d, value in enumerate(logits) if d != class_idx)
    weights = np.zeros(len(logits))
    weights[class_idx] = 1
    for _, d in others[:references]:
        weights[d] = -gamma / min(references, len(others))
    return weights


@pytest.mark.parametrize("references", [1, 3, 9])
def test_finercam_replica(references: int) -> None:
    logits = checks.normal(4, 6)
    class_idx = torch.tensor([0, 5, 2, 2])
    weights = finercam_weights(logits, class_idx, gamma=0.7, references=references)
    expected = [finer_loops(row.numpy(), int(c), 0.7, references) for row, c in zip(logits, class_idx, strict=True)]
    assert np.abs(weights.numpy() - np.stack(expected)).max() < 1e-12


def test_finercam_by_hand() -> None:
    # Closest to 5: 6 (1), 3.5 (1.5), 3 (2); not 9 (4) and not 0 (5). Each of three gets -0.6 / 3.
    logits = torch.tensor([[3.5, 5.0, 0.0, 6.0, 9.0, 3.0]])
    weights = finercam_weights(logits, torch.tensor([1]))
    assert (weights - torch.tensor([[-0.2, 1.0, 0.0, -0.2, 0.0, -0.2]])).abs().max() < 1e-6


def test_finercam_of_few_classes() -> None:
    assert finercam_weights(torch.tensor([[2.0]]), torch.tensor([0])).tolist() == [[1.0]]
    assert finercam_weights(torch.tensor([[2.0, 1.0]]), torch.tensor([1]), gamma=1).tolist() == [[-1.0, 1.0]]


def predicted_weights(logits: Tensor) -> Tensor:
    return finercam_weights(logits, logits.argmax(1))


def test_batch_tracing_and_hard_inputs() -> None:
    checks.assert_batch_is_independent(predicted_weights, [(6,)])
    checks.assert_traces(predicted_weights, [(6,)])
    checks.assert_finite_on_hard_inputs(predicted_weights, [(6,)], DTYPES)
    shapes = [(4, 3, 5)] * 3
    checks.assert_batch_is_independent(shapleycam, shapes)
    checks.assert_traces(shapleycam, shapes)
    checks.assert_finite_on_hard_inputs(shapleycam, shapes, DTYPES)


def test_finercam_in_onnx_runtime() -> None:
    checks.assert_equal_in_onnx_runtime(predicted_weights, [(6,)])


@pytest.mark.parametrize("module", [finercam, shapleycam_module], ids=lambda module: module.__name__)
def test_docstring_examples(module: object) -> None:
    results = doctest.testmod(module, extraglobs={"torch": torch})
    assert results.attempted > 0
    assert results.failed == 0
