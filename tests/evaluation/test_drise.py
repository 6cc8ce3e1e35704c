"""D-RISE: the map of a detector whose answer is a linear function of the pixels has a closed form."""

from typing import Any

import numpy as np
import pytest

from explainable_model.errors import InputError
from explainable_model.evaluation import drise
from explainable_model.evaluation.drise import Detected, compute_similarity, enlarge, iterate_masks

SIDE, GRID, P = 12, 3, 0.4
BOX = (2, 3, 8, 9)
WHITE = np.ones((1, SIDE, SIDE), np.float32)


def show_mean(images: np.ndarray) -> list[Detected]:
    """A detector that always finds the same box, as sure as its pixels are bright."""
    left, top, right, bottom = BOX
    return [Detected([BOX], [image[0, top:bottom, left:right].mean()], [1]) for image in images]


def explain(detect: Any = show_mean, **options: Any) -> np.ndarray:
    arguments = {"masks": 40, "grid": GRID, "probability": P, "normalize": False, **options}
    return drise(detect, WHITE, [BOX], [1], **arguments)[0]


def test_the_map_is_the_weighted_sum_of_the_masks() -> None:
    masks = np.concatenate(list(iterate_masks((SIDE, SIDE), 40, grid=GRID, probability=P))).astype(float)
    weights = masks[:, 3:9, 2:8].mean((1, 2))
    np.testing.assert_allclose(explain(), (weights[:, None, None] * masks).sum(0) / (40 * P), rtol=1e-5)


def test_the_map_tends_to_its_closed_form() -> None:
    """Cells are independent: E[w M(x)] / p = (p^2 + p (1 - p) sum_c a_c(B) a_c(x)) / p, in the mean over shifts."""
    cell = SIDE // GRID
    units = np.stack([enlarge(np.eye(GRID * GRID)[n].reshape(GRID, GRID), (cell, cell)) for n in range(GRID * GRID)])
    shifts = [(row, column) for row in range(cell) for column in range(cell)]
    parts = [units[:, row : row + SIDE, column : column + SIDE].astype(float) for row, column in shifts]
    covariance = np.mean([np.einsum("c,chw->hw", a[:, 3:9, 2:8].mean((1, 2)), a) for a in parts], axis=0)
    expected = P + (1 - P) * covariance
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(explain(masks=5000), expected, atol=0.03)


def test_a_detector_that_no_mask_changes_has_the_mean_mask() -> None:
    map_ = explain(lambda images: [Detected([BOX], [0.5], [1])] * len(images), masks=1500)
    np.testing.assert_allclose(map_, 0.5, atol=0.04)


def test_the_map_is_large_where_the_detector_looks() -> None:
    def needs_a_corner(images: np.ndarray) -> list[Detected]:
        return [Detected(*([[BOX], [1], [1]] if image[0, 10, 1] > 0.7 else [[], [], []])) for image in images]

    map_ = explain(needs_a_corner, masks=400, normalize=True)
    assert (map_.min(), map_.max()) == (0, 1)
    row, column = np.unravel_index(map_.argmax(), map_.shape)
    assert abs(int(row) - 10) <= 2
    assert abs(int(column) - 1) <= 2


def test_the_seed_decides_the_map() -> None:
    np.testing.assert_array_equal(explain(), explain())
    assert np.abs(explain() - explain(seed=1)).max() > 0.01


def test_a_hidden_pixel_has_the_value_of_the_baseline() -> None:
    np.testing.assert_allclose(
        explain(baseline=1.0), explain(lambda images: [Detected([BOX], [1.0], [1])] * len(images)), rtol=1e-6
    )


def test_another_class_and_no_box_count_nothing() -> None:
    wanted = np.array([[0.0, 0, 10, 10]])
    found = Detected([[0, 0, 10, 10], [0, 0, 10, 4]], [0.9, 0.5], [2, 1])
    assert compute_similarity(wanted, np.array([1.0]), found) == pytest.approx(0.2)  # not the surer box of class 2
    assert compute_similarity(wanted, np.array([3.0]), found) == 0
    assert compute_similarity(wanted, np.array([1.0]), Detected([], [], [])) == 0
    assert not explain(lambda images: [Detected([], [], [])] * len(images), normalize=True).any()


def test_probabilities_are_compared_by_their_cosine() -> None:
    wanted, box = np.array([[0.0, 0, 10, 10]]), [[0, 0, 10, 10]]
    similarity = compute_similarity(wanted, np.array([[3.0, 4.0]]), Detected(box, [0.5], [[1.0, 0.0]]))
    assert similarity == pytest.approx(0.5 * 0.6)


def test_progress_counts_masks() -> None:
    calls: list[tuple[str, int, int]] = []
    explain(progress=lambda *call: calls.append(call))
    assert calls == [("copies", 16, 40), ("copies", 32, 40), ("copies", 40, 40)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"boxes": [1, 2, 3, 4]}, "boxes has shape (4,); expected (k, 4)"),
        ({"labels": [1, 2]}, "labels has shape (2,); expected (1,), a class for each box"),
        ({"masks": 0}, "masks is 0"),
        ({"probability": 1.0}, "probability 1.0"),
        ({"grid": 13}, "grid is 13; expected 1 to 12"),
        ({"image": WHITE[0]}, "image has shape (12, 12); expected (C, H, W)"),
        ({"labels": [[0.5, 0.5]]}, "detect returned labels of shape (1,); expected (m, 2)"),
        ({"detect": lambda images: []}, "detect returned 0 answers to 16 images"),
    ],
)
def test_refusals(arguments: dict[str, Any], message: str) -> None:
    given = {"detect": show_mean, "image": WHITE, "boxes": [BOX], "labels": [1], "grid": GRID, **arguments}
    with pytest.raises(InputError) as caught:
        drise(**given)
    assert message in str(caught.value)
