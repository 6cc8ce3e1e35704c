"""A target of one's own reads the class of the image, which copies of its activations keep."""

import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel, lower

RAW = {"normalize": "none", "upsample": "none", "signed": True}


class Choosing(nn.Module):
    """A network in which the activations themselves choose what is made of them."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, 4)

    def forward(self, image: Tensor) -> Tensor:
        return self.classify(self.layer(image))

    def ablated(self, image: Tensor, channel: int) -> Tensor:
        maps = self.layer(image)
        maps[:, channel] = 0
        return self.classify(maps)

    def classify(self, maps: Tensor) -> Tensor:
        return self.head(torch.where(maps > 0.1, maps, -2 * maps).mean((2, 3)))


def own(output: Tensor, class_idx: Tensor) -> Tensor:
    return output.gather(1, class_idx.unsqueeze(1)).squeeze(1).tanh() + class_idx


def test_copies_of_activations_are_scored_for_the_predicted_class_of_their_image() -> None:
    torch.manual_seed(3)
    network = Choosing().double().eval()
    image = torch.randn(8, 3, 4, 4).double()
    with torch.no_grad():
        network.head.bias -= network(image).mean(0)  # the classes are close to each other
        predicted, maps = network(image).argmax(1), network.layer(image)
        score = own(network(image), predicted)
        without = [network.ablated(image, k) for k in range(6)]
        weights = torch.stack([(score - own(output, predicted)) / score.abs() for output in without], 1)
    assert any(not torch.equal(output.argmax(1), predicted) for output in without)
    want = (weights[..., None, None] * maps).sum(1)
    explainable = ExplainableModel(network, "layer", "ablationcam", target=own, **RAW)

    eager, lowered = explainable(image), lower(explainable, image)(image, torch.full((8,), -1))

    for answer in (eager, lowered):
        assert torch.equal(answer.class_idx, predicted)
        torch.testing.assert_close(answer.cam, want)
