"""Lowerings of pooling, resizing, padding and grid sampling against autograd."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.export import Dim

from explainable_model.errors import LoweringError
from explainable_model.lowering.capture.export import quiet_export
from explainable_model.lowering.rules import LOWERINGS
from explainable_model.lowering.rules.call import Call
from explainable_model.lowering.rules.resample import FORWARDS
from tests.support.rule_checks import TOLERANCE, Example, Numbers, compare, compare_at_another_batch, example

aten = torch.ops.aten
numbers = Numbers(6)
normal, rectified = numbers.normal, numbers.rectified


def _max_pools() -> list[Example]:
    rows = []
    for kernel, stride, padding, dilation, ceil in itertools.product([2, 3], [1, 2, 3], [0, 1], [1, 2], [False, True]):
        note = f"k{kernel}-s{stride}-p{padding}-d{dilation}{'-ceil' * ceil}"
        settings = [kernel] * 2, [stride] * 2, [padding] * 2, [dilation] * 2, ceil
        rows.append(example(aten.max_pool2d.default, rectified(2, 3, 11, 8), *settings, note=note))
    return rows


MAX_POOLS = [
    *_max_pools(),
    example(aten.max_pool2d.default, normal(2, 3, 9, 10), [3, 2], [2, 1], [1, 0], note="oblong"),
    example(aten.max_pool2d.default, rectified(2, 3, 8, 8), [2, 2], note="default-stride"),
    example(aten.max_pool2d.default, rectified(2, 3, 8, 8), [3], [2], [1], note="one-for-all"),
    example(aten.max_pool2d.default, normal(2, 3, 7, 6), [7, 6], note="whole-image"),
    example(aten.max_pool2d.default, rectified(2, 3, 9, 8), [7, 7], [1, 2], [3, 3], note="large-kernel"),
    example(aten.max_pool1d.default, rectified(2, 3, 90), [40], [7], [5], [1], True, note="large-kernel"),
    example(aten.max_pool3d.default, rectified(2, 2, 5, 6, 7), [4, 3, 3], [1, 2, 2], [1, 1, 1], note="large-kernel"),
    example(aten.max_pool2d.default, rectified(3, 8, 8), [2, 2], note="no-batch"),
    example(aten.max_pool1d.default, rectified(2, 3, 13), [3], [2], [1], [1], True),
    example(aten.max_pool3d.default, rectified(2, 2, 5, 6, 7), [3, 2, 2], [2, 2, 1], [1, 0, 1]),
    example(aten.max_pool3d.default, rectified(2, 2, 5, 6, 7), [3], [1], [1], note="one-for-all"),
    example(aten.max_pool1d_with_indices.default, rectified(2, 3, 13), [3], [2], [1]),
    example(aten.max_pool2d_with_indices.default, rectified(2, 3, 9, 8), [3, 3], [2, 2], [1, 1]),
    example(aten.max_pool2d_with_indices.default, rectified(2, 3, 9, 8), [3], [2], note="one-for-all"),
    example(aten.max_pool3d_with_indices.default, rectified(2, 2, 4, 5, 6), [2, 2, 2]),
    *(
        example(aten.adaptive_max_pool2d.default, rectified(2, 3, 5, 7), [out, out + 1], note=str(out))
        for out in (1, 3, 5)
    ),
    example(aten.adaptive_max_pool1d.default, rectified(2, 3, 7), [4]),
    example(aten.adaptive_max_pool3d.default, rectified(2, 3, 4, 3, 5), [2, 2, 3]),
]


def _average_pools() -> list[Example]:
    rows = []
    for kernel, stride, padding, ceil, include_pad in itertools.product(
        [2, 3], [1, 2, 3], [0, 1], [False, True], [False, True]
    ):
        note = f"k{kernel}-s{stride}-p{padding}{'-ceil' * ceil}{'-include' * include_pad}"
        settings = [kernel] * 2, [stride] * 2, [padding] * 2, ceil, include_pad
        rows.append(example(aten.avg_pool2d.default, normal(2, 3, 11, 8), *settings, note=note))
    return rows


AVERAGE_POOLS = [
    *_average_pools(),
    example(aten.avg_pool2d.default, normal(2, 3, 9, 8), [3, 2], [2, 1], [1, 0], False, True, 7, note="divisor"),
    example(aten.avg_pool2d.default, normal(2, 3, 9, 8), [3], [2], [1], True, True, 5, note="divisor-ceil"),
    example(aten.avg_pool2d.default, normal(2, 3, 8, 8), [2, 2], note="default-stride"),
    example(aten.avg_pool2d.default, normal(2, 3, 9, 7), [2, 2], note="rounded-down"),
    example(aten.avg_pool2d.default, normal(2, 3, 9, 8), [3, 3], [2, 2], [1, 1], note="counted-padding"),
    example(aten.avg_pool1d.default, normal(2, 3, 13), [3], [2], [1], True, False),
    example(aten.avg_pool3d.default, normal(2, 2, 5, 6, 7), [3, 2, 2], [2, 2, 1], [1, 0, 1]),
    *(
        example(aten.adaptive_avg_pool2d.default, normal(2, 3, 11, 14), [a, b], note=f"{a}x{b}")
        for a, b in ((1, 1), (7, 7), (3, 5), (11, 14), (1, 14), (13, 20))
    ),
    example(aten._adaptive_avg_pool2d.default, normal(2, 3, 5, 7), [2, 3]),
    example(aten.adaptive_avg_pool1d.default, normal(2, 3, 7), [4]),
    example(aten.adaptive_avg_pool3d.default, normal(2, 3, 4, 3, 5), [2, 2, 3]),
    example(aten.adaptive_avg_pool3d.default, normal(2, 3, 4, 3, 5), [1, 1, 1], note="global"),
    example(aten._adaptive_avg_pool3d.default, normal(2, 3, 4, 3, 5), [2, 2, 3]),
]

_SIZES = ([14, 10], [5, 3], [21, 20], [7, 5])
_SCALES = ([2.0, 2.0], [1.3, 1.7], [0.6, 0.7])


def _resizes() -> list[Example]:
    image, rows = normal(2, 3, 7, 5), []
    plain = (aten.upsample_nearest2d.vec, aten._upsample_nearest_exact2d.vec)
    cornered = (aten.upsample_bilinear2d.vec, aten.upsample_bicubic2d.vec, aten._upsample_bilinear2d_aa.vec,
                aten._upsample_bicubic2d_aa.vec)  # fmt: skip
    for size, scale in [(size, None) for size in _SIZES] + [(None, scale) for scale in _SCALES]:
        note = f"{size or scale}".replace(" ", "")
        rows += [example(op, image, size, scale, note=note) for op in plain]
        rows += [
            example(op, image, size, corners, scale, note=f"{note}-corners{corners}")
            for op in cornered
            for corners in (False, True)
        ]
    return rows


RESIZES = [
    *_resizes(),
    example(aten.upsample_nearest1d.vec, normal(2, 3, 7), [12], None),
    example(aten.upsample_nearest1d.vec, normal(2, 3, 7), None, [1.7], note="scale"),
    example(aten._upsample_nearest_exact1d.vec, normal(2, 3, 7), [12], None),
    example(aten.upsample_linear1d.vec, normal(2, 3, 7), None, False, [1.7]),
    example(aten.upsample_linear1d.vec, normal(2, 3, 7), [4], True, None, note="corners"),
    example(aten.upsample_nearest3d.vec, normal(2, 2, 3, 4, 5), [5, 4, 7], None),
    example(aten._upsample_nearest_exact3d.vec, normal(2, 2, 3, 4, 5), None, [1.5, 2.0, 0.7]),
    example(aten.upsample_trilinear3d.vec, normal(2, 2, 3, 4, 5), [5, 4, 7], False, None),
    example(aten.upsample_trilinear3d.vec, normal(2, 2, 3, 4, 5), None, True, [1.5, 2.0, 0.7], note="corners"),
    example(aten.upsample_bilinear2d.vec, normal(2, 3, 4, 1), [8, 6], False, None, note="width-1"),
]

PADDINGS = [
    example(aten.pad.default, normal(2, 3, 4, 5), [1, 2, 0, 3]),
    example(aten.pad.default, normal(2, 3, 4, 5), [-1, 2, 1, -2], "constant", 2.0, note="cropping"),
    example(aten.pad.default, normal(2, 3, 4), [0, 0, 1, 0], note="channels"),
    *(
        example(aten.pad.default, normal(*shape), pad, mode, note=f"{mode}-{len(shape) - 2}d")
        for mode in ("reflect", "replicate", "circular")
        for shape, pad in (((2, 3, 6), [2, 1]), ((2, 3, 4, 5), [1, 2, 3, 0]), ((2, 2, 3, 4, 5), [1, 2, 0, 3, 2, 1]))
    ),
    example(aten.constant_pad_nd.default, normal(2, 3, 4), [1, 0, 2, 2], 7.0),
    example(aten.constant_pad_nd.default, normal(2, 3, 4), [-1, -1], note="crop"),
    example(aten.reflection_pad1d.default, normal(2, 3, 6), [2, 1]),
    example(aten.reflection_pad2d.default, normal(2, 3, 4, 5), [1, 2, 3, 0]),
    example(aten.reflection_pad3d.default, normal(2, 2, 3, 4, 5), [1, 2, 0, 3, 2, 1]),
    example(aten.replication_pad1d.default, normal(2, 3, 6), [2, 1]),
    example(aten.replication_pad2d.default, normal(2, 3, 4, 5), [1, 2, 3, 0]),
    example(aten.replication_pad3d.default, normal(2, 2, 3, 4, 5), [1, 2, 0, 3, 2, 1]),
]

BOTH = ("input", "grid")


def _grids() -> list[Example]:
    rows = []
    for mode, padding, corners in itertools.product([0, 1], [0, 1, 2], [False, True]):
        # Points far outside too, so that every padding reflects and clips.
        args = normal(2, 3, 5, 7), 1.5 * normal(2, 6, 4, 2), mode, padding, corners
        note = f"{'nearest' if mode else 'bilinear'}-{('zeros', 'border', 'reflection')[padding]}{'-corners' * corners}"
        rows.append(example(aten.grid_sampler_2d.default, *args, note=note, batched=BOTH))
    return rows


GRIDS = [
    *_grids(),
    example(aten.grid_sampler.default, normal(2, 3, 5, 7), normal(2, 6, 4, 2), 0, 0, False, batched=BOTH),
    example(
        aten.grid_sampler.default,
        normal(2, 3, 5, 7),
        normal(2, 6, 4, 2),
        0,
        0,
        False,
        wrt=("grid",),
        note="grid",
        batched=BOTH,
    ),
    example(
        aten.grid_sampler.default, normal(2, 3, 1, 7), normal(2, 6, 4, 2), 0, 2, True, note="one-row", batched=BOTH
    ),
    example(aten.grid_sampler_3d.default, normal(2, 3, 3, 4, 5), normal(2, 2, 3, 4, 3), 0, 0, False, batched=BOTH),
    example(
        aten.grid_sampler_3d.default,
        normal(2, 3, 3, 4, 5),
        normal(2, 2, 3, 4, 3),
        1,
        2,
        False,
        note="nearest",
        batched=BOTH,
    ),
]

EXAMPLES = MAX_POOLS + AVERAGE_POOLS + RESIZES + PADDINGS + GRIDS
DYNAMIC = [
    *MAX_POOLS[4:30:5],
    *(row for row in MAX_POOLS[48:] if row.note != "no-batch"),
    *AVERAGE_POOLS[48:],
    *RESIZES[::12],
    *PADDINGS[::2],
    *GRIDS[::4],
]


@pytest.mark.parametrize("row", EXAMPLES, ids=str)
def test_against_autograd(row: Example) -> None:
    assert compare(row) < TOLERANCE


@pytest.mark.parametrize("row", DYNAMIC, ids=str)
def test_at_another_batch_size(row: Example) -> None:
    assert compare_at_another_batch(row) < TOLERANCE


def _call(op: torch._ops.OpOverload, image: Tensor, grid: Tensor) -> Call:
    return Call(op, op(image, grid, 2, 0, False), frozenset({"input"}))


def test_a_bicubic_grid_has_no_lowering() -> None:
    image, grid = normal(2, 3, 5, 7), normal(2, 6, 4, 2)
    call = _call(aten.grid_sampler_2d.default, image, grid)
    with pytest.raises(LoweringError, match="bicubic"):
        LOWERINGS[call.op](call, call.output, image, grid, 2, 0, False)


ADAPTIVE = {
    aten.adaptive_avg_pool1d.default: (normal(2, 3, 7), [4]),
    aten.adaptive_avg_pool2d.default: (normal(2, 3, 9, 7), [2, 3]),
    aten.adaptive_avg_pool3d.default: (normal(2, 3, 5, 9, 7), [2, 3, 4]),
}


class Adaptive(torch.nn.Module):
    """Adaptive pooling in plain operators, and the gradient of its rule."""

    def __init__(self, op: torch._ops.OpOverload) -> None:
        super().__init__()
        self.op, self.out = op, ADAPTIVE[op][1]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        pooled = FORWARDS[self.op](image, self.out)
        call = Call(self.op, pooled, frozenset({"self"}))
        gradient = LOWERINGS[self.op](call, pooled, image, self.out)["self"]
        assert gradient is not None
        return pooled, gradient


@pytest.mark.parametrize("op", ADAPTIVE, ids=str)
def test_adaptive_pooling_of_an_open_size(op: torch._ops.OpOverload) -> None:
    image, out = ADAPTIVE[op]
    sizes = {dim: Dim(f"size{dim}", min=4, max=64) for dim in range(2, image.ndim)}
    with quiet_export(), torch.no_grad():
        program = torch.export.export(Adaptive(op), (image,), dynamic_shapes=(sizes,), strict=False)
    other = normal(2, 3, *(length + 4 for length in image.shape[2:])).requires_grad_()
    wanted = op(other, out)
    (gradient,) = torch.autograd.grad((wanted * wanted.detach()).sum(), other)
    for got, expected in zip(program.module()(other.detach()), (wanted, gradient), strict=True):
        torch.testing.assert_close(got, expected)
