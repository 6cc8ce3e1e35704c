"""Lowerings of views, joining, cutting and indexing against autograd."""

import pytest
import torch
from torch import Tensor

from explainable_model.networks.onnx.kept import AS_IN_FILE, as_in_file
from tests.support.rule_checks import TOLERANCE, Example, Numbers, compare, compare_at_another_batch, example

aten = torch.ops.aten
numbers = Numbers(4)
normal = numbers.normal
BOTH = ("self", "src")
END = 9_223_372_036_854_775_807


def places(*values: int) -> Tensor:
    return torch.tensor(values)


def copied(self: Tensor, src: Tensor) -> Tensor:
    """``aten.copy``, which has no autograd formula."""
    return self.clone().copy_(src)


VIEWS = [
    example(aten.view.default, normal(2, 6, 4), [2, 24]),
    example(aten.view.default, normal(2, 6, 4), [-1, 3, 8], note="inferred"),
    example(aten._unsafe_view.default, normal(2, 6, 4), [2, 24]),
    example(aten.reshape.default, normal(2, 6, 4), [2, 4, 6]),
    example(aten.flatten.using_ints, normal(2, 6, 4), 1),
    example(aten.unflatten.int, normal(2, 6, 4), 1, [2, -1]),
    example(aten.squeeze.default, normal(2, 1, 4)),
    example(aten.squeeze.dim, normal(2, 1, 4), 1),
    example(aten.squeeze.dim, normal(2, 3, 4), 1, note="nothing"),
    example(aten.squeeze.dims, normal(2, 1, 4, 1), [1, -1]),
    example(aten.unsqueeze.default, normal(2, 4), -1),
    example(aten.permute.default, normal(2, 6, 4), [0, 2, -2]),
    example(aten.transpose.int, normal(2, 6, 4), -1, 1),
    example(aten.t.default, normal(2, 6)),
    example(aten.movedim.int, normal(2, 6, 4, 3), 1, -1),
    example(aten.movedim.intlist, normal(2, 6, 4, 3), [1, 3], [2, 1]),
    example(aten.expand.default, normal(2, 1, 4), [-1, 5, 4]),
    example(aten.expand.default, normal(2, 1), [3, 2, 5], note="new-dimension"),
    example(aten.expand_as.default, normal(2, 1, 4), torch.ones(2, 5, 4), wrt=("self",)),
    example(aten.expand_as.default, normal(2, 1, 4), normal(2, 5, 4), note="both", batched=("self", "other")),
    example(aten.repeat.default, normal(2, 5), [1, 2]),
    example(aten.repeat.default, normal(2, 5), [3, 1, 2, 1], note="new-dimensions"),
    example(aten.repeat.default, normal(2, 5), [1, 1, 2], note="new-one"),
    example(aten.repeat_interleave.self_int, normal(2, 5, 3), 2, 1),
    example(aten.repeat_interleave.self_int, normal(2, 5), 3, -1, note="negative-dim"),
    example(aten.repeat_interleave.self_int, normal(2, 5), 3, note="flat"),
    example(aten.roll.default, normal(2, 6, 6, 3), [-3, 2], [1, 2]),
    example(aten.roll.default, normal(2, 6), [2], note="flat"),
    example(aten.flip.default, normal(2, 3, 4), [1, -1]),
    example(aten.tril.default, normal(2, 4, 5), -1),
    example(aten.triu.default, normal(2, 4, 5), 1),
    example(aten.diagonal.default, normal(2, 4, 5), 1, 1, 2),
    example(aten.diagonal.default, normal(2, 4, 5), 0, -2, -1, note="negative-dims"),
    example(aten.diag_embed.default, normal(2, 4)),
    example(aten.diag_embed.default, normal(2, 4, 3), -1, 1, 3, note="below"),
]

