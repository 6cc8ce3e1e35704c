"""Fourier transforms and complex numbers against autograd."""

import pytest
import torch

from explainable_model.errors import LoweringError
from explainable_model.lowering.rules.fourier import refuse_complex
from tests.support.rule_checks import TOLERANCE, Example, Numbers, compare, example

aten = torch.ops.aten
numbers = Numbers(23)
normal = numbers.normal


def complex_normal(*shape: int) -> torch.Tensor:
    return torch.complex(normal(*shape), normal(*shape))


EXAMPLES: list[Example] = [
    *(example(aten._fft_r2c.default, normal(2, 4, n), [1, 2], 1, half, note=f"{n}-{half}")
      for n in (5, 6) for half in (True, False)),
    example(aten._fft_r2c.default, normal(2, 1), [1], 0, True, note="one"),
    *(example(aten._fft_c2r.default, complex_normal(2, 4, 4), [1, 2], 2, n, note=f"{n}") for n in (6, 7)),
    example(aten._fft_c2r.default, complex_normal(2, 1), [1], 0, 1, note="one"),
    *(example(aten._fft_c2c.default, complex_normal(2, 5), [1], 0, forward, note=f"{forward}")
      for forward in (True, False)),
    example(aten.view_as_real.default, complex_normal(2, 5)),
    example(aten.view_as_complex.default, normal(2, 5, 2)),
    example(aten.complex.default, normal(2, 5), normal(2, 5)),
]  # fmt: skip
MIXED = [
    example(aten.mul.Tensor, complex_normal(2, 5), complex_normal(5)),
    example(aten.mul.Tensor, complex_normal(2, 5), normal(5), note="real-factor"),
    example(aten.mul.Tensor, complex_normal(2, 5), 2 - 3j, note="complex-number"),
    example(aten.add.Tensor, normal(2, 5), complex_normal(2, 1)),
    example(aten.sub.Tensor, complex_normal(2, 5), normal(2, 1)),
    example(aten.div.Tensor, complex_normal(2, 5), 3.0),
    example(aten.abs.default, complex_normal(2, 5)),
    example(aten.abs.default, torch.zeros(2, 3, dtype=torch.complex128), note="zero"),
    example(aten.mean.dim, complex_normal(2, 5), [1]),
]


@pytest.mark.parametrize("row", EXAMPLES + MIXED, ids=str)
def test_against_autograd(row: Example) -> None:
    assert compare(row) < TOLERANCE


def test_a_rule_for_real_numbers_refuses_complex_ones() -> None:
    with pytest.raises(LoweringError, match=r"aten\.div\.Tensor of complex numbers \(its 'other'\).*view_as_real"):
        refuse_complex(aten.div.Tensor, {"self": normal(2), "other": complex_normal(2)})
    refuse_complex(aten.div.Tensor, {"self": complex_normal(2), "other": 2.0})
