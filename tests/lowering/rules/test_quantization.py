"""Fake quantization against autograd, and its portable forward against PyTorch's own."""

import pytest
import torch
from torch import Tensor

from explainable_model.lowering.rules import PORTABLE_FORWARDS
from explainable_model.lowering.rules.quantization import FAKE_QUANTIZE
from tests.support.rule_checks import TOLERANCE, Example, Numbers, compare, compare_at_another_batch, example

aten = torch.ops.aten
normal, positive = Numbers(11).normal, Numbers(12).positive

SCALES = (0.05 * positive(4)).float()
ZEROS = torch.tensor([0, 3, -2, 1], dtype=torch.int32)


def _by_pytorch(self: Tensor, scale: Tensor, zero_point: Tensor, quant_min: int, quant_max: int) -> Tensor:
    scale, zero_point = scale.detach().float().flatten(), zero_point.flatten().to(torch.int32)
    return torch.fake_quantize_per_channel_affine(self, scale, zero_point, 1, quant_min, quant_max)


def _columns(values: Tensor) -> Tensor:
    return values.reshape(1, -1, 1, 1)


EXAMPLES: list[Example] = [
    example(aten.fake_quantize_per_tensor_affine.default, normal(2, 3, 5), 0.02, 3, -20, 30, note="clamped"),
    example(aten.fake_quantize_per_tensor_affine.default, normal(2, 3, 5), 0.1, 0, 0, 255),
    example(
        aten.fake_quantize_per_tensor_affine.tensor_qparams, normal(2, 3, 5), torch.tensor([0.02]),
        torch.tensor([3], dtype=torch.int32), -20, 30, wrt=("self",),
    ),
    example(
        aten.fake_quantize_per_channel_affine.default, normal(2, 4, 5), SCALES, ZEROS, 1, -20, 30, wrt=("self",)
    ),
    example(aten.fake_quantize_per_tensor_affine_cachemask.default, normal(2, 3, 5), 0.02, 3, -20, 30),
    example(
        aten.fake_quantize_per_channel_affine_cachemask.default, normal(2, 4, 5), SCALES, ZEROS, 1, -20, 30,
        wrt=("self",),
    ),
    example(
        FAKE_QUANTIZE, normal(2, 4, 3, 5), _columns(SCALES), _columns(ZEROS), -20, 30, wrt=("self",),
        forward=_by_pytorch,
    ),
]  # fmt: skip


@pytest.mark.parametrize("row", EXAMPLES, ids=str)
def test_against_autograd(row: Example) -> None:
    assert compare(row) < TOLERANCE


def test_at_another_batch_size() -> None:
    assert compare_at_another_batch(EXAMPLES[-1]) < TOLERANCE


@pytest.mark.parametrize("row", EXAMPLES, ids=str)
def test_portable_forward(row: Example) -> None:
    got, want = PORTABLE_FORWARDS[row.op](*row.args), (row.forward or row.op)(*row.args)
    outputs = [(got, want)] if isinstance(got, Tensor) else list(zip(got, want, strict=True))
    for portable, own in outputs:
        assert torch.allclose(portable.double(), own.double(), atol=1e-6)
    assert outputs[0][0].unique().numel() > 5
