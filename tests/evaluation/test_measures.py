"""Each measure against a closed form, and against the libraries that have it too."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from explainable_model.errors import InputError
from explainable_model.evaluation import MEASURES, baselines, curves, localization, stability
from explainable_model.evaluation.baselines import blur, fill, impute_pixels

FOUR = np.array([[0.4, 0.3], [0.2, 0.1]])
IMAGE = FOUR[None].astype(np.float32)


def total(images: NDArray[np.float32]) -> NDArray[np.float64]:
    return images.sum((1, 2, 3), dtype=np.float64)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_deletion_and_insertion_of_a_sum() -> None:
    assert curves.deletion(total, IMAGE, FOUR, rng(), steps=2, baseline="zero") == pytest.approx(0.4)
    assert curves.insertion(total, IMAGE, FOUR, rng(), steps=2, baseline="zero") == pytest.approx(0.6)


def test_the_curve_takes_one_value_after_each_step() -> None:
    order = curves.rank_pixels(FOUR, rng())
    shares, scores = curves.score_steps(total, IMAGE, np.zeros_like(IMAGE), order, steps=4)
    np.testing.assert_allclose(shares, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(scores, [1, 0.6, 0.3, 0.1, 0], atol=1e-7)


def test_more_steps_than_pixels_take_each_pixel_once() -> None:
    shares, _ = curves.score_steps(total, IMAGE, np.zeros_like(IMAGE), np.arange(4), steps=100)
    np.testing.assert_allclose(shares, [0, 0.25, 0.5, 0.75, 1])


def test_no_step_is_an_error() -> None:
    with pytest.raises(InputError, match="steps is 0"):
        curves.deletion(total, IMAGE, FOUR, rng(), steps=0)


def test_equal_values_come_in_random_order() -> None:
    order = curves.rank_pixels(np.zeros((8, 8)), rng())
    assert sorted(order) == list(range(64))
    assert list(order) != list(range(64))


def test_road_of_what_the_score_depends_on_is_better_than_its_opposite() -> None:
    generator = np.random.default_rng(1)
    image = generator.standard_normal((3, 16, 16)).astype(np.float32)
    weights = np.zeros((16, 16))
    weights[4:8, 4:8] = 1
    image[:, 4:8, 4:8] += 3

    def score(images: NDArray[np.float32]) -> NDArray[np.float64]:
        return 1 / (1 + np.exp(-(images * weights).sum((1, 2, 3)) / 40))

    right = curves.road(score, image, weights, rng())
    wrong = curves.road(score, image, 1 - weights, rng())
    assert right > 0.1
    assert wrong < -0.1


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # pytorch-grad-cam hands tensors to NumPy
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_imputation_is_that_of_pytorch_grad_cam(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    road = pytest.importorskip("pytorch_grad_cam.metrics.road")
    generator = np.random.default_rng(2)
    image = blur(generator.standard_normal((3, 41, 32)).astype(np.float32), 2)
    smooth = blur(generator.standard_normal((1, 41, 32)).astype(np.float32), 3)[0]
    keep = smooth > np.quantile(smooth, share)
    monkeypatch.setattr(baselines, "NOISE", 0.0)
    want = road.NoisyLinearImputer(noise=0.0)(torch.tensor(image), torch.tensor(keep.astype(np.float32)))
    got = impute_pixels(image, keep, rng())
    np.testing.assert_allclose(got, want.numpy(), atol=2e-3 * image.std())
    np.testing.assert_array_equal(got[:, keep], image[:, keep])


def test_imputation_of_nothing_and_of_everything() -> None:
    image = np.random.default_rng(3).standard_normal((3, 5, 6)).astype(np.float32)
    np.testing.assert_array_equal(impute_pixels(image, np.ones((5, 6), bool), rng()), image)
    np.testing.assert_allclose(impute_pixels(image, np.zeros((5, 6), bool), rng()), fill(image, "mean"))


def test_blur_keeps_a_constant_and_spreads_a_point() -> None:
    constant = np.full((2, 9, 7), 3, np.float32)
    np.testing.assert_allclose(blur(constant, 2), constant, rtol=1e-6)
    point = np.zeros((1, 21, 21), np.float32)
    point[0, 10, 10] = 1
    spread = blur(point, 2)[0]
    distances = (np.arange(21)[:, None] - 10) ** 2 + (np.arange(21)[None] - 10) ** 2
    np.testing.assert_allclose(spread, np.exp(-distances / 8) / (8 * np.pi), atol=2e-4)


def test_an_unknown_baseline_is_named() -> None:
    with pytest.raises(InputError, match="'gray'; expected one of mean, blur, zero"):
        fill(IMAGE, "gray")  # type: ignore[arg-type]


def test_drop_increase_and_adcc() -> None:
    assert stability.average_drop(total, IMAGE, np.ones((2, 2))) == 0
    assert stability.average_drop(total, IMAGE, np.array([[1, 0], [0, 0]])) == pytest.approx(0.6)
    assert stability.average_drop(lambda images: -total(images), IMAGE, FOUR) == 0  # a score below zero has no share
    assert stability.increase(total, -IMAGE, np.zeros((2, 2))) == 1
    assert stability.increase(total, IMAGE, np.ones((2, 2))) == 0
    assert stability.adcc(0.2, 0.9, 0.4) == pytest.approx(3 / (1 / 0.9 + 1 / 0.6 + 1 / 0.8))
    assert stability.adcc(1.0, 0.9, 0.4) == 0


def test_coherency_of_a_map_that_follows_its_image() -> None:
    image = np.random.default_rng(4).random((1, 6, 6)).astype(np.float32)
    cam = image[0].astype(np.float64)
    assert stability.coherency(lambda changed: np.sqrt(changed[0]), image, cam) == pytest.approx(1)
    assert stability.coherency(lambda changed: -np.sqrt(changed[0]), image, cam) == pytest.approx(0, abs=1e-7)
    assert stability.coherency(lambda changed: np.zeros((6, 6)), image, cam) == 0.5


@pytest.mark.parametrize("count", [1, 3, 10])
def test_the_gini_index(count: int) -> None:
    one = np.zeros(10)
    one[:count] = 2
    assert stability.sparseness(one.reshape(2, 5)) == pytest.approx(1 - count / 10)
    assert stability.sparseness(np.zeros((2, 5))) == 0


def test_max_sensitivity_is_that_of_captum() -> None:
    metrics = pytest.importorskip("captum.metrics")
    image = np.random.default_rng(5).random((1, 5, 4)).astype(np.float32)
    drawn: list[NDArray[np.float32]] = []

    def explain(changed: NDArray[np.float32]) -> NDArray[np.float64]:
        drawn.append(changed - image)
        return np.sin(3 * changed[0].astype(np.float64))

    cam = np.sin(3 * image[0].astype(np.float64))
    got = stability.max_sensitivity(explain, image, cam, rng(), samples=6)
    assert max(np.abs(d).max() for d in drawn) <= stability.RADIUS * np.ptp(image) * 1.0001
    noises = iter(torch.tensor(np.stack(drawn)).double())
    want = metrics.sensitivity_max(
        lambda changed: (torch.sin(3 * changed[0]),),
        torch.tensor(image[None]).double(),
        perturb_func=lambda repeated: (torch.stack([row + next(noises) for row in repeated[0]]),),
        n_perturb_samples=6,
        max_examples_per_batch=1,
    )
    assert got == pytest.approx(float(want), rel=1e-5)


def test_a_linear_network_is_explained_without_error() -> None:
    generator = np.random.default_rng(6)
    image, weights = generator.random((1, 14, 21)).astype(np.float32), generator.standard_normal((14, 21))
    cam = weights * (image[0] - image.mean())

    def score(images: NDArray[np.float32]) -> NDArray[np.float64]:
        return (images * weights).sum((1, 2, 3))

    assert stability.infidelity(score, image, cam, rng()) == pytest.approx(0, abs=1e-9)
    assert stability.faithfulness_correlation(score, image, cam, rng()) == pytest.approx(1)
    assert stability.faithfulness_correlation(score, image, -cam, rng()) == pytest.approx(-1)
    assert stability.infidelity(score, image, np.zeros((14, 21)), rng()) == 1
    assert stability.faithfulness_correlation(lambda images: np.ones(len(images)), image, cam, rng()) is None
    assert stability.infidelity(lambda images: np.ones(len(images)), image, cam, rng()) is None


def test_infidelity_is_that_of_captum() -> None:
    metrics = pytest.importorskip("captum.metrics")
    generator = np.random.default_rng(7)
    image, cam = generator.random((1, 14, 14)).astype(np.float32), generator.random((14, 14))

    def score(images: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.tanh((images.astype(np.float64) ** 2).sum((1, 2, 3)) / 30)

    removed = stability._draw_patches((14, 14), rng(), stability.SUBSETS)
    baseline = fill(image, "mean")
    steps = iter(torch.tensor(np.where(removed[:, None], image - baseline, 0)).double())
    lost = score(image[None])[0] - score(np.where(removed[:, None], baseline, image).astype(np.float32))
    inside = torch.tensor(cam / np.where(image[0] == baseline[0], 1, image[0] - baseline[0]))

    def perturb(repeated: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        moves = torch.stack([next(steps) for _ in repeated])
        return moves, repeated - moves

    want = metrics.infidelity(
        lambda images: torch.tanh((images**2).sum((1, 2, 3)) / 30),
        perturb,
        torch.tensor(image[None]).double(),
        inside[None, None],  # times the perturbation, it is the map
        n_perturb_samples=stability.SUBSETS,
        max_examples_per_batch=1,
        normalize=True,
    )
    got = stability.infidelity(score, image, cam, rng())
    assert got == pytest.approx(float(want) / float((lost**2).mean()), rel=1e-4)


@pytest.mark.parametrize(
    ("cam", "pointing", "energy", "overlap"),
    [
        ([[1, 0], [0, 0]], 1, 1, 1),
        ([[0, 0], [0, 1]], 0, 0, 0),
        ([[1, 0.6], [0, 0]], 1, 1 / 1.6, 0.5),
        ([[0, 0], [0, 0]], 0, None, 0),
        ([[-1, -1], [-1, -1]], 0, None, 0),
    ],
)
def test_localization(cam: Any, pointing: float, energy: float | None, overlap: float) -> None:
    mask = np.array([[True, False], [False, False]])
    values = np.array(cam, np.float64)
    assert localization.pointing_game(values, mask, tolerance=0) == pointing
    assert localization.energy_in_mask(values, mask) == pytest.approx(energy)
    assert localization.intersection_over_union(values, mask) == overlap


def test_a_point_within_the_tolerance_is_a_hit() -> None:
    cam, mask = np.zeros((224, 224)), np.zeros((224, 224), bool)
    cam[100, 115], mask[100, 100] = 1, True
    assert localization.pointing_game(cam, mask) == 1
    cam = np.roll(cam, 1, 1)
    assert localization.pointing_game(cam, mask) == 0


def test_ranks() -> None:
    a, b = np.array([1.0, 2.0, 2.0, 4.0]), np.array([10.0, 20.0, 20.0, 15.0])
    assert stability.correlate_ranks(a, a**3) == pytest.approx(1)
    assert stability.correlate_ranks(a, b) == pytest.approx(np.corrcoef([1, 2.5, 2.5, 4], [1, 3.5, 3.5, 2])[0, 1])
    assert stability.correlate_ranks(a, np.ones(4)) == 0


def test_every_row_says_where_it_comes_from() -> None:
    for name, row in MEASURES.items():
        assert row.name == name
        assert row.formula
        assert row.source
        assert (row.run is None) == (row.needs == "mosaic")


def test_the_page_lists_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text("utf-8").replace("\\|", "|")
    arrows = {"larger": "↑ ", "smaller": "↓ ", "neither": ""}
    rows = [f"| `{row.name}` | {arrows[row.better]}| {row.formula} | {row.source} |" for row in MEASURES.values()]
    assert page.split("|---|---|---|---|\n")[1].strip().split("\n") == rows
