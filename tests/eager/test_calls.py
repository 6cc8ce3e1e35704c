"""A layer that runs several times in one forward: the call that is explained is chosen, and recorded."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel, export, find_layers, load, lower
from explainable_model.errors import LayerError, RepeatedLayerWarning
from tests.support.nets import images, seeded


class Siamese(nn.Module):
    """One backbone for two images, and logits that depend on both."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 4, 3, 2, 1), nn.Linear(4, 3)

    def forward(self, image: Tensor, other: Tensor) -> Tensor:
        return self.compare(self.body(image), self.body(other))

    def compare(self, first: Tensor, second: Tensor) -> Tensor:
        return self.head((torch.tanh(first) - torch.sigmoid(second)).square().mean((2, 3)))


class Pyramid(nn.Module):
    """One head over three scales of one map."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.classify = nn.Linear(4, 3)

    def forward(self, image: Tensor) -> Tensor:
        activations, total = torch.tanh(self.stem(image)), torch.zeros(())
        for scale in (1, 2, 4):
            total = total + self.head(nn.functional.avg_pool2d(activations, scale)).tanh().mean((2, 3))
        return self.classify(total)


def pair() -> tuple[Tensor, Tensor]:
    return images(2, (3, 16, 16)).double(), images(2, (3, 16, 16), seed=7).double()


CLASSES = torch.tensor([2, 0])


def gradcam_by_hand(network: Siamese, call: int) -> Tensor:
    leaves = [network.body(image).detach().requires_grad_() for image in pair()]
    score = network.compare(*leaves).gather(1, CLASSES[:, None]).sum()
    (gradient,) = torch.autograd.grad(score, leaves[call])
    return (gradient.mean((2, 3), keepdim=True) * leaves[call]).sum(1).clamp_min(0).detach()


@pytest.mark.parametrize("call", [0, 1, -1])
def test_the_chosen_call_is_explained(call: int) -> None:
    network = seeded(Siamese()).double()
    explainable = ExplainableModel(network, "body", call=call, normalize=False, upsample=False)
    expected = gradcam_by_hand(network, call)
    assert expected.amax() > 0
    lowered = lower(explainable, *pair())
    for run in (explainable, lowered):
        cam = run(pair()[0], CLASSES, pair()[1]).cam
        assert (cam - expected).abs().max() <= 1e-9 * expected.amax()


def test_a_repeated_layer_warns_where_no_call_was_chosen() -> None:
    network = seeded(Siamese()).double()
    with pytest.warns(RepeatedLayerWarning, match=r"'body' runs 2 times.*call=0 to call=1, or say call=-1"):
        ExplainableModel(network, "body")(pair()[0], CLASSES, pair()[1])


def test_a_call_that_did_not_happen() -> None:
    network = seeded(Siamese()).double()
    for run in (ExplainableModel(network, "body", call=2), ExplainableModel(network, "body", "scorecam", call=2)):
        with pytest.raises(LayerError, match=r"ran 2 time\(s\).*call is 2, expected 0 to 1, or -1"):
            run(pair()[0], CLASSES, pair()[1])
    with pytest.raises(ValueError, match="call is -2; expected 0"):
        ExplainableModel(network, "body", call=-2)


def test_each_scale_of_a_shared_head() -> None:
    network, image = seeded(Pyramid()).double(), images(1, (3, 16, 16)).double()
    grids = [ExplainableModel(network, "head", call=n).attribute(image).activations.shape[2:] for n in range(3)]
    assert grids == [(16, 16), (8, 8), (4, 4)]
    assert {layer.name: layer.calls for layer in find_layers(network, image)} == {"stem": 1, "head": 3}


def test_the_call_is_in_the_metadata(tmp_path: Path) -> None:
    explainable = ExplainableModel(seeded(Siamese()).double(), "body", call=0)
    session = load(export(explainable, tmp_path / "siamese.ts", *pair()))
    assert session.metadata.call == 0
