"""Fusion of the maps of several layers, by hand and against loops."""

import doctest
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from explainable_model.methods import fusion
from explainable_model.methods.fusion import fuse_layercam, fuse_max, fuse_mean, refinecam
from tests.support import method_checks as checks

Fusion = Callable[[Sequence[Tensor]], Tensor]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def scaled(cam: np.ndarray) -> np.ndarray:
    cam = np.maximum(cam, 0)
    return (cam - cam.min()) / (cam.max() - cam.min())


def lifted(cam: np.ndarray) -> np.ndarray:
    return np.tanh(2 * np.maximum(cam, 0) / cam.max())


REPLICAS: dict[Fusion, Callable[[list[np.ndarray]], np.ndarray]] = {
    fuse_mean: lambda maps: sum(map(scaled, maps)) / len(maps),
    fuse_max: lambda maps: np.maximum.reduce(list(map(scaled, maps))),
    refinecam: lambda maps: np.multiply.reduce(list(map(scaled, maps))),
    fuse_layercam: lambda maps: np.maximum.reduce(list(map(lifted, maps))),
}


@pytest.mark.parametrize("spatial", [(5,), (3, 4), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("fuse", list(REPLICAS), ids=lambda fuse: fuse.__name__)
def test_replica(fuse: Fusion, spatial: tuple[int, ...]) -> None:
    maps = checks.inputs([spatial] * 3, batch=2)
    expected = np.stack([REPLICAS[fuse]([cam[n].numpy() for cam in maps]) for n in range(2)])
    assert np.abs(fuse(maps).numpy() - expected).max() < 1e-12


# Maps [[-1, 0], [1, 2]] and [[4, 2], [4, 0]]; scaled: [[0, 0], [1/2, 1]] and [[1, 1/2], [1, 0]].
TANH_1, TANH_2 = 0.761594, 0.964028
BY_HAND = {
    fuse_mean: [[0.5, 0.25], [0.75, 0.5]],
    fuse_max: [[1.0, 0.5], [1.0, 1.0]],
    refinecam: [[0.0, 0.0], [0.5, 0.0]],
    fuse_layercam: [[TANH_2, TANH_1], [TANH_2, TANH_2]],
}


@pytest.mark.parametrize("fuse", list(BY_HAND), ids=lambda fuse: fuse.__name__)
def test_by_hand(fuse: Fusion) -> None:
    maps = [torch.tensor([[[-1.0, 0.0], [1.0, 2.0]]]), torch.tensor([[[4.0, 2.0], [4.0, 0.0]]])]
    assert (fuse(maps) - torch.tensor([BY_HAND[fuse]])).abs().max() < 1e-6


@pytest.mark.parametrize("fuse", list(BY_HAND), ids=lambda fuse: fuse.__name__)
def test_batch_tracing_and_hard_inputs(fuse: Fusion) -> None:
    def method(*maps: Tensor) -> Tensor:
        return fuse(maps)

    shapes = [(3, 4)] * 2
    checks.assert_batch_is_independent(method, shapes)
    checks.assert_traces(method, shapes)
    checks.assert_finite_on_hard_inputs(method, shapes, DTYPES)
    assert (fuse([-torch.ones(1, 2, 2)] * 2) == 0).all()


def test_docstring_examples() -> None:
    results = doctest.testmod(fusion, extraglobs={"torch": torch})
    assert results.attempted > 0
    assert results.failed == 0