JOINING = [
    example(aten.cat.default, [normal(2, 3, 4), normal(2, 5, 4)], 1),
    example(aten.cat.default, [normal(2, 3), normal(2, 5), normal(2, 1)], -1, note="negative-dim"),
    example(aten.cat.default, [normal(2, 3), normal(2, 5)], -1, wrt=("tensors[1]",), note="one"),
    example(aten.cat.default, [torch.zeros(0).double(), normal(2, 5)], 1, wrt=("tensors[1]",), note="empty"),
    example(aten.cat.default, [normal(2, 3).float(), normal(2, 5)], 1, note="promoted"),
    example(aten.stack.default, [normal(2, 3), normal(2, 3)], 1),
    example(aten.stack.default, [normal(2, 3), normal(2, 3)], -1, note="negative-dim"),
    example(aten.split.Tensor, normal(2, 7, 3), 3, 1),
    example(aten.split.Tensor, normal(2, 7, 3), 3, 1, unused=(0, 2), note="unused"),
    example(aten.split.Tensor, normal(2, 7), 3, -1, note="negative-dim"),
    example(aten.split_with_sizes.default, normal(2, 7, 3), [2, 5], 1),
    example(aten.chunk.default, normal(2, 7, 3), 3, 1, unused=(1,)),
    example(aten.unsafe_split.Tensor, normal(2, 7, 3), 3, 1),
    example(aten.unsafe_chunk.default, normal(2, 6, 3), 2, 1),
    example(aten.tensor_split.sections, normal(2, 7, 3), 3, 1),
    example(aten.unbind.int, normal(2, 3, 4), 1),
    example(aten.unbind.int, normal(2, 3, 4), -1, unused=(0, 3), note="unused"),
]

CUTTING = [
    *(example(aten.select.int, normal(3, 4, 5), dim, index, note=f"{dim},{index}")
      for dim, index in ((1, -1), (1, 0), (-1, 2), (0, 1))),
    *(example(aten.slice.Tensor, normal(2, 9, 10), *cut, note=str(cut).replace(" ", "").replace(str(END), "end"))
      for cut in ((1, 0, 3), (1, 1, END), (2, -3, -1), (1, 0, 8, 2), (1, 1, END, 2), (2, 1, 10, 3), (-1, -4, END),
                  (1, -20, 5), (1, None, None, 4), (1, 2, 100), (0, 1, 2), (1, 0, END))),
    example(aten.slice.Tensor, normal(5, 4), note="all"),
    *(example(aten.narrow.default, normal(2, 9, 10), *cut, note=str(cut).replace(" ", ""))
      for cut in ((1, 0, 3), (-1, 4, 6), (2, -3, 2), (1, 0, 9))),
    example(aten.slice_scatter.default, normal(2, 9), normal(2, 3), 1, 2, 5, batched=BOTH),
    example(aten.slice_scatter.default, normal(2, 9), normal(2, 5), -1, 0, END, 2, note="step", batched=BOTH),
    example(aten.select_scatter.default, normal(2, 5, 3), normal(2, 3), 1, -2, batched=BOTH),
    example(aten.copy.default, normal(2, 5), normal(5), batched=("self",), forward=copied),
    example(aten.copy.default, normal(2, 5).float(), normal(2, 5), note="converted", forward=copied),
]  # fmt: skip

SPACE = [
    example(aten.pixel_shuffle.default, normal(2, 8, 3, 3), 2),
    example(aten.pixel_unshuffle.default, normal(2, 2, 6, 9), 3),
    example(aten.channel_shuffle.default, normal(2, 12, 3, 3), 3),
    example(aten.im2col.default, normal(2, 3, 7, 8), [3, 2], [1, 1], [1, 0], [2, 1]),
    example(aten.im2col.default, normal(2, 3, 8, 8), [2, 2], [2, 2], [0, 0], [2, 2], note="dilated"),
    example(aten.col2im.default, normal(2, 12, 9), [4, 4], [2, 2], [1, 1], [0, 0], [1, 1]),
    example(aten.col2im.default, normal(2, 12, 9), [4, 4], [2, 2], [1, 1], [1, 1], [2, 2], note="padded"),
    *(example(aten.unfold.default, normal(2, 11, 3), 1, size, step, note=f"{size}-{step}")
      for size, step in ((3, 3), (2, 4), (3, 2), (3, 1), (4, 3), (1, 1), (11, 1))),
    example(aten.unfold.default, normal(2, 3, 8), -1, 4, 2, note="negative-dim"),
]  # fmt: skip

_index = torch.tensor([[1, 1, 4], [0, 2, 2]])

