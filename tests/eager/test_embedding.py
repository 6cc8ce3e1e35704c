"""A network that returns a normalized embedding is not explained as if it returned scores of classes."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from explainable_model import ExplainableModel, lower
from explainable_model.errors import ModelError
from explainable_model.targets import Similarity
from tests.support.nets import SmallNet, images, seeded


class Embedder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = SmallNet()

    def forward(self, image: Tensor) -> Tensor:
        return functional.normalize(self.net(image))


class ImageAndText(Embedder):
    """Returns what CLIP does for an image without a text."""

    def forward(self, image: Tensor, text: Tensor | None = None) -> tuple[Tensor, Tensor | None, Tensor]:  # type: ignore[override]
        return super().forward(image), text, torch.tensor(14.3)


@pytest.mark.parametrize("build", [Embedder, ImageAndText])
def test_a_normalized_embedding_is_refused(build: type[nn.Module]) -> None:
    explainable = ExplainableModel(seeded(build()))
    for call in (explainable, lambda image: lower(explainable, image)):
        with pytest.raises(ModelError, match=r"a normalized embedding.*target=Similarity\(\).*output="):
            call(images(2))


def test_a_similarity_and_an_output_that_the_user_names_are_explained() -> None:
    network, image = seeded(Embedder()), images(2)
    count = network(image).shape[1]
    assert ExplainableModel(network, target=Similarity())(image, None, torch.randn(2, count)).cam.amax() > 0.5
    named = ExplainableModel(network, output=lambda output: output)(image)
    assert torch.equal(named.logits, network(image))


def test_scores_that_have_the_length_one_by_chance_are_explained() -> None:
    network, image = seeded(SmallNet()).double(), images(1).double()
    length = float(network(image).detach().norm())
    chance = nn.Sequential(network, Scale(1 / length)).eval()
    assert abs(float(chance(image).detach().norm()) - 1) < 1e-15
    assert ExplainableModel(chance)(image).cam.amax() > 0.5


class Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, values: Tensor) -> Tensor:
        return values * self.factor


class Certain(nn.Module):
    """Probabilities of a classifier that is certain: one, and zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.net = SmallNet()

    def forward(self, image: Tensor) -> Tensor:
        return (self.net(image) * 1e4).softmax(1)


@pytest.mark.filterwarnings("ignore::explainable_model.errors.ExplainableModelWarning")
def test_certain_probabilities_are_explained() -> None:
    network = seeded(Certain())
    assert torch.equal(network(images(1)).square().sum(1), torch.ones(1))
    assert torch.equal(ExplainableModel(network)(images(1)).logits, network(images(1)))
