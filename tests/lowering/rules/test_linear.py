"""Lowerings of matrix products and attention against autograd."""

import pytest
import torch
from torch.nn import functional

from explainable_model.errors import LoweringError
from explainable_model.lowering.rules import LOWERINGS, PORTABLE_FORWARDS, SAVING_FORWARDS
from explainable_model.lowering.rules.call import Call
from explainable_model.lowering.rules.one_hot import OneHot
from tests.support.rule_checks import (
    TOLERANCE,
    Example,
    Numbers,
    compare,
    compare_at_another_batch,
    difference,
    example,
)

aten = torch.ops.aten
numbers = Numbers(3)
normal = numbers.normal
attention = aten.scaled_dot_product_attention.default


def _matmul() -> list[Example]:
    shapes = [
        ((5, 7), (7, 4)), ((2, 5, 7), (7, 4)), ((2, 1, 5, 7), (3, 7, 4)), ((5, 7), (2, 7, 4)), ((7,), (7,)),
        ((7,), (7, 4)), ((5, 7), (7,)), ((7,), (2, 3, 7, 4)), ((2, 3, 5, 7), (7,)), ((1, 5, 7), (2, 7, 4)),
    ]  # fmt: skip
    return [example(aten.matmul.default, normal(*a), normal(*b), note=f"{a}{b}".replace(" ", "")) for a, b in shapes]


def _einsum() -> list[Example]:
    equations = {
        "bhid,bhjd->bhij": [(2, 3, 4, 5), (2, 3, 6, 5)],
        "b i n, b j n -> b i j": [(2, 3, 4), (2, 5, 4)],
        "nchw,kc->nkhw": [(2, 3, 4, 5), (6, 3)],
        "ij,jk,kl->il": [(2, 3), (3, 4), (4, 5)],
        "bij,bj->bi": [(2, 3, 4), (2, 4)],
        "ijk->ki": [(2, 3, 4)],
        "bc,bd->b": [(2, 3), (2, 4)],
        "...ij,...jk->...ik": [(2, 1, 3, 4), (5, 4, 6)],
        "b...c,cd->b...d": [(2, 3, 4, 5), (5, 6)],
        "bhwc,hkc->bhwk": [(2, 3, 4, 5), (3, 6, 5)],
        "ij,jk": [(2, 3), (3, 4)],
        "bi,bi": [(2, 3), (2, 3)],
        "i,j->ij": [(3,), (4,)],
        "bij,bij->bij": [(2, 3, 1), (2, 3, 4)],
    }
    return [
        example(aten.einsum.default, equation, [normal(*shape) for shape in shapes], note=equation.replace(" ", ""))
        for equation, shapes in equations.items()
    ]


PRODUCTS = [
    *_matmul(),
    *_einsum(),
    example(aten.linear.default, normal(2, 7), normal(9, 7), normal(9)),
    example(aten.linear.default, normal(2, 3, 5, 7), normal(9, 7), note="no-bias"),
    example(aten.bmm.default, normal(2, 5, 7), normal(2, 7, 4)),
    example(aten.mm.default, normal(5, 7), normal(7, 4)),
    example(aten.cdist.default, normal(2, 5, 7), normal(2, 4, 7)),
    example(aten.cdist.default, normal(2, 3, 5, 7), normal(4, 7), note="broadcast"),
    example(aten.mv.default, normal(5, 7), normal(7)),
    example(aten.dot.default, normal(7), normal(7)),
    example(aten.addmm.default, normal(4), normal(5, 7), normal(7, 4)),
    example(aten.addmm.default, normal(5, 1), normal(5, 7), normal(7, 4), beta=0.5, alpha=-2, note="scaled"),
    example(aten.addmv.default, normal(5), normal(5, 7), normal(7), beta=0.5, alpha=-2),
    example(aten.baddbmm.default, normal(2, 5, 4), normal(2, 5, 7), normal(2, 7, 4)),
    example(aten.baddbmm.default, normal(1, 5, 1), normal(2, 5, 7), normal(2, 7, 4), beta=0.5, alpha=3, note="scaled"),
    example(aten.addbmm.default, normal(5, 4), normal(2, 5, 7), normal(2, 7, 4), beta=0.5, alpha=3),
]


def _qkv(length: int = 6, heads: int = 4, key_heads: int = 4) -> tuple[torch.Tensor, ...]:
    return normal(2, heads, 5, 3), normal(2, key_heads, length, 3), normal(2, key_heads, length, 3)