INDEXING = [
    example(aten.index_select.default, normal(2, 5, 3), 1, places(1, 1, 4, 0)),
    example(aten.index_select.default, normal(2, 5, 3), -2, places(1, 4), note="negative-dim"),
    example(aten.index.Tensor, normal(2, 5, 3), [None, places(1, 1, 4, 0)]),
    example(aten.index.Tensor, normal(2, 5, 3), [None, places(-1, 1, -5)], note="negative"),
    example(aten.index.Tensor, normal(2, 5, 3), [None, places(1, 4).int()], note="int32"),
    example(aten.index.Tensor, normal(2, 5, 3), [None, _index], note="matrix"),
    example(aten.index.Tensor, normal(2, 5, 3), [None, torch.tensor(3)], note="scalar"),
    example(aten.index.Tensor, normal(2, 5, 3), [places(0, 1, 0)], note="first"),
    example(aten.index.Tensor, normal(2, 5, 6), [None, places(1, 1, 4), places(0, 2, 2)], note="two"),
    example(aten.index.Tensor, normal(2, 5, 6), [places(0, 1, 1), None, places(0, -1, -1)], note="apart"),
    example(aten.index.Tensor, normal(2, 5, 6), [None, places(1, 1, 4).unsqueeze(1), places(0, 2)], note="outer"),
    example(aten.gather.default, normal(2, 5), 1, _index),
    example(aten.gather.default, normal(2, 5, 3), -2, _index.unsqueeze(2).expand(-1, -1, 2), note="smaller"),
    example(aten.embedding.default, normal(5, 3), _index),
    example(aten.embedding.default, normal(5, 3), _index, 1, note="padding"),
    example(aten.scatter.src, normal(2, 5), 1, _index, normal(2, 3)),
    example(aten.scatter.value, normal(2, 5), 1, _index, 2.0),
    example(aten.scatter_add.default, normal(2, 5), 1, _index, normal(2, 3)),
    example(aten.index_put.default, normal(2, 5, 3), [None, places(1, 4)], normal(2, 2, 3), batched=("self", "values")),
    example(aten.index_put.default, normal(2, 5, 3), [None, places(1, 4)], normal(3), note="broadcast"),
    example(
        aten.index_put.default,
        normal(2, 5, 3),
        [None, places(1, 1)],
        normal(2, 2, 3),
        True,
        note="accumulate",
        batched=("self", "values"),
    ),
    example(
        aten.max_unpool2d.default,
        normal(2, 3, 2, 2),
        torch.tensor([0, 3, 8, 10]).expand(2, 3, 4).reshape(2, 3, 2, 2),
        [4, 4],
    ),
]

KEPT = [example(AS_IN_FILE, normal(2, 3), normal(2, 3), wrt=("self",), forward=as_in_file)]
EXAMPLES = VIEWS + JOINING + CUTTING + SPACE + INDEXING + KEPT
# These fix the batch size in their arguments, or write to every image by its number.
FIXED = {
    "view", "_unsafe_view", "reshape", "t", "roll-flat", "expand_as", "index.Tensor-apart", "gather", "scatter.src",
    "scatter.value", "scatter_add", "max_unpool2d", "copy", "copy-converted", "expand-new-dimension", "cat-empty",
    "embedding", "embedding-padding", "slice.Tensor-0,1,2",
}  # fmt: skip
_parts = normal(2, 3), normal(2, 5)
DYNAMIC = [
    *(row for row in VIEWS + CUTTING + SPACE + INDEXING if str(row) not in FIXED),
    *(row for row in JOINING if str(row).startswith(("split", "chunk", "unbind", "tensor_split"))),
    example(aten.cat.default, [*_parts], 1, batched=("tensors[0]", "tensors[1]")),
    example(aten.stack.default, [normal(2, 3), normal(2, 3)], 1, batched=("tensors[0]", "tensors[1]")),
]


@pytest.mark.parametrize("row", EXAMPLES, ids=str)
def test_against_autograd(row: Example) -> None:
    assert compare(row) < (1e-6 if row.note in ("promoted", "converted") else TOLERANCE)


@pytest.mark.parametrize("row", DYNAMIC, ids=str)
def test_at_another_batch_size(row: Example) -> None:
    assert compare_at_another_batch(row) < TOLERANCE
