"""Networks that overwrite values which their gradient needs: autograd refuses, the exported graph explains them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel, lower
from explainable_model.errors import LayerError, ModelError
from tests.support.nets import images, seeded


class InPlace(nn.Module):
    """Writes in place to what the operation before it keeps for its gradient."""

    def __init__(self, write: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.head, self.write = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 3), write

    def forward(self, image: Tensor) -> Tensor:
        return self.classify(self.conv(image))

    def classify(self, activations: Tensor) -> Tensor:
        return self.write(self.head(torch.tanh(activations).mean((2, 3))))


def scaled_probabilities(logits: Tensor) -> Tensor:
    probabilities = logits.softmax(1)
    probabilities *= 100
    return probabilities


def cleared_background(logits: Tensor) -> Tensor:
    scores = logits.exp()
    scores[:, 0] = 0
    return scores


def split_and_scaled(logits: Tensor) -> Tensor:
    first, *_ = logits.split(1, 1)
    first.mul_(2)
    return logits.sigmoid() * 1.0


WITHOUT: dict[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]] = {
    scaled_probabilities: lambda logits: logits.softmax(1) * 100,
    cleared_background: lambda logits: torch.cat([torch.zeros_like(logits[:, :1]), logits[:, 1:].exp()], 1),
}
CLASSES = torch.tensor([1, 2])


@pytest.mark.parametrize("write", WITHOUT, ids=lambda write: write.__name__)
def test_in_place_writes_that_autograd_refuses(write: Callable[[Tensor], Tensor]) -> None:
    image = images(2, (3, 8, 8)).double()
    options = {"target_layer": "conv", "normalize": False}
    expected = ExplainableModel(seeded(InPlace(WITHOUT[write])).double(), **options)(image, CLASSES)
    explainable = ExplainableModel(seeded(InPlace(write)).double(), **options)
    got = explainable(image, CLASSES)
    assert expected.cam.amax() > 0
    assert torch.allclose(got.logits, expected.logits)
    assert (got.cam - expected.cam).abs().max() <= 1e-9 * expected.cam.amax()
    assert (lower(explainable, image)(image, CLASSES).cam - expected.cam).abs().max() <= 1e-9 * expected.cam.amax()


def test_a_write_to_one_of_several_views_is_named() -> None:
    with pytest.raises(ModelError, match=r"one of several views.*part = part \* 2"):
        ExplainableModel(seeded(InPlace(split_and_scaled)).double(), "conv")(images(2, (3, 8, 8)).double())


def test_the_automatic_layer_of_such_a_network_is_named_by_the_user() -> None:
    with pytest.raises(LayerError, match="writes in place.*target_layer="):
        ExplainableModel(seeded(InPlace(scaled_probabilities)).double())(images(2, (3, 8, 8)).double())


def test_another_error_of_the_network_stays_its_own() -> None:
    def fail(logits: Tensor) -> Tensor:
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        ExplainableModel(seeded(InPlace(fail)).double(), "conv")(images(2, (3, 8, 8)).double())
