"""The part of the network's output that the user names."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel
from explainable_model.errors import ModelError
from explainable_model.model import lower
from tests.attribution.test_targets import HeadOutput, pictures
from tests.support.nets import SmallNet, seeded


class Container(nn.Module):
    """Gives its logits in some container beside others that are no prediction."""

    def __init__(self, pack: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.net, self.pack = SmallNet(5), pack

    def forward(self, image: Tensor) -> Any:
        logits = self.net(image)
        return self.pack(logits, torch.zeros_like(logits) + image.mean())


@pytest.mark.parametrize(
    ("pack", "select"),
    [
        (lambda logits, other: {"aux": other, "scores": logits}, "scores"),
        (lambda logits, other: (other, logits), 1),
        (lambda logits, other: [other, logits], -1),
        (lambda logits, other: HeadOutput(logits, other), "loss"),
        (lambda logits, other: {"heads": (other, logits)}, lambda output: output["heads"][1]),
    ],
    ids=["key", "position", "from the end", "attribute", "function"],
)
def test_output_selectors(pack: Callable[[Tensor, Tensor], Any], select: Any) -> None:
    network = seeded(Container(pack)).double()
    image = pictures(2, seed=3)
    expected = ExplainableModel(network.net, "block")(image)
    explainable = ExplainableModel(network, "net.block", output=select)
    for model in (explainable, lower(explainable, pictures(2, seed=0))):
        got = model(image)
        assert torch.equal(got.class_idx, expected.class_idx)
        assert (got.logits - expected.logits).abs().max() < 1e-9
        assert (got.cam - expected.cam).abs().max() < 1e-9


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ("score", r"output='score' is not in what the network returned \(aux, scores, name\)"),
        (7, r"output=7 is not in what the network returned"),
        ("name", r"output='name' is str in what the network returned; expected a floating point tensor"),
        (lambda output: output["nothing"], r"is not in what the network returned"),
    ],
)
def test_wrong_selectors(select: Any, message: str) -> None:
    network = seeded(Container(lambda logits, other: {"aux": other, "scores": logits, "name": "tiny"})).double()
    with pytest.raises(ModelError, match=message):
        ExplainableModel(network, "net.block", output=select)(pictures(1, seed=3))
