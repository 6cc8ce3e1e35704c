"""The matrices of resizing and pooling that follow an open height and width."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from explainable_model.attribution.counting import counting
from explainable_model.lowering.rules import resample_dynamic as open_resample


def applied(matrix: Tensor, line: Tensor) -> Tensor:
    return line @ matrix.t()


@pytest.mark.parametrize(("size", "out"), [(7, 7), (7, 14), (9, 4), (5, 1), (6, 13), (1, 3), (13, 5)])
def test_open_matrices_of_resizing(size: int, out: int) -> None:
    line = torch.randn(2, 3, size, dtype=torch.float64, generator=torch.Generator().manual_seed(size))
    ends = counting(torch.zeros(2, out, dtype=torch.float64), 1), counting(line, 2)
    for align in (False, True):
        want = functional.interpolate(line, out, mode="linear", align_corners=align)
        assert torch.allclose(applied(open_resample.linear(*ends, None, align), line), want, atol=1e-12)
    for mode, offset in (("nearest", 0.0), ("nearest-exact", 0.5)):
        want = functional.interpolate(line, out, mode=mode)
        assert torch.equal(applied(open_resample.nearest(*ends, None, offset), line), want)
    want = functional.adaptive_avg_pool1d(line, out)
    assert torch.allclose(applied(open_resample.adaptive(*ends), line), want, atol=1e-12)


@pytest.mark.parametrize("scale", [2.0, 1.7, 0.6])
def test_open_matrices_of_resizing_by_a_scale(scale: float) -> None:
    line = torch.randn(2, 3, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    smooth = functional.interpolate(line, scale_factor=scale, mode="linear", align_corners=False)
    ends = counting(smooth, 2), counting(line, 2)
    assert torch.allclose(applied(open_resample.linear(*ends, scale, False), line), smooth, atol=1e-12)
    want = functional.interpolate(line, scale_factor=scale, mode="nearest")
    assert torch.equal(applied(open_resample.nearest(*ends, scale, 0.0), line), want)


@pytest.mark.parametrize("size", [7, 8, 12])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 2, 1), (2, 2, 0), (3, 1, 1), (4, 3, 2)])
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("counted", [False, True])
def test_open_matrices_of_pooling(
    size: int, kernel: int, stride: int, padding: int, ceil_mode: bool, counted: bool
) -> None:
    line = torch.randn(2, 3, size, dtype=torch.float64, generator=torch.Generator().manual_seed(size))
    want = functional.avg_pool1d(line, kernel, stride, padding, ceil_mode, counted)
    matrix = open_resample.average(counting(want, 2), counting(line, 2), kernel, stride, padding, counted)
    assert torch.allclose(applied(matrix, line), want, atol=1e-12)
    plane = functional.avg_pool2d(
        line.unsqueeze(2), (1, kernel), (1, stride), (0, padding), ceil_mode, divisor_override=1
    )
    sums = open_resample.average(counting(want, 2), counting(line, 2), kernel, stride, padding, None)
    assert torch.allclose(applied(sums, line), plane.squeeze(2), atol=1e-12)


def test_positions_count_far_in_half_precision() -> None:
    assert counting(torch.zeros(1, 5000, dtype=torch.bfloat16), 1)[-1] == 4999
