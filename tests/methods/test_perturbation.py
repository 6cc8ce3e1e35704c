"""Occlusion and RISE: by hand, against loops, and on a whole network against passes that are written out."""

import doctest
from math import ceil, floor

import numpy as np
import pytest
import torch
from torch import Tensor

from explainable_model.attribution.noise import uniform_numbers
from explainable_model.methods import perturbation
from explainable_model.methods.perturbation import occlusion, occlusion_windows, rise_masks, rise_share
from tests.methods.oracle import CLASSES, SIZE, assert_equal, batch, each, raw, small
from tests.support import method_checks as checks

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize(
    ("size", "window", "stride"), [((7,), 3, 2), ((6, 9), 4, 3), ((4, 3, 5), 2, 1), ((3, 3), 9, 2)]
)
def test_windows(size: tuple[int, ...], window: int, stride: int) -> None:
    found = occlusion_windows(torch.ones(1), size, window, stride).numpy()
    starts = [range(0, max(0, length - window + stride - 1) // stride * stride + 1, stride) for length in size]
    expected = []
    for corner in np.ndindex(*[len(places) for places in starts]):
        mask = np.zeros(size)
        mask[tuple(slice(starts[axis][at], starts[axis][at] + window) for axis, at in enumerate(corner))] = 1
        expected.append(mask)
    assert np.array_equal(found, np.stack(expected))
    assert found.max(0).min() == 1  # every pixel is hidden once or more


def test_occlusion_by_hand() -> None:
    # Two windows of two pixels on three: the middle one is hidden by both. Drops 4 and 2, so 4, 3, 2.
    windows = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    assert occlusion(torch.tensor([[1.0, 3.0]]), torch.tensor([5.0]), windows).tolist() == [[4.0, 3.0, 2.0]]


def test_occlusion() -> None:
    network, window, stride, value = small(), 5, 3, 0.3

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        drops, counts = torch.zeros(2, *SIZE[1:], dtype=torch.float64)
        places = range(0, 13, stride)  # the last one is cut off: 12 + 5 > 16
        for top in places:
            for left in places:
                hidden = image.clone()
                hidden[:, :, top : top + window, left : left + window] = value
                drop = (network(image) - network(hidden))[0, class_idx].item()
                drops[top : top + window, left : left + window] += drop
                counts[top : top + window, left : left + window] += 1
        return drops / counts

    with torch.no_grad():
        expected = each(oracle, batch())
    assert_equal(raw(network, None, "occlusion", batch(), window=window, stride=stride, baseline=value), expected)
    # Of 16 pixels the window is an eighth, and half of that is the stride.
    assert torch.equal(
        raw(network, None, "occlusion", batch()), raw(network, None, "occlusion", batch(), window=2, stride=1)
    )


def enlarged_by_hand(grid: np.ndarray, length: int, cells: int, offset: int) -> np.ndarray:
    """One row of a mask: linear between the centers of cells, which are enlarged to one cell more."""
    total, row = (cells + 1) * ceil(length / cells), []
    for pixel in range(length):
        place = min(max((pixel + offset + 0.5) * cells / total - 0.5, 0), cells - 1)
        low = min(floor(place), cells - 2)
        row.append(grid[low] * (low + 1 - place) + grid[low + 1] * (place - low))
    return np.array(row)


def test_masks() -> None:
    size, cells, keep = (11, 16), 4, 0.4
    masks = rise_masks(torch.ones(1), size, (0, 6), 3, cells, keep).numpy()
    numbers = uniform_numbers(torch.ones(1), cells**2 + 2, 6, 3).numpy()
    for mask, drawn in zip(masks, numbers, strict=True):
        grid = (drawn[: cells**2] < keep).reshape(cells, cells).astype(float)
        offsets = [floor(drawn[cells**2 + axis] * ceil(size[axis] / cells)) for axis in range(2)]
        columns = np.stack(
            [enlarged_by_hand(grid[:, column], size[0], cells, offsets[0]) for column in range(cells)], 1
        )
        expected = np.stack([enlarged_by_hand(row, size[1], cells, offsets[1]) for row in columns])
        assert np.abs(mask - expected).max() < 1e-5
    # A part of them is the same part of all; another seed draws others.
    assert np.array_equal(masks[2:5], rise_masks(torch.ones(1), size, (2, 5), 3, cells, keep).numpy())
    assert np.abs(masks - rise_masks(torch.ones(1), size, (0, 6), 4, cells, keep).numpy()).max() > 0.5


@pytest.mark.parametrize("size", [(20,), (12, 20), (6, 8, 10)])
def test_every_pixel_is_shown_as_often_as_asked(size: tuple[int, ...]) -> None:
    masks = rise_masks(torch.ones(1), size, (0, 3000), 0, 4, 0.3)
    assert masks.shape == (3000, *size)
    assert masks.min() >= 0
    assert masks.max() <= 1
    assert (masks.mean(0) - 0.3).abs().max() < 0.05


def test_rise() -> None:
    network, samples, cells, keep, seed = small(), 10, 3, 0.6, 2
    masks = rise_masks(batch(), SIZE[1:], (0, samples), seed, cells, keep)

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        total = torch.zeros(SIZE[1:], dtype=torch.float64)
        for mask in masks:
            total += network(image * mask)[0, class_idx] * mask
        return total / (keep * samples)

    with torch.no_grad():
        expected = each(oracle, batch())
    assert_equal(raw(network, None, "rise", batch(), samples=samples, cells=cells, keep=keep, seed=seed), expected)


def test_rise_of_probabilities() -> None:
    """The score is what the network returns: of one that ends in softmax, a probability, as in the paper."""
    ended = torch.nn.Sequential(small(), torch.nn.Softmax(1)).eval()
    masks = rise_masks(batch(), SIZE[1:], (0, 9), 0, 7, 0.5)
    with torch.no_grad():
        scores = torch.stack([ended(batch() * mask)[[0, 1], list(CLASSES)] for mask in masks], 1)
    expected = torch.einsum("nm,mhw->nhw", scores, masks) / (0.5 * 9)
    assert_equal(raw(ended, None, "rise", batch(), samples=9), expected)


def occlusion_of(scores: Tensor, score: Tensor) -> Tensor:
    return occlusion(scores, score[:, 0], occlusion_windows(scores, (4, 5), 2, 2))


def share_of(scores: Tensor) -> Tensor:
    return rise_share(scores, rise_masks(scores, (4, 5), (0, 6), 0, 2, 0.5), 6, 0.5)


@pytest.mark.parametrize(
    ("method", "shapes"), [(occlusion_of, [(6,), (1,)]), (share_of, [(6,)])], ids=["occlusion", "rise"]
)
def test_batch_tracing_and_hard_inputs(method: checks.Method, shapes: list[checks.Shape]) -> None:
    checks.assert_batch_is_independent(method, shapes)
    checks.assert_traces(method, shapes)
    checks.assert_finite_on_hard_inputs(method, shapes, DTYPES)


def test_docstring_examples() -> None:
    results = doctest.testmod(perturbation, extraglobs={"torch": torch})
    assert results.attempted > 0
    assert results.failed == 0
