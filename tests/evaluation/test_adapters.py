"""Maps in captum's and Quantus' form; captum's own metrics take them. Those of Quantus run by hand.

See ``tests/peers/quantus_metrics.py``.
"""

import captum.metrics
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel
from explainable_model.errors import InputError
from explainable_model.evaluation import explain_func, for_captum
from tests.support.nets import SmallNet, images, seeded

SIZE = (3, 16, 16)


class Weighted(nn.Module):
    """Two linear scores of an image of one channel, with weights that are all positive."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(2, 36, generator=torch.Generator().manual_seed(0)) + 0.1)

    def forward(self, image: Tensor) -> Tensor:
        return image.flatten(1) @ self.weight.T


def test_captum_finds_the_gradient_of_a_linear_network_faithful() -> None:
    network, image = Weighted().eval(), images(2, (1, 6, 6))
    attribution = for_captum(ExplainableModel(network, None, "saliency", normalize=False))
    target = torch.tensor([1, 0])
    shares = attribution.attribute(image, target=target)
    assert torch.equal(shares[:, 0].flatten(1), network.weight[target])

    def perturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        noise = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(inputs.shape[0]))
        return noise, inputs - noise

    with torch.no_grad():
        measured = captum.metrics.infidelity(network, perturb, image, shares, target=target)
        # Another class's map is not: the measure tells them apart.
        other = captum.metrics.infidelity(
            network, perturb, image, attribution.attribute(image, 1 - target), target=target
        )
    assert measured.abs().max() < 1e-8
    assert other.min() > 1e-3
    sensitivity = captum.metrics.sensitivity_max(attribution.attribute, image, target=target, n_perturb_samples=2)
    assert sensitivity.abs().max() < 1e-6


def test_the_channels_of_captum_add_up_to_the_map() -> None:
    explainable, image = ExplainableModel(seeded(SmallNet()), "block"), images(2, SIZE)
    shares = for_captum(explainable).attribute(image, target=1)
    assert shares.shape == image.shape
    assert shares.is_contiguous()  # captum's metrics take views of it
    torch.testing.assert_close(shares.sum(1), explainable(image, 1).cam)
    torch.testing.assert_close(for_captum(explainable).attribute(image).sum(1), explainable(image).cam)


def test_a_map_of_another_size_is_refused() -> None:
    explainable = ExplainableModel(seeded(SmallNet()), "block", upsample=False)
    with pytest.raises(InputError, match=r"The map has shape \(4, 4\) for an image of \(16, 16\)"):
        for_captum(explainable).attribute(images(1, SIZE))


@pytest.mark.parametrize("method", ["gradcam", "saliency"])
def test_what_quantus_asks_for(method: str) -> None:
    network, image, classes = seeded(SmallNet()), images(2, SIZE), np.array([3, 1])
    found = explain_func(
        network, image.numpy().astype(np.float64), classes, target_layer="block", method=method, batch_size=2
    )
    layer = "block" if method == "gradcam" else None
    expected = ExplainableModel(network, layer, method)(image, classes).cam
    assert found.shape == (2, 1, 16, 16)
    np.testing.assert_array_equal(found[:, 0], expected.numpy())
