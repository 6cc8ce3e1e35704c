"""Methods of attention, by hand and against loops."""

import doctest
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explainable_model.methods import attention, attention_relevance
from explainable_model.methods.attention import legrad, rollout
from explainable_model.methods.attention_relevance import agcam, chefer, gradeclip
from tests.support import method_checks as checks

LAYERS, HEADS, TOKENS = 3, 2, 6
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def attentions(batch: int, seed: int = 0) -> list[Tensor]:
    return [checks.normal(batch, HEADS, TOKENS, TOKENS, seed=seed + layer).softmax(3) for layer in range(LAYERS)]


FUSED: dict[str, Callable[[list[float]], float]] = {"mean": lambda heads: sum(heads) / HEADS, "max": max, "min": min}


def rollout_loops(layers: list[np.ndarray], heads: str = "mean", discard: float = 0) -> np.ndarray:
    """``(T, T)`` for one image: heads fused, small entries dropped, residual added, rows normalized, multiplied."""
    product = np.eye(TOKENS)
    for layer in layers:
        mixed = np.zeros((TOKENS, TOKENS))
        for i in range(TOKENS):
            for j in range(TOKENS):
                mixed[i, j] = FUSED[heads]([layer[h, i, j] for h in range(HEADS)])
        for place in np.argsort(mixed, None)[: int(discard * mixed.size)]:
            mixed[np.unravel_index(place, mixed.shape)] = 0
        for i in range(TOKENS):
            for j in range(TOKENS):
                mixed[i, j] = 0.5 * mixed[i, j] + 0.5 * (i == j)
            mixed[i] /= mixed[i].sum()
        product = mixed @ product
    return product


@pytest.mark.parametrize("prefix", [0, 1, 2])
def test_rollout_replica(prefix: int) -> None:
    given = attentions(batch=3)
    reached = np.stack([rollout_loops([layer[n].numpy() for layer in given]) for n in range(3)])
    expected = reached[:, 0, prefix:] if prefix else reached.mean(1)
    assert np.abs(rollout(given, prefix).numpy() - expected).max() < 1e-12


@pytest.mark.parametrize(("heads", "discard"), [("max", 0.0), ("min", 0.5), ("mean", 0.9), ("max", 0.99)])
def test_rollout_of_other_heads_and_less_attention(heads: str, discard: float) -> None:
    given = attentions(batch=2)
    reached = np.stack([rollout_loops([layer[n].numpy() for layer in given], heads, discard) for n in range(2)])
    found = rollout(given, 1, heads=heads, discard=discard).numpy()
    assert np.abs(found - reached[:, 0, 1:]).max() < 1e-12
    assert np.abs(found - rollout(given, 1).numpy()).max() > 1e-3


def test_rollout_by_hand() -> None:
    # Class token and two patches. Layer 1: the class token looks at itself, patch 1 at patch 2, patch 2 at itself.
    # B_1 = [[1, 0, 0], [0, 1/2, 1/2], [0, 0, 1]]. Layer 2: the class token looks at patch 1, the others at themselves.
    # First row of B_2 = [1/2, 1/2, 0]. First row of B_2 B_1 = [1/2, 1/4, 1/4].
    first = torch.tensor([[[[1.0, 0, 0], [0, 0, 1], [0, 0, 1]]]])
    second = torch.tensor([[[[0.0, 1, 0], [0, 1, 0], [0, 0, 1]]]])
    assert rollout([first, second], prefix=1).tolist() == [[0.25, 0.25]]


def test_rollout_rows_sum_to_one_without_a_prefix() -> None:
    assert (rollout(attentions(batch=2), prefix=0).sum(1) - 1).abs().max() < 1e-12


def test_legrad_by_hand() -> None:
    # Two heads, class token and two patches. Positive parts of the patch columns in layer 1, head 1:
    # [1, 0], [0, 2], [3, 0]; head 2: zeros. Means over 2 heads and 3 queries: 4 / 6 and 2 / 6. Layer 2: 0 and 6 / 6.
    first = torch.zeros(1, 2, 3, 3, dtype=torch.float64)
    first[0, 0] = torch.tensor([[7.0, 1, -1], [7, -5, 2], [7, 3, 0]])
    second = torch.zeros(1, 2, 3, 3, dtype=torch.float64)
    second[0, 1, :, 2] = 2
    expected = torch.tensor([[4 / 6 / 2, (2 / 6 + 1) / 2]], dtype=torch.float64)
    assert (legrad([first, second], prefix=1) - expected).abs().max() < 1e-12


