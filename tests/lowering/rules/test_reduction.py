"""Lowerings of normalizations and reductions against autograd."""

import pytest
import torch
from torch import Tensor
from torch._ops import OpOverload

from explainable_model.errors import LoweringError
from explainable_model.lowering.rules import LOWERINGS, PORTABLE_FORWARDS
from explainable_model.lowering.rules.call import Call
from tests.support.rule_checks import TOLERANCE, Example, Numbers, compare, compare_at_another_batch, example

aten = torch.ops.aten
numbers = Numbers(5)
normal, positive, rectified = numbers.normal, numbers.positive, numbers.rectified


def _batch_norm(*shape: int) -> tuple[Tensor, ...]:
    channels = shape[1]
    return normal(*shape), normal(channels), normal(channels), normal(channels), positive(channels)


AFFINE = ("input", "weight", "bias")

NORMALIZATIONS = [
    *(
        example(
            aten.batch_norm.default, *_batch_norm(*shape), False, 0.1, 1e-5, False, wrt=AFFINE, note=str(len(shape))
        )
        for shape in ((4, 3), (2, 3, 5), (2, 3, 4, 5), (2, 3, 2, 4, 3))
    ),
    example(
        aten.batch_norm.default,
        normal(2, 3, 4),
        None,
        None,
        normal(3),
        positive(3),
        False,
        0.1,
        1e-5,
        False,
        wrt=("input",),
        note="plain",
    ),
    example(
        aten._native_batch_norm_legit_no_training.default,
        *_batch_norm(2, 3, 4, 5),
        0.1,
        1e-5,
        wrt=AFFINE,
        unused=(1, 2),
    ),
    example(aten.layer_norm.default, normal(2, 5, 8), [8], normal(8), normal(8), 1e-6),
    example(aten.layer_norm.default, normal(2, 5, 8), [5, 8], normal(5, 8), note="two"),
    example(aten.layer_norm.default, normal(2, 5, 8), [8], note="plain"),
    example(aten.native_layer_norm.default, normal(2, 5, 8), [8], normal(8), normal(8), 1e-6, unused=(1, 2)),
    example(aten.group_norm.default, normal(2, 6, 4, 3), 3, normal(6), normal(6)),
    example(aten.group_norm.default, normal(2, 6, 4), 6, normal(6), normal(6), 1e-3, note="instance"),
    example(aten.group_norm.default, normal(2, 6), 2, note="no-space"),
    example(aten.group_norm.default, normal(2, 6, 4, 2, 3), 1, note="all"),
    example(aten.native_group_norm.default, normal(2, 6, 4, 3), normal(6), normal(6), 2, 6, 12, 3, 1e-5, unused=(1, 2)),
    example(aten.instance_norm.default, normal(2, 3, 4, 5), normal(3), normal(3), None, None, True, 0.1, 1e-5, False),
    example(aten.instance_norm.default, normal(2, 3, 9), None, None, None, None, True, 0.1, 1e-5, False, note="plain"),
    example(aten.instance_norm.default, *_batch_norm(2, 3, 4, 5), False, 0.1, 1e-5, False, wrt=AFFINE, note="running"),
    example(aten.rms_norm.default, normal(2, 5, 8), [8], normal(8), 1e-6),
    example(aten.rms_norm.default, normal(2, 5, 8), [5, 8], note="default-eps"),
    example(aten.rms_norm.default, 1e-8 * normal(2, 5, 8), [8], note="small"),
    *(
        example(op, normal(2, 5, 4), dim, note=f"dim{dim}")
        for op in (aten.softmax.int, aten.log_softmax.int)
        for dim in (-1, 1, 0)
    ),
    *(example(op, normal(2, 5, 4), 1, False) for op in (aten._softmax.default, aten._log_softmax.default)),
    example(aten.softmax.int, normal(2, 5).float(), 1, torch.float64, note="widened"),
]


def _over_dims() -> list[Example]:
    rows = []
    for keepdim in (True, False):
        kept = "-keepdim" if keepdim else ""
        for dims in ([1, 2], [-1], [0, 2], [0, 1, 2], None):
            note = f"{dims}{kept}".replace(" ", "")
            rows += [
                example(aten.mean.dim, normal(2, 5, 4), dims, keepdim, note=note),
                example(aten.sum.dim_IntList, normal(2, 5, 4), dims, keepdim, note=note),
                example(aten.var.correction, normal(2, 5, 4), dims, correction=1, keepdim=keepdim, note=note),
                example(aten.std.correction, normal(2, 5, 4), dims, correction=0, keepdim=keepdim, note=note),
                example(aten.var_mean.correction, normal(2, 5, 4), dims, correction=0, keepdim=keepdim, note=note),
            ]
            rows += [
                example(aten.linalg_vector_norm.default, normal(2, 5, 4), order, dims, keepdim, note=f"{order}-{note}")
                for order in (1, 2, 2.5, 3, float("inf"))
            ]
            if dims:
                rows += [example(op.default, rectified(2, 5, 4) - 1, dims, keepdim, note=note)
                         for op in (aten.amax, aten.amin, aten.logsumexp)]  # fmt: skip
        for dim in (1, -1):
            note = f"{dim}{kept}"
            rows += [example(op, normal(2, 5, 4), dim, keepdim, note=note)
                     for op in (aten.max.dim, aten.min.dim, aten.median.dim, aten.prod.dim_int)]  # fmt: skip
            rows.append(example(aten.kthvalue.default, normal(2, 5, 4), 2, dim, keepdim, note=note))
    return rows


