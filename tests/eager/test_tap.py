"""Finding and exchanging the tensor in a layer's output; the hook."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from explainable_model.attribution.containers import first_tensor, replace_tensor
from explainable_model.eager.tap import LayerTap


class Pair(NamedTuple):
    mask: Tensor
    hidden: Tensor


@dataclass
class Output:
    loss: Tensor | None
    hidden: Tensor


HIDDEN = torch.ones(2)
MASK = torch.ones(2, dtype=torch.int64)


@pytest.mark.parametrize(
    "output",
    [
        HIDDEN,
        (MASK, HIDDEN, torch.zeros(2)),
        [MASK, [HIDDEN]],
        {"mask": MASK, "hidden": HIDDEN},
        OrderedDict(hidden=HIDDEN),
        Pair(MASK, HIDDEN),
        Output(None, HIDDEN),
        ((MASK, Output(None, HIDDEN)), None),
    ],
)
def test_first_tensor_and_its_replacement(output: object) -> None:
    assert first_tensor(output) is HIDDEN
    new = torch.zeros(2)
    changed = replace_tensor(output, HIDDEN, new)
    assert type(changed) is type(output)
    assert first_tensor(changed) is new
    assert first_tensor(output) is HIDDEN, "the network's own object is not changed"


def test_no_tensor() -> None:
    assert first_tensor((None, MASK, "text")) is None


def test_hook_is_there_only_while_someone_listens() -> None:
    layer, tap = nn.Linear(2, 2), LayerTap()
    with tap.listen(layer, lambda output, inputs: output * 0):
        assert len(layer._forward_hooks) == 1
        with tap.listen(layer, lambda output, inputs: output * 0 + 7):
            assert layer(HIDDEN).tolist() == [7, 7]
        assert layer(HIDDEN).tolist() == [0, 0]
    assert not layer._forward_hooks
    with pytest.raises(RuntimeError, match="boom"), tap.listen(layer, lambda output, inputs: output):
        raise RuntimeError("boom")
    assert not layer._forward_hooks
