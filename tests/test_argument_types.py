"""Arguments of types that nobody expects: an error that names the argument, never one from inside PyTorch."""

from typing import Any

import numpy as np
import pytest
import torch

from explainable_model import ExplainableModel
from explainable_model.errors import InputError
from explainable_model.imaging.overlay import heatmap
from explainable_model.imaging.regions import compute_share_inside
from tests.siege.api import KEYWORDS, judge
from tests.support.nets import TinyResNet, seeded

ODD: dict[str, Any] = {
    "tensor": torch.zeros(1, 3, 8, 8),
    "empty tensor": torch.zeros(1, 3, 0, 8),
    "number": torch.tensor(-2),
    "sparse": torch.zeros(2, 2).to_sparse(),
    "complex": torch.zeros(1, dtype=torch.complex64),
    "array": np.zeros((2, 2)),
    "bytes": b"ab",
    "huge": 1 << 40,
    "list": [36344, "layer2"],
    "mapping": {1: 2},
    "type": int,
    "function": len,
    "object": object(),
}


@pytest.mark.parametrize("keyword", KEYWORDS)
@pytest.mark.filterwarnings("ignore")
def test_a_keyword_of_another_type(keyword: str) -> None:
    network, image = seeded(TinyResNet(3)), torch.zeros(1, 3, 8, 8)
    for name, value in ODD.items():
        arguments = {"target_layer": "layer2", keyword: value}
        outcome = "answered"
        try:
            ExplainableModel(network, **arguments)(image)
        except Exception as error:  # the point is which one
            outcome = f"{judge(error)}: {type(error).__name__}: {error}"
        assert outcome.startswith(("answered", "refused")), f"{keyword} is {name}: {outcome}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"top_k": 1 << 40}, "top_k is 1099511627776; expected how many classes"),
        ({"top_k": torch.zeros(2)}, r"top_k is a Tensor of shape \(2,\); expected"),
        ({"target_layer": ["layer2", 3]}, "target_layer is 3; expected a module of the network"),
        ({"signed": "yes"}, "signed is 'yes'; expected True or False"),
        ({"size": 7}, "size is 7; expected positive lengths"),
        ({"options": [1]}, r"options is \[1\]; expected a mapping"),
        ({"output": [0]}, r"output is \[0\]; expected a name, a position or a function"),
        ({"reshape_transform": len}, r"reshape_transform made 1 of \(1, .*; expected a tensor"),
    ],
)
def test_what_it_says(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExplainableModel(seeded(TinyResNet(3)), **{"target_layer": "layer2", **arguments})(torch.ones(1, 3, 16, 16))


def test_numbers_of_numpy_and_pytorch_count() -> None:
    network, image = seeded(TinyResNet(3)), torch.ones(1, 3, 16, 16)
    given: dict[str, Any] = {"top_k": np.int64(2), "signed": np.True_, "size": torch.Size((5, 6)), "augment": 0}
    found = ExplainableModel(network, "layer2", chunk_size=torch.tensor(4), **given)(image)
    assert torch.equal(found.cam, ExplainableModel(network, "layer2", top_k=2, signed=True, size=(5, 6))(image).cam)


def test_a_sparse_map() -> None:
    for call in (heatmap, lambda cam: compute_share_inside(cam, cam)):
        with pytest.raises(InputError, match=r"cam is a tensor that cannot be read as an array: .*parse"):
            call(torch.zeros(4, 4).to_sparse())
