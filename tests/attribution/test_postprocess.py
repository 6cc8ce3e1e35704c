"""Normalising and resizing maps."""

import pytest
import torch
from torch.nn import functional

from explainable_model.attribution.postprocess import Postprocess, finish, minmax, resize


def test_minmax_by_hand() -> None:
    cam = torch.tensor([[[1.0, 2.0], [3.0, 5.0]], [[0.0, 0.0], [0.0, 10.0]]])
    assert minmax(cam).tolist() == [[[0, 0.25], [0.5, 1]], [[0, 0], [0, 1]]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [0.0, 1.0, -5.0, 1e-30, 3e4])
def test_constant_maps_become_zero(value: float, dtype: torch.dtype) -> None:
    assert minmax(torch.full((2, 3, 3), value, dtype=dtype)).abs().max() == 0


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e12, 1e30])
def test_minmax_does_not_depend_on_the_scale(scale: float) -> None:
    cam = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(minmax(cam * scale), minmax(cam), atol=1e-5)


def test_finish_rectifies_first() -> None:
    signed = torch.tensor([[[-4.0, -2.0], [-1.0, 2.0]], [[-1.0, -2.0], [-3.0, -4.0]]])
    finished = finish(signed.unsqueeze(1), (2, 2), Postprocess(upsample="none")).squeeze(1)
    assert finished.tolist() == [[[0, 0], [0, 1]], [[0, 0], [0, 0]]], "all negative is all zero, never NaN"
    assert finish(signed.unsqueeze(1), (2, 2), Postprocess("none", "none"))[0, 0].tolist() == [[0, 0], [0, 2]]


@pytest.mark.parametrize(("shape", "size", "mode"), [((3,), (7,), "linear"), ((3, 2), (7, 9), "bilinear"),
                                                     ((2, 3, 2), (5, 7, 9), "trilinear")])  # fmt: skip
def test_resize(shape: tuple[int, ...], size: tuple[int, ...], mode: str) -> None:
    cam = torch.rand(2, *shape)
    expected = functional.interpolate(cam[:, None], size=size, mode=mode, align_corners=False)[:, 0]
    assert torch.equal(resize(cam, size), expected)


def test_one_pixel_map() -> None:
    assert finish(torch.tensor([[[[5.0]]]]), (4, 4), Postprocess()).tolist() == [[[[0.0] * 4] * 4]]


@pytest.mark.parametrize(
    ("options", "bounds", "diverging"),
    [
        ({}, (0, 1), False),
        ({"normalize": "max"}, (0, 1), False),
        ({"signed": True}, (0, 1), False),
        ({"normalize": "max", "signed": True}, (-1, 1), True),
        ({"normalize": "none"}, (0, None), False),
        ({"normalize": "none", "signed": True}, (None, None), True),
    ],
)
def test_the_range_of_finished_maps(
    options: dict[str, object], bounds: tuple[int | None, int | None], diverging: bool
) -> None:
    how = Postprocess(**options)  # type: ignore[arg-type]
    assert (how.range, how.diverging) == (bounds, diverging)
    cam = finish(torch.randn(4, 1, 5, 5, generator=torch.Generator().manual_seed(0)), (5, 5), how)
    low, high = how.range
    assert low is None or float(cam.min()) == pytest.approx(low, abs=0.5)
    assert high is None or float(cam.max()) == pytest.approx(high)
    assert (float(cam.min()) < 0) == diverging


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_a_map_of_zeros_stays_zero_in_its_dtype(dtype: torch.dtype) -> None:
    for normalize in ("max", "minmax"):
        finished = finish(torch.zeros(1, 1, 3, 3, dtype=dtype), (3, 3), Postprocess(normalize, "none"))
        assert finished.dtype == dtype
        assert finished.abs().max() == 0


@pytest.mark.parametrize("size", [(0, 4), (4, 0), (-1, 4), (0, 0)])
def test_sizes_without_a_length_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="expected positive lengths to resize to"):
        Postprocess(size=size)
    assert Postprocess(size=(1, 1)).size == (1, 1)
