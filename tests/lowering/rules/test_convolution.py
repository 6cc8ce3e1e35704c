"""Lowerings of convolutions against autograd."""

import itertools

import pytest
import torch

from tests.support.rule_checks import TOLERANCE, Example, Numbers, compare, compare_at_another_batch, example

aten = torch.ops.aten
numbers = Numbers(1)
normal = numbers.normal


def _planar() -> list[Example]:
    rows = []
    settings = itertools.product([1, 2, 3], [1, 2, 3], [0, 1, 2], [1, 2], [1, 2, 4])
    for kernel, stride, padding, dilation, groups in settings:
        weight = normal(8, 4 // groups, kernel, kernel)
        steps = [stride] * 2, [padding] * 2, [dilation] * 2
        note = f"k{kernel}-s{stride}-p{padding}-d{dilation}-g{groups}"
        wrt = ("input", "weight", "bias")
        rows.append(
            example(aten.conv2d.default, normal(2, 4, 9, 8), weight, normal(8), *steps, groups, note=note, wrt=wrt)
        )
    return rows


def _lines_and_volumes() -> list[Example]:
    rows = []
    for op, size in ((aten.conv1d.default, (11,)), (aten.conv3d.default, (5, 6, 7))):
        dims = len(size)
        for kernel, stride, padding, dilation, groups in itertools.product([2, 3], [1, 2], [0, 1], [1, 2], [1, 2]):
            args = normal(2, 4, *size), normal(6, 4 // groups, *[kernel] * dims), normal(6)
            steps = [stride] * dims, [padding] * dims, [dilation] * dims
            note = f"k{kernel}-s{stride}-p{padding}-d{dilation}-g{groups}"
            rows.append(example(op, *args, *steps, groups, note=note))
    return rows


OTHER_CONVOLUTIONS = [
    example(aten.conv2d.default, normal(2, 4, 9, 13), normal(8, 4, 3, 5), None, [2, 1], [1, 2], note="oblong"),
    example(aten.conv2d.default, normal(2, 4, 9, 13), normal(8, 4, 1, 7), None, [1, 1], [0, 3], note="1x7"),
    example(aten.conv2d.default, normal(2, 4, 9, 13), normal(8, 4, 3, 3), None, [2], [1], [2], note="one-for-all"),
    example(aten.conv2d.default, normal(2, 4, 8, 8), normal(1, 4, 8, 8), note="whole-image"),
    example(aten.conv2d.default, normal(2, 4, 1, 1), normal(6, 4, 1, 1), normal(6), note="behind-pooling"),
    example(
        aten.conv2d.default, normal(2, 4, 1, 1), normal(6, 2, 3, 3), None, [1], [1], [1], 2, note="padded-position"
    ),
    example(
        aten.conv2d.default,
        normal(2, 6, 7, 7),
        normal(6, 1, 3, 3),
        normal(6),
        [1, 1],
        [1, 1],
        [1, 1],
        6,
        note="depthwise",
    ),
    example(
        aten.conv2d.default,
        normal(2, 3, 7, 7),
        normal(6, 1, 3, 3),
        normal(6),
        [2, 2],
        [1, 1],
        [1, 1],
        3,
        note="multiplier",
    ),
    example(
        aten.conv2d.default, normal(2, 4, 5, 5), normal(4, 4, 1, 1), None, [1, 1], [1, 1], note="padding-beyond-kernel"
    ),
    example(aten.conv1d.default, normal(2, 4, 19), normal(8, 2, 5), normal(8), [2], [2], [1], 2),
    example(aten.conv1d.default, normal(2, 4, 16), normal(8, 4, 3), None, [1], [2], [2], note="dilated"),
    example(aten.conv1d.default, normal(2, 4, 16), normal(8, 4, 4), None, [4], note="patches"),
    example(
        aten.conv3d.default, normal(2, 4, 5, 6, 7), normal(6, 2, 3, 2, 3), normal(6), [1, 2, 2], [1, 0, 1], [1, 1, 1], 2
    ),
    example(aten.conv3d.default, normal(2, 2, 4, 5, 4), normal(3, 2, 3, 3, 3), None, [1] * 3, [1] * 3, note="stride-1"),
    example(aten.conv1d.padding, normal(2, 4, 11), normal(6, 4, 4), normal(6), [1], "same", note="even-kernel"),
    example(aten.conv2d.padding, normal(2, 4, 9, 8), normal(6, 4, 3, 5), normal(6), [1, 1], "same"),
    example(
        aten.conv2d.padding, normal(2, 4, 9, 8), normal(6, 2, 4, 2), None, [1, 1], "same", [2, 1], 2, note="even-kernel"
    ),
    example(aten.conv2d.padding, normal(2, 4, 9, 8), normal(6, 4, 3, 3), None, [2, 2], "valid", note="valid"),
    example(aten.conv3d.padding, normal(2, 2, 5, 4, 6), normal(3, 2, 3, 2, 3), None, [1, 1, 1], "same"),
    example(
        aten.convolution.default,
        normal(2, 4, 9, 8),
        normal(6, 2, 3, 3),
        normal(6),
        [2, 2],
        [1, 1],
        [1, 1],
        False,
        [0, 0],
        2,
    ),
    example(
        aten.convolution.default,
        normal(2, 4, 9),
        normal(4, 3, 3),
        normal(6),
        [2],
        [1],
        [1],
        True,
        [1],
        2,
        note="transposed",
    ),
]


def _transposed() -> list[Example]:
    rows = []
    for kernel, stride, padding, extra, dilation, groups in itertools.product(
        [1, 2, 3], [1, 2, 3], [0, 1], [0, 1], [1, 2], [1, 2]
    ):
        if extra >= max(stride, dilation) or padding > dilation * (kernel - 1):
            continue
        args = normal(2, 4, 5, 6), normal(4, 3, kernel, kernel), normal(3 * groups), [stride] * 2, [padding] * 2
        note = f"k{kernel}-s{stride}-p{padding}-o{extra}-d{dilation}-g{groups}"
        rows.append(example(aten.conv_transpose2d.input, *args, [extra] * 2, groups, [dilation] * 2, note=note))
    return rows


def _transposed_lines_and_volumes() -> list[Example]:
    rows = []
    for op, size in ((aten.conv_transpose1d.default, (6,)), (aten.conv_transpose3d.input, (3, 4, 2))):
        dims = len(size)
        for stride, padding, extra, dilation, groups in itertools.product([1, 2], [0, 1], [0, 1], [1, 2], [1, 2]):
            if extra >= max(stride, dilation):
                continue
            args = normal(2, 4, *size), normal(4, 3, *[3] * dims), normal(3 * groups), [stride] * dims, [padding] * dims
            note = f"s{stride}-p{padding}-o{extra}-d{dilation}-g{groups}"
            rows.append(example(op, *args, [extra] * dims, groups, [dilation] * dims, note=note))
    return rows


OTHER_TRANSPOSED = [
    example(aten.conv_transpose1d.default, normal(2, 4, 7), normal(4, 2, 5), normal(4), [3], [2], [2], 2),
    example(
        aten.conv_transpose3d.input,
        normal(2, 4, 3, 2, 4),
        normal(4, 3, 2, 3, 2),
        normal(3),
        [2, 1, 2],
        [0, 1, 0],
        [1, 0, 1],
    ),
]

EXAMPLES = [
    *_planar(),
    *_lines_and_volumes(),
    *OTHER_CONVOLUTIONS,
    *_transposed(),
    *_transposed_lines_and_volumes(),
    *OTHER_TRANSPOSED,
]
DYNAMIC = [
    *OTHER_CONVOLUTIONS,
    *OTHER_TRANSPOSED,
    example(aten.conv2d.default, normal(2, 4, 9, 8), normal(8, 4, 3, 3), None, [2, 2], [1, 1], note="stride-2"),
    example(
        aten.conv2d.default, normal(2, 4, 9, 8), normal(8, 2, 3, 3), None, [1, 1], [1, 1], [1, 1], 2, note="stride-1"
    ),
]


@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel:UserWarning")
@pytest.mark.parametrize("row", EXAMPLES, ids=str)
def test_against_autograd(row: Example) -> None:
    assert compare(row) < TOLERANCE


@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel:UserWarning")
@pytest.mark.parametrize("row", DYNAMIC, ids=str)
def test_at_another_batch_size(row: Example) -> None:
    assert compare_at_another_batch(row) < TOLERANCE
