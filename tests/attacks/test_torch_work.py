"""What a call of a PyTorch graph takes is measured by shapes alone: the shapes are those of the real results."""

import resource
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explainable_model import load
from explainable_model.exporters.guard import torch_work
from explainable_model.exporters.guard.refusal import Refusal
from explainable_model.exporters.guard.torch_shapes import find_tensors, map_values
from explainable_model.exporters.guard.torch_work import measure_work
from explainable_model.exporters.torchscript import quiet_torchscript
from tests.lowering.rules import (
    test_convolution,
    test_elementwise,
    test_fourier,
    test_linear,
    test_quantization,
    test_reduction,
    test_resampling,
    test_views,
)
from tests.support.hostile import GOOD
from tests.support.rule_checks import Example

GIB = 2**30
aten, ones = torch.ops.aten, torch.ones
FILES = (
    test_convolution, test_elementwise, test_fourier, test_linear, test_quantization, test_reduction, test_resampling,
    test_views,
)  # fmt: skip


def run_on_shapes(operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The results of one operator, without numbers."""
    found: list[Tensor] = []

    def call(*inputs: Tensor) -> None:
        left = iter(inputs)
        put = [map_values(values, lambda value: next(left) if isinstance(value, Tensor) else value) for values in both]
        found.extend(find_tensors([operator(*put[0], **put[1])]))

    both = (args, kwargs)
    measure_work(call, list(find_tensors([*args, *kwargs.values()])), GIB)
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.__name__.rpartition("test_")[2])
def test_shapes_are_those_of_real_results(file: Any) -> None:
    wrong, examples = [], [each for each in _find_examples(file) if each.op._schema.name != "aten::item"]
    for each in examples:
        real = list(find_tensors([each.op(*each.args, **each.kwargs)]))
        shapes = run_on_shapes(each.op, each.args, each.kwargs)
        if [(one.shape, one.dtype) for one in real] != [(one.shape, one.dtype) for one in shapes]:
            wrong.append(f"{each}: {[tuple(one.shape) for one in real]}, told {[tuple(one.shape) for one in shapes]}")
    assert wrong == []
    assert len(examples) > 5


def _find_examples(file: Any) -> Iterable[Example]:
    return file.EXAMPLES


MORE = [  # operators with a formula that no rule of the lowering has an example of
    (aten.argmax.default, (ones(2, 3, 4), 1, True)), (aten.argmin.default, (ones(2, 3, 4),)),
    (aten.all.dim, (ones(2, 3), -1)), (aten.any.default, (ones(2, 3),)), (aten.nansum.default, (ones(2, 3, 4), [0, 2])),
    (aten.std_mean.correction, (ones(2, 3, 4), [1])), (aten.zeros.default, ([2, 3],)), (aten.full.default, ([4], 7)),
    (aten.full.default, ([4], 0.5)), (aten.arange.default, (7,)), (aten.arange.start_step, (3, 10.5, 2)),
    (aten.arange.start, (-2, 5)), (aten.index_fill.int_Scalar, (ones(4, 2), 0, torch.tensor([1]), 0.5)),
    (aten.index_copy.default, (ones(4, 2), 0, torch.tensor([1]), ones(1, 2))),
    (aten.index_add.default, (ones(4, 2), 0, torch.tensor([1]), ones(1, 2))),
    (aten.scatter_reduce.two, (ones(4), 0, torch.tensor([1]), ones(4), "sum")),
]  # fmt: skip


@pytest.mark.parametrize(("operator", "args"), MORE, ids=lambda value: str(value) if callable(value) else "")
def test_shapes_of_further_operators(operator: Any, args: tuple[Any, ...]) -> None:
    real, shapes = (list(find_tensors([result])) for result in (operator(*args), run_on_shapes(operator, args, {})))
    assert [(one.shape, one.dtype) for one in real] == [(one.shape, one.dtype) for one in shapes]


def measure(module: Callable[[Tensor], Any], shape: tuple[int, ...] = (1, 3, 16, 16), limit: int = 64 * GIB) -> int:
    return measure_work(module, [torch.empty(shape)], limit)


def test_memory_is_that_of_the_results_that_live() -> None:
    kib = 1 << 10
    image = (1, 1, 16, 16)  # 1 KiB

    def chain(value: Tensor) -> Tensor:
        for _ in range(10):
            value = value + 1
        return value

    assert measure(lambda value: value[0].view(-1).expand(9, 256)[3], image) == 0
    assert measure(lambda value: value + 1, image) == kib
    assert measure(chain, image) == 2 * kib
    assert measure(lambda value: [value + n for n in range(10)], image) == 10 * kib
    assert measure(lambda value: (value + 1).relu_().add_(value), image) == kib
    assert measure(lambda value: value.expand(8, -1, -1, -1) * 1, image) == 8 * kib + 8 * kib
    assert measure(nn.Linear(16, 1, bias=False), image) == 64
    with quiet_torchscript():
        assert measure(torch.jit.script(Viewed(nn.Parameter(torch.ones(16)))), image) == 0


class Viewed(nn.Module):
    """Returns a view of a weight."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, image: Tensor) -> Tensor:
        return self.weight.expand(image.shape[0], -1)


@pytest.mark.parametrize(
    "attack",
    [
        lambda image: torch.zeros(image.shape[2] * 10**10),
        lambda image: torch.arange(image.shape[3] * 10**10),
        lambda image: image.repeat(10**5, 10**5, 1, 1),
        lambda image: torch.repeat_interleave(image, 10**9),
        lambda image: torch.outer(image.repeat(1, 1, 100, 100).flatten(), image.repeat(1, 1, 100, 100).flatten()),
        lambda image: torch.nn.functional.interpolate(image, scale_factor=1e5),
        lambda image: torch.nn.functional.pad(image, [10**5] * 4),
        lambda image: image.expand(10**9, -1, -1, -1).sum(),
        lambda image: image.expand(10**9, -1, -1, -1).contiguous(),
        lambda image: image.flatten()[:, None, None] * torch.ones(10**5, 1) * torch.ones(10**5),
        lambda image: [torch.ones(2**28, dtype=torch.float32) for _ in range(80)],
        lambda image: torch.conv2d(torch.ones(1, 2, 20000, 20000), torch.ones(1, 2, 15, 15), padding=7),
        lambda image: torch.einsum("abcd,efgh->abcdefgh", image.repeat(1, 1, 40, 40), image.repeat(1, 1, 40, 40)),
        lambda image: torch.bilinear(torch.ones(2**20, 2**10), torch.ones(2**20, 2**10), torch.ones(1, 2**10, 2**10)),
        lambda image: aten._upsample_bilinear2d_aa(torch.ones(1, 1, 2**20, 1), [1, 2**20], False),
        lambda image: torch.eye(10**6),
        lambda image: torch.linspace(0, 1, 10**11),
        lambda image: image.new_full((10**6, 10**6), 0),
        lambda image: torch.cdist(torch.ones(10**6, 2), torch.ones(10**6, 2)),
        lambda image: torch.nn.functional.one_hot(torch.zeros(10**5, dtype=torch.int64), 10**9),
        lambda image: torch.tril_indices(10**6, 10**6),
        lambda image: torch.fft.fft(image, n=10**11),
        lambda image: torch.block_diag(*[torch.ones(1, 10**5)] * 2, torch.ones(10**7, 1)),
    ],
)  # fmt: skip
def test_amounts_that_are_refused(attack: Callable[[Tensor], Any]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Refusal, match="a call would take [0-9]+ GiB of memory"):
        measure(attack)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


@pytest.mark.parametrize(
    "attack",
    [
        lambda image: torch.zeros(int(image.sum())),
        lambda image: torch.nonzero(image),
        lambda image: image[image > 0],
        lambda image: torch.repeat_interleave(image.flatten(), image.flatten().long()),
        lambda image: torch.masked_select(image, image > 0),
        lambda image: torch.nn.functional.one_hot(image.long()),
        lambda image: image if bool(image.sum() > 0) else torch.zeros(2**50),
    ],
)
def test_sizes_that_the_image_decides(attack: Callable[[Tensor], Any]) -> None:
    with pytest.raises((Refusal, RuntimeError)):
        measure(attack)


@pytest.mark.parametrize(
    "attack",
    [
        lambda image: torch.unbind(image[:, 0, 0, :1].expand(10**9, 1)),
        lambda image: torch.tensor_split(image, 10**9),
        lambda image: torch.chunk(image[:0], 10**9),
        lambda image: torch.split(image.flatten().repeat(1000), 1),
    ],
)
def test_parts_that_are_too_many(attack: Callable[[Tensor], Any]) -> None:
    with pytest.raises(Refusal, match="cuts a tensor into more than"):
        measure(attack)


def test_operators_that_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_work, "MAX_OPERATORS", 100)

    def repeat(image: Tensor) -> None:
        for _ in range(101):
            image = image.view(-1)

    with pytest.raises(Refusal, match="runs more than"):
        measure(repeat)


def test_values_of_the_image_may_be_chosen_by_their_place() -> None:
    with np.load(GOOD / "before.npz") as expected:
        for suffix in (".ts", ".pt2"):
            session = load(GOOD / f"before{suffix}")
            assert np.abs(session(expected["image"]).cam - expected["cam"]).max() < 1e-5
