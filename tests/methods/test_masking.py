"""Masks and maps of the methods that read scores of masked copies, up to whole runs on a tiny network."""

import doctest
import math
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from explainable_model.methods import iscam as iscam_module
from explainable_model.methods import masking
from explainable_model.methods import sscam as sscam_module
from explainable_model.methods.iscam import iscam, mask_factors
from explainable_model.methods.masking import (
    ablation_weights,
    ablationcam,
    reciprocam,
    reciprocam_masks,
    scorecam,
    scorecam_weights,
    upsampled_masks,
)
from explainable_model.methods.sscam import sscam
from tests.support import method_checks as checks
from tests.support.nets import seeded

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def network() -> tuple[nn.Module, nn.Module]:
    """Head and tail of a network in float64: ``(N, 3, 8, 8)`` -> ``(N, 4, 4, 4)`` -> ``(N, 3)``."""
    whole = seeded(nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 3, 4), nn.Tanh(), nn.Flatten()))
    whole = whole.double()
    return whole[:2], whole[2:]


@pytest.mark.parametrize(("spatial", "size"), [((4,), (7,)), ((3, 5), (7, 9)), ((2, 3, 4), (4, 6, 5))])
def test_upsampled_masks_replica(spatial: tuple[int, ...], size: tuple[int, ...]) -> None:
    activations = checks.normal(2, 3, *spatial)
    activations[0, 1] = 0.7
    mode = ("linear", "bilinear", "trilinear")[len(size) - 1]
    masks = upsampled_masks(activations, size)
    assert masks.shape == (2, 3, *size)
    for n in range(2):
        for k in range(3):
            up = functional.interpolate(activations[n : n + 1, k : k + 1], size, mode=mode, align_corners=False)[0, 0]
            constant = (n, k) == (0, 1)
            expected = torch.zeros(size) if constant else (up - up.min()) / (up.max() - up.min())
            assert (masks[n, k] - expected).abs().max() < 1e-12


def test_upsampled_masks_by_hand() -> None:
    # 0 and 4 at twice the width, half-pixel centers: 0, 1, 3, 4; then over the range 4.
    assert upsampled_masks(torch.tensor([[[0.0, 4.0]]]), (4,)).tolist() == [[[0.0, 0.25, 0.75, 1.0]]]


def test_scorecam_by_hand() -> None:
    # exp(0) = 1 and exp(ln 3) = 3: weights 1/4 and 3/4.
    scores = torch.tensor([[0.0, math.log(3)]], dtype=torch.float64)
    assert (scorecam_weights(scores) - torch.tensor([[0.25, 0.75]])).abs().max() < 1e-12
    activations = torch.tensor([[[[4.0, 0.0], [8.0, -4.0]], [[0.0, 4.0], [4.0, 4.0]]]], dtype=torch.float64)
    # 4/4 + 0, 0 + 3, 2 + 3, -1 + 3.
    assert (scorecam(activations, scores) - torch.tensor([[[1.0, 3.0], [5.0, 2.0]]])).abs().max() < 1e-12


def test_scorecam_on_a_network() -> None:
    head, tail = network()
    image = checks.normal(2, 3, 8, 8)
    with torch.no_grad():
        activations = head(image)
        masked = (image.unsqueeze(1) * upsampled_masks(activations, (8, 8)).unsqueeze(2)).flatten(0, 1)
        cam = scorecam(activations, tail(head(masked))[:, 1].reshape(2, 4))
        for n in range(2):
            scores = []
            for k in range(4):
                up = functional.interpolate(activations[n, k][None, None], (8, 8), mode="bilinear")[0, 0]
                scores.append(tail(head(image[n : n + 1] * (up - up.min()) / (up.max() - up.min())))[0, 1].item())
            # The paper's way: relative to the score of a black image.
            scores = [score - tail(head(torch.zeros_like(image[:1])))[0, 1].item() for score in scores]
            weights = np.exp(scores) / np.sum(np.exp(scores))
            expected = sum(w * a for w, a in zip(weights, activations[n], strict=True))
            assert (cam[n] - expected).abs().max() < 1e-12


def test_iscam_by_hand() -> None:
    # Four samples: j / 4 summed to 1/4, 3/4 and 6/4. Scores of the channels: sums ln 81 and 0, a quarter of them ln 3.
    assert mask_factors(4) == [0.25, 0.75, 1.5]
    scores = torch.tensor([[[math.log(9), 1.0], [math.log(9), -3.0], [0.0, 2.0]]], dtype=torch.float64)
    activations = torch.tensor([[[[4.0, 0.0]], [[0.0, 8.0]]]], dtype=torch.float64)
    # Weights 3/4 and 1/4.
    assert (iscam(activations, scores, 4) - torch.tensor([[[3.0, 2.0]]])).abs().max() < 1e-12


def test_sscam_by_hand() -> None:
    # Mean scores ln 3 and 0: weights 3/4 and 1/4.
    scores = torch.tensor([[[math.log(9), 1.0], [0.0, -1.0]]], dtype=torch.float64)
    activations = torch.tensor([[[[4.0, 0.0]], [[0.0, 8.0]]]], dtype=torch.float64)
    assert (sscam(activations, scores) - torch.tensor([[[3.0, 2.0]]])).abs().max() < 1e-12


def test_ablation_by_hand() -> None:
    # (4 - 3) / 4 and (4 - 6) / 4.
    weights = ablation_weights(torch.tensor([4.0]), torch.tensor([[3.0, 6.0]]))
    assert weights.tolist() == [[0.25, -0.5]]
    activations = torch.tensor([[[[4.0, 0.0], [8.0, 4.0]], [[0.0, 2.0], [2.0, 4.0]]]])
    cam = ablationcam(activations, torch.tensor([4.0]), torch.tensor([[3.0, 6.0]]))
    assert cam.tolist() == [[[1.0, -1.0], [1.0, -1.0]]]