QKV = ("query", "key", "value")
ATTENTION = [
    example(attention, *_qkv(), batched=QKV),
    example(attention, *_qkv(), scale=0.3, note="scale", batched=QKV),
    example(attention, *_qkv(), normal(5, 6), note="float-mask", batched=QKV),
    example(attention, *_qkv(), normal(1, 4, 5, 6), note="bias-per-head", batched=QKV),
    example(attention, *_qkv(), normal(5, 6) > -0.5, note="bool-mask", batched=QKV),
    example(attention, *_qkv(), torch.ones(5, 6, dtype=torch.bool).tril(-1), note="masked-row", batched=QKV),
    example(attention, *_qkv(5), None, 0.0, True, note="causal", batched=QKV),
    example(attention, *_qkv(7), None, 0.0, True, note="causal-oblong", batched=QKV),
    example(attention, *_qkv(6, 4, 1), note="broadcast-heads", batched=QKV),
    example(attention, *_qkv(6, 4, 2), enable_gqa=True, note="gqa", batched=QKV),
    example(attention, *_qkv(5, 4, 2), None, 0.0, True, scale=0.2, enable_gqa=True, note="gqa-causal", batched=QKV),
    example(attention, normal(2, 5, 3), normal(2, 6, 3), normal(2, 6, 4), note="three-dimensions", batched=QKV),
    example(
        attention,
        normal(2, 2, 3, 5, 3),
        normal(2, 2, 3, 6, 3),
        normal(2, 2, 3, 6, 4),
        note="five-dimensions",
        batched=QKV,
    ),
]

EXAMPLES = PRODUCTS + ATTENTION
DYNAMIC = [
    example(aten.linear.default, normal(2, 5, 7), normal(9, 7), normal(9)),
    example(aten.matmul.default, normal(2, 1, 5, 7), normal(3, 7, 4)),
    example(aten.matmul.default, normal(2, 5, 7), normal(2, 7, 4), note="both", batched=("self", "other")),
    example(aten.addmm.default, normal(4), normal(2, 7), normal(7, 4), batched=("mat1",)),
    example(
        aten.einsum.default,
        "bhid,bhjd->bhij",
        [normal(2, 3, 4, 5), normal(2, 3, 6, 5)],
        batched=("tensors[0]", "tensors[1]"),
    ),
    example(
        aten.einsum.default, "b...c,cd->b...d", [normal(2, 3, 4, 5), normal(5, 6)], note="dots", batched=("tensors[0]",)
    ),
    example(aten.cdist.default, normal(2, 5, 7), normal(4, 7)),
    *ATTENTION,
]


@pytest.mark.parametrize("row", EXAMPLES, ids=str)
def test_against_autograd(row: Example) -> None:
    assert compare(row) < TOLERANCE


@pytest.mark.parametrize("row", DYNAMIC, ids=str)
def test_at_another_batch_size(row: Example) -> None:
    assert compare_at_another_batch(row) < TOLERANCE


@pytest.mark.parametrize("row", ATTENTION, ids=str)
def test_the_saving_forward_is_attention(row: Example) -> None:
    output, saved = SAVING_FORWARDS[attention](*row.args, **row.kwargs)
    expected = functional.scaled_dot_product_attention(*row.args, **row.kwargs)
    assert difference(output, expected) < TOLERANCE
    assert difference(PORTABLE_FORWARDS[attention](*row.args, **row.kwargs), expected) < TOLERANCE
    gradients = [
        LOWERINGS[attention](Call(attention, output, frozenset({"query"}), kept), torch.ones_like(output),
                             **dict(zip(("query", "key", "value", "attn_mask"), row.args, strict=False)),
                             is_causal=len(row.args) > 4, **row.kwargs)["query"]
        for kept in (saved, {})
    ]  # fmt: skip
    assert torch.equal(*gradients)


def test_a_float_mask_of_minus_infinity_stays_finite() -> None:
    query, key, value = (tensor.float() for tensor in _qkv())
    mask = torch.zeros(5, 6).masked_fill(torch.ones(5, 6).triu(2).bool(), float("-inf"))
    mask[0] = float("-inf")  # nothing left to attend to
    output, saved = SAVING_FORWARDS[attention](query, key, value, mask)
    expected = functional.scaled_dot_product_attention(query, key, value, mask)
    assert difference(output[:, :, 1:], expected[:, :, 1:]) < 1e-5
    call = Call(attention, output, frozenset({"query", "key", "value"}), saved)
    gradients = LOWERINGS[attention](call, torch.ones_like(output), query, key, value, mask)
    assert all(torch.isfinite(gradients[name]).all() for name in call.needed)


def test_a_linear_layer_reads_its_row_from_a_one_hot_gradient() -> None:
    features, weight = normal(2, 7), normal(9, 7)
    scores = features @ weight.t()
    call = Call(aten.linear.default, scores, frozenset({"input"}))
    gradient = LOWERINGS[aten.linear.default](call, OneHot(torch.tensor([3, 8]), scores), features, weight)["input"]
    assert torch.equal(gradient, weight[[3, 8]])


def test_equal_points_have_no_distance_gradient() -> None:
    points = normal(3, 4)
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    call = Call(aten.cdist.default, distances, frozenset({"x1"}))
    gradient = LOWERINGS[call.op](call, torch.eye(3).double(), points, points)["x1"]
    assert torch.equal(gradient, torch.zeros_like(points))
    with pytest.raises(LoweringError, match="Euclidean"):
        LOWERINGS[call.op](call, distances, points, points, 1.0)


def test_a_diagonal_in_an_einsum_has_no_lowering() -> None:
    call = Call(aten.einsum.default, normal(3), frozenset({"tensors", "tensors[0]"}))
    with pytest.raises(LoweringError, match="diagonal"):
        LOWERINGS[aten.einsum.default](call, normal(3), "ii->i", [normal(3, 3)])