CUMULATIVE = [(aten.cumprod, ()), (aten.logcumsumexp, ()), (aten.cummax, (1,)), (aten.cummin, (1,))]
REDUCTIONS = [
    *_over_dims(),
    *(example(op.default, normal(2, 5, 4)) for op in (aten.sum, aten.mean, aten.amax, aten.amin, aten.max, aten.min)),
    example(aten.max.default, rectified(2, 5), note="rectified"),
    example(aten.min.default, rectified(2, 5), note="ties"),
    example(aten.sum.dim_IntList, normal(2, 5).float(), [1], dtype=torch.float64, note="widened"),
    example(aten.mean.dim, normal(2, 5).float(), [1], dtype=torch.float64, note="widened"),
    example(aten.var.correction, normal(2, 5), [1], note="default-correction"),
    example(aten.var_mean.correction, normal(2, 5), [1], unused=(0,), note="mean-only"),
    example(aten.var_mean.correction, normal(2, 5), [1], unused=(1,), note="var-only"),
    example(aten.std.correction, torch.ones(2, 5).double(), [1], correction=1, note="constant"),
    example(aten.linalg_vector_norm.default, torch.zeros(2, 5).double(), 2, [1], note="zero"),
    example(aten.linalg_vector_norm.default, rectified(2, 5), float("inf"), [1], note="ties"),
    example(aten.prod.dim_int, rectified(2, 5), 1, note="zeros"),
    example(aten.cumsum.default, normal(2, 5, 4), 1),
    example(aten.cumsum.default, normal(2, 5, 4), -1, note="last"),
    *(
        example(op.default, normal(2, 5, 4), dim, unused=unused, note=f"{dim}")
        for op, unused in CUMULATIVE
        for dim in (1, -1)
    ),
    example(aten.cumprod.default, rectified(2, 6), 1, note="zeros"),
    example(aten.cummax.default, rectified(2, 6), 1, unused=(1,), note="ties"),
    example(aten.logcumsumexp.default, 60 * normal(2, 6), 1, note="steep"),
    example(aten.sort.default, normal(2, 7), -1, True),
    example(aten.sort.default, normal(2, 7, 3), 1, note="dim"),
    example(aten.sort.stable, normal(2, 7, 3), stable=True, dim=1),
    example(aten.topk.default, normal(2, 7), 3),
    example(aten.topk.default, normal(2, 7, 3), 2, 1, False, note="smallest"),
]

EXAMPLES = NORMALIZATIONS + REDUCTIONS
DYNAMIC = [
    row for row in NORMALIZATIONS if not str(row).startswith(("native_group_norm", "softmax-dim0", "log_softmax-dim0"))
] + [
    example(op, normal(2, 5, 4), [1, 2], note="last")
    for op in (aten.mean.dim, aten.sum.dim_IntList, aten.var.correction, aten.amax.default, aten.logsumexp.default)
] + [
    example(aten.var_mean.correction, normal(2, 5, 4), [1], correction=1, keepdim=True),
    example(aten.std.correction, normal(2, 5, 4), [1], correction=1),
    example(aten.mean.default, normal(2, 5, 4)),
    example(aten.max.dim, normal(2, 5, 4), 1),
    example(aten.topk.default, normal(2, 7), 3),
    example(aten.cumsum.default, normal(2, 5, 4), 1),
    *(example(op.default, normal(2, 5, 4), 1, unused=unused) for op, unused in CUMULATIVE),
    example(aten.prod.dim_int, normal(2, 5, 4), 1),
    example(aten.linalg_vector_norm.default, normal(2, 5, 4), 2, [-1], True),
]  # fmt: skip


@pytest.mark.parametrize("row", EXAMPLES, ids=str)
def test_against_autograd(row: Example) -> None:
    assert compare(row) < (1e-6 if row.note == "widened" else TOLERANCE)


@pytest.mark.parametrize("row", DYNAMIC, ids=str)
def test_at_another_batch_size(row: Example) -> None:
    assert compare_at_another_batch(row) < (1e-6 if row.note == "widened" else TOLERANCE)


def test_a_batch_norm_in_training_mode_has_no_lowering() -> None:
    args = dict(zip(("input", "weight", "bias", "running_mean", "running_var"), _batch_norm(2, 3, 4), strict=True))
    call = Call(aten.batch_norm.default, args["input"], frozenset({"input"}))
    with pytest.raises(LoweringError, match="own statistics"):
        LOWERINGS[aten.batch_norm.default](call, args["input"], **args, training=True, momentum=0.1, eps=1e-5)


def test_the_statistics_of_a_normalization_have_no_lowering() -> None:
    image = normal(2, 5, 8)
    call = Call(aten.native_layer_norm.default, None, frozenset({"input"}))
    with pytest.raises(LoweringError, match="on their own"):
        LOWERINGS[call.op](call, [image, normal(2, 5, 1), None], image, [8], None, None, 1e-5)


def test_small_orders_of_a_norm_have_no_lowering() -> None:
    image = normal(2, 5)
    call = Call(aten.linalg_vector_norm.default, normal(2), frozenset({"self"}))
    with pytest.raises(LoweringError, match=r"ord=0\.5"):
        LOWERINGS[call.op](call, normal(2), image, 0.5, [1])


@pytest.mark.parametrize("op", [aten.cumprod.default, aten.cummax.default, aten.cummin.default], ids=str)
@pytest.mark.parametrize("length", [1, 2, 5, 8])
def test_running_values_in_plain_operators(op: OpOverload, length: int) -> None:
    values = rectified(2, length, 3)  # with zeros, which tie
    got, want = PORTABLE_FORWARDS[op](values, 1), op(values, 1)
    for part, expected in zip(got, want, strict=True):
        assert torch.allclose(part, expected)


def test_an_extremum_over_everything_in_plain_operators() -> None:
    values = normal(2, 5, 4)
    for op in (aten.amax.default, aten.amin.default):
        assert torch.equal(PORTABLE_FORWARDS[op](values), op(values))
