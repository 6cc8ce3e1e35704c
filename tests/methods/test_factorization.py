"""Deep feature factorization: by hand, beside scikit-learn, and on a whole network."""

import doctest
import warnings

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from explainable_model.errors import ModelError
from explainable_model.methods import dff as module
from explainable_model.methods.dff import LIFT, STEPS, dff, factorize
from tests.methods.oracle import LAYER, activations_of, assert_equal, batch, each, raw, small
from tests.support import method_checks as checks

Matrix = NDArray[np.float64]


def factorize_by_loops(matrix: Matrix, parts: int) -> tuple[Matrix, Matrix]:
    """Positions by least squares, one after the other; then scikit-learn's multiplicative updates."""
    places: list[int] = []
    for _ in range(parts):
        kept = matrix[:, places]
        rest = matrix - kept @ np.linalg.lstsq(kept, matrix)[0] if places else matrix
        places.append(int(np.linalg.norm(rest, axis=0).argmax()))
    level = LIFT * np.sqrt(matrix.mean() / parts)
    left = matrix[:, places] + level
    right = left.T @ matrix / np.square(left).sum(0)[:, None] + level
    model = NMF(parts, init="custom", solver="mu", max_iter=STEPS, tol=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        left = model.fit_transform(matrix, W=left, H=right)
    return left, model.components_


@pytest.mark.parametrize("concept", [0, 1, 2])
def test_a_whole_network(concept: int) -> None:
    network = small()

    def oracle(image: Tensor, _: int) -> Tensor:
        activations = activations_of(network, LAYER, image)[0].clamp(min=0)
        scale = float(activations.max())
        left, right = factorize_by_loops(activations.flatten(1).numpy() / scale, 3)
        maps = [np.linalg.norm(left[:, j]) * right[j] for j in range(3)]
        maps.sort(key=lambda cam: -float(np.linalg.norm(cam)))
        return torch.from_numpy(scale * maps[concept]).reshape(activations.shape[1:])

    assert_equal(raw(network, LAYER, "dff", batch(), concepts=3, concept=concept), each(oracle, batch()), 1e-8)


def test_the_factors_are_nearly_the_best() -> None:
    matrix = checks.normal(2, 12, 20).relu()
    what, where = factorize(matrix, 3)
    for n in range(2):
        best = NMF(3, init="nndsvda", max_iter=2000).fit(matrix[n].numpy())
        assert float((matrix[n] - what[n] @ where[n]).norm()) < 1.2 * best.reconstruction_err_


def test_dff_by_hand() -> None:
    # Three parts without a common channel or position: each is a product of its own. Their sizes |W_j| |H_j| are
    # 10 * 1, 3 * sqrt(2) and 1 * 1; the map is |W_j| H_j.
    activations = torch.zeros(1, 4, 1, 4, dtype=torch.float64)
    activations[0, :2, 0, 0] = torch.tensor([6.0, 8.0])
    activations[0, 2, 0, 1:3] = 3.0
    activations[0, 3, 0, 3] = 1.0
    for concept, expected in enumerate([[10.0, 0, 0, 0], [0, 3.0, 3.0, 0], [0, 0, 0, 1.0]]):
        found = dff(activations, concepts=3, concept=concept)
        assert (found - torch.tensor([[expected]])).abs().max() < 1e-3, "what is left after 50 steps"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rank", [1, 2])
def test_activations_of_few_parts_have_few_concepts(rank: int, dtype: torch.dtype) -> None:
    # Which position is left beside the others would be rounding alone, and another one in each runtime.
    activations = (checks.normal(6, rank).abs() @ checks.normal(rank, 12, seed=1).abs()).reshape(1, 6, 3, 4).to(dtype)
    maps = [dff(activations, concepts=4, concept=concept) for concept in range(4)]
    assert [bool(cam.any()) for cam in maps] == [concept < rank for concept in range(4)]
    if rank == 1:
        assert checks.relative(maps[0], activations.square().sum(1).sqrt()) < 1e-5


def test_dff_has_no_more_concepts_than_asked() -> None:
    with pytest.raises(ModelError, match="'dff' has concept=4 of concepts=4; expected 0 to 3"):
        dff(checks.normal(1, 3, 2, 2), concept=4)


def test_all_steps_in_onnx_runtime() -> None:
    checks.assert_equal_in_onnx_runtime(dff, [(20, 4, 4)], 1e-4)


def test_docstring_examples() -> None:
    results = doctest.testmod(module, extraglobs={"torch": torch})
    assert results.attempted > 0
    assert results.failed == 0
