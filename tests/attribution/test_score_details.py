"""What a target differentiates, counts and ranks where the network's end could be taken for another."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from explainable_model import ExplainableModel
from explainable_model.attribution.postprocess import Postprocess
from explainable_model.attribution.scores import resolve_class_idx
from explainable_model.attribution.targets import Custom, Difference, Segmentation, Similarity, score_output
from explainable_model.errors import InputError
from tests.support.nets import SmallNet, images, seeded

RAW: dict[str, Any] = {"normalize": "none", "upsample": "none", "signed": True}


class Ending(nn.Module):
    """A small network that ends in a module of its own."""

    def __init__(self, end: nn.Module) -> None:
        super().__init__()
        self.net, self.end = SmallNet(5), end

    def forward(self, image: Tensor) -> Tensor:
        result: Tensor = self.end(self.net(image))
        return result


def test_a_difference_is_that_of_the_logits_before_a_softmax() -> None:
    image = images(2).double()
    maps = [
        ExplainableModel(seeded(Ending(end)).double(), "net.block", target=Difference(1), **RAW)(image, [0, 3]).cam
        for end in (nn.Identity(), nn.Softmax(1))
    ]
    assert (maps[0] - maps[1]).abs().max() < 1e-12
    assert maps[0].abs().max() > 1e-3


def test_a_similarity_is_that_of_the_output_as_it_stands() -> None:
    network, image = seeded(Ending(nn.Sigmoid())).double(), images(2).double()
    reference = torch.rand(2, 5, generator=torch.Generator().manual_seed(0)).double()
    got = ExplainableModel(network, "net.block", "hirescam", target=Similarity(), **RAW)(image, None, reference).cam
    kept: list[Tensor] = []
    handle = network.net.block.register_forward_hook(lambda *call: kept.append(call[2]))
    score = functional.cosine_similarity(network(image), reference, eps=0).sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(score, kept[0])
    torch.testing.assert_close(got, (kept[0] * gradient).sum(1).detach())


@pytest.mark.parametrize(("logits", "classes"), [(torch.zeros(2, 5), 5), (torch.zeros(2), 1), (torch.zeros(2, 1), 1)])
def test_a_score_of_ones_own_knows_the_classes_of_the_network(logits: Tensor, classes: int) -> None:
    target = Custom(lambda output, class_idx: output.reshape(2, -1)[:, 0])
    scores = score_output(target, logits, None, torch.tensor([-1, 0]), [], (2, 3, 8, 8))
    assert (scores.classes, scores.columns.tolist(), scores.values.shape) == (classes, [[0], [0]], (2, 1))
    two = score_output(target, torch.zeros(2, 5), None, torch.tensor([[0, 3], [1, 2]]), [], (2, 3, 8, 8))
    assert (two.columns.tolist(), two.values.shape) == ([[0, 1], [0, 1]], (2, 2))


@pytest.mark.parametrize("size", [(2, 2), (1, 4)])
def test_the_class_of_own_pixels_wins_most_of_two_channels(size: tuple[int, int]) -> None:
    """Class 1 wins three of four pixels, by little; class 0 has the larger sum."""
    logits = torch.tensor([[[9.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 1.0]]]).reshape(1, 2, *size)
    scores = score_output(Segmentation("own"), logits, None, torch.tensor([-1]), [], (1, 3, *size))
    assert (scores.class_idx.tolist(), scores.values.tolist(), scores.classes) == ([[1]], [[9.0, 3.0]], 2)


def test_a_class_that_the_network_does_not_have() -> None:
    for wrong in (5, -2):
        with pytest.raises(InputError, match=rf"class_idx {wrong} is out of range; the network has 5 class"):
            resolve_class_idx(torch.tensor([[0], [wrong]]), torch.zeros(2, 5))


def test_each_class_has_a_scale_of_its_own_unless_asked() -> None:
    assert Postprocess() == Postprocess("minmax", "bilinear", False, False, None)
    explainable = ExplainableModel(seeded(SmallNet()), "block", top_k=2, upsample="none")
    assert explainable(images(2)).cam.amax((2, 3)).tolist() == [[1.0, 1.0], [1.0, 1.0]]