def test_ablation_weights_of_negative_and_zero_scores() -> None:
    # The score falls from -2 to -3 without the first channel: that channel supports the class.
    assert ablation_weights(torch.tensor([-2.0]), torch.tensor([[-3.0, -1.0]])).tolist() == [[0.5, -0.5]]
    weights = ablation_weights(torch.tensor([0.0]), torch.tensor([[-2.0, 1.0]]))
    assert torch.isfinite(weights).all()
    assert (weights / weights.abs().max()).tolist() == [[1.0, -0.5]]
    assert ablation_weights(torch.tensor([0.0]), torch.tensor([[0.0, 0.0]])).tolist() == [[0.0, 0.0]]


def test_ablationcam_on_a_network() -> None:
    head, tail = network()
    with torch.no_grad():
        activations = head(checks.normal(2, 3, 8, 8))
        score = tail(activations)[:, 2]
        ablated = torch.empty(2, 4, dtype=torch.float64)
        expected = torch.zeros(2, 4, 4, dtype=torch.float64)
        for n in range(2):
            for k in range(4):
                without = activations[n : n + 1].clone()
                without[:, k] = 0
                ablated[n, k] = tail(without)[0, 2]
                expected[n] += (score[n] - ablated[n, k]) / score[n].abs() * activations[n, k]
    assert checks.relative(ablationcam(activations, score, ablated), expected) < 1e-12


def test_reciprocam_masks_by_hand() -> None:
    masks = reciprocam_masks((2, 3), gaussian=True) * 16
    # Around the corner of two rows and three columns, and around the middle of the second row.
    assert masks[0].tolist() == [[4.0, 2.0, 0.0], [2.0, 1.0, 0.0]]
    assert masks[4].tolist() == [[1.0, 2.0, 1.0], [2.0, 4.0, 2.0]]
    single = reciprocam_masks((2, 2))
    assert single.tolist() == [[[1, 0], [0, 0]], [[0, 1], [0, 0]], [[0, 0], [1, 0]], [[0, 0], [0, 1]]]


@pytest.mark.parametrize("spatial", [(5,), (3, 4), (2, 3, 4), (1, 1)], ids=str)
@pytest.mark.parametrize("gaussian", [True, False])
def test_reciprocam_masks_replica(spatial: tuple[int, ...], gaussian: bool) -> None:
    masks = reciprocam_masks(spatial, gaussian=gaussian, dtype=torch.float64)
    assert masks.shape == (math.prod(spatial), *spatial)
    share = {0: 0.5, 1: 0.25} if gaussian else {0: 1.0}
    for number, center in enumerate(np.ndindex(*spatial)):
        for index in np.ndindex(*spatial):
            expected = math.prod(share.get(abs(i - c), 0.0) for i, c in zip(index, center, strict=True))
            assert masks[(number, *index)] == expected


def test_reciprocam_on_a_network() -> None:
    head, tail = network()
    with torch.no_grad():
        activations = head(checks.normal(2, 3, 8, 8))
        masks = reciprocam_masks((4, 4), dtype=torch.float64)
        masked = (activations.unsqueeze(1) * masks.unsqueeze(1)).flatten(0, 1)
        cam = reciprocam(tail(masked)[:, 0].reshape(2, 16), (4, 4))
        for n in range(2):
            scores = np.zeros((4, 4))
            for i in range(4):
                for j in range(4):
                    only = torch.zeros_like(activations[:1])
                    only[0, :, i, j] = activations[n, :, i, j]
                    scores[i, j] = tail(only)[0, 0]
            assert np.abs(cam[n].numpy() - (scores - scores.min())).max() < 1e-12


def test_reciprocam_of_negative_scores_is_not_blank() -> None:
    assert reciprocam(torch.tensor([[-4.0, -3.0, -1.0, -4.0]]), (2, 2)).tolist() == [[[0.0, 1.0], [3.0, 0.0]]]


def size_up(activations: Tensor) -> Tensor:
    return upsampled_masks(activations, (6, 7))


def square(scores: Tensor) -> Tensor:
    return reciprocam(scores, (2, 3))


def iscam_of_three(activations: Tensor, scores: Tensor) -> Tensor:
    return iscam(activations, scores, samples=4)


CASES = {
    "upsampled_masks": (size_up, [(3, 3, 5)]),
    "scorecam": (scorecam, [(4, 3, 5), (4,)]),
    "iscam": (iscam_of_three, [(4, 3, 5), (3, 4)]),
    "sscam": (sscam, [(4, 3, 5), (3, 4)]),
    "ablationcam": (ablationcam, [(4, 3, 5), (), (4,)]),
    "reciprocam": (square, [(6,)]),
}


@pytest.mark.parametrize("name", CASES)
def test_batch_and_tracing(name: str) -> None:
    method, shapes = CASES[name]
    checks.assert_batch_is_independent(method, shapes)
    checks.assert_traces(method, shapes)


@pytest.mark.parametrize("name", ["upsampled_masks", "ablationcam"])
def test_onnx_runtime(name: str) -> None:
    checks.assert_equal_in_onnx_runtime(*CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_hard_inputs(name: str) -> None:
    method, shapes = CASES[name]
    checks.assert_finite_on_hard_inputs(method, shapes, DTYPES)


@pytest.mark.parametrize("module", [masking, iscam_module, sscam_module], ids=lambda module: module.__name__)
def test_docstring_examples(module: ModuleType) -> None:
    results = doctest.testmod(module, extraglobs={"torch": torch})
    assert results.attempted > 0
    assert results.failed == 0