def test_legrad_replica_on_gradients_of_a_network() -> None:
    # One attention layer with a probability matrix as its leaf.
    tokens = checks.normal(2, TOKENS, 4)
    weights = attentions(batch=2)[0].requires_grad_()
    torch.manual_seed(0)
    value, classifier = nn.Linear(4, 4).double(), nn.Linear(4, 3).double()
    mixed = torch.matmul(weights.mean(1), value(tokens)).tanh()
    (gradient,) = torch.autograd.grad(classifier(mixed[:, 0])[:, 1].sum(), weights)
    expected = np.zeros((2, TOKENS - 1))
    for n in range(2):
        for h in range(HEADS):
            for i in range(TOKENS):
                for p in range(TOKENS - 1):
                    expected[n, p] += max(gradient[n, h, i, p + 1].item(), 0) / (HEADS * TOKENS)
    assert np.abs(expected).max() > 0
    assert np.abs(legrad([gradient], prefix=1).numpy() - expected).max() < 1e-12


def rollout_of_layers(*layers: Tensor) -> Tensor:
    return rollout([layer.abs() for layer in layers], 1)


def legrad_of_layers(*layers: Tensor) -> Tensor:
    return legrad(layers, 1)


SHAPES = [(HEADS, TOKENS, TOKENS)] * 2


@pytest.mark.parametrize("method", [rollout_of_layers, legrad_of_layers], ids=lambda method: method.__name__)
def test_batch_tracing_and_hard_inputs(method: checks.Method) -> None:
    checks.assert_batch_is_independent(method, SHAPES)
    checks.assert_traces(method, SHAPES)
    checks.assert_finite_on_hard_inputs(method, SHAPES, DTYPES)


def test_rollout_in_onnx_runtime() -> None:
    checks.assert_equal_in_onnx_runtime(rollout_of_layers, SHAPES)


@pytest.mark.parametrize("prefix", [0, 1, 2])
def test_chefer_and_agcam_replicas(prefix: int) -> None:
    given, slopes = attentions(batch=2), [checks.normal(2, HEADS, TOKENS, TOKENS, seed=9 + n) for n in range(LAYERS)]
    scores = [checks.normal(2, HEADS, TOKENS, TOKENS, seed=19 + n) for n in range(LAYERS)]
    reached, guided = np.zeros((2, TOKENS, TOKENS)), np.zeros((2, TOKENS, TOKENS))
    for n in range(2):
        reached[n] = np.eye(TOKENS)
        for layer, slope, score in zip(given, slopes, scores, strict=True):
            raised = sum(np.maximum((layer[n, h] * slope[n, h]).numpy(), 0) for h in range(HEADS)) / HEADS
            reached[n] = reached[n] + raised @ reached[n]
            for h in range(HEADS):
                guided[n] += np.maximum(slope[n, h].numpy(), 0) / (1 + np.exp(-score[n, h].numpy()))
    for found, full in ((chefer(given, slopes, prefix), reached), (agcam(scores, slopes, prefix), guided)):
        expected = full[:, 0, prefix:] if prefix else full.mean(1)
        assert np.abs(found.numpy() - expected).max() < 1e-12 * np.abs(expected).max()


def test_gradeclip_by_hand() -> None:
    # Two heads of one number each, a class token and two patches. The class token asks for (1, 0); the keys (2, 0) and
    # (0, 3) have cosines 1 and 0. Gradients (2, -1), values (1, 1) and (5, 5): 1 (2 - 1) and 0.
    query = torch.tensor([[[[1.0], [7], [7]], [[0.0], [7], [7]]]])
    key = torch.tensor([[[[9.0], [2], [0]], [[9.0], [0], [3]]]])
    value = torch.tensor([[[[8.0], [1], [5]], [[8.0], [1], [5]]]])
    gradients = torch.tensor([[[[2.0], [6], [6]], [[-1.0], [6], [6]]]])
    assert gradeclip(query, key, value, gradients, prefix=1).tolist() == [[1.0, 0.0]]


def chefer_of_layers(*layers: Tensor) -> Tensor:
    return chefer([layer.softmax(-1) for layer in layers], layers[::-1], 1)


def agcam_of_layers(*layers: Tensor) -> Tensor:
    return agcam(layers, layers[::-1], 1)


def gradeclip_of_one(query: Tensor, key: Tensor, value: Tensor, gradients: Tensor) -> Tensor:
    return gradeclip(query, key, value, gradients, 1)


@pytest.mark.parametrize("method", [chefer_of_layers, agcam_of_layers, gradeclip_of_one], ids=lambda m: m.__name__)
def test_relevance_on_batches_traces_and_hard_inputs(method: checks.Method) -> None:
    shapes = [(HEADS, TOKENS, 4)] * 4 if method is gradeclip_of_one else SHAPES
    checks.assert_batch_is_independent(method, shapes)
    checks.assert_traces(method, shapes)
    checks.assert_finite_on_hard_inputs(method, shapes, DTYPES)


@pytest.mark.parametrize("module", [attention, attention_relevance], ids=lambda module: module.__name__)
def test_docstring_examples(module: ModuleType) -> None:
    results = doctest.testmod(module, extraglobs={"torch": torch})
    assert results.attempted > 0
    assert results.failed == 0
