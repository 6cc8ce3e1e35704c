"""The convergence gap of integrated gradients, in closed form and by captum."""

import captum.attr
import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel, targets
from explainable_model.errors import InputError
from explainable_model.evaluation import convergence_gap
from tests.support.nets import SmallNet, images, seeded


class Cubes(nn.Module):
    """The sum of the pixels' cubes, and of their squares."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.stack([(image**3).flatten(1).sum(1), (image**2).flatten(1).sum(1)], 1)


@pytest.mark.parametrize("steps", [1, 4])
def test_by_hand(steps: int) -> None:
    # The middles of n steps integrate 3 t^2 to 1 - 1 / (4 n^2), and 2 t exactly.
    image = images(2, (3, 4, 4)).double()
    explainable = ExplainableModel(Cubes().eval(), None, "integrated_gradients", options={"steps": steps})
    gap = convergence_gap(explainable, image, 0)
    assert (gap + (image**3).flatten(1).sum(1) / (4 * steps**2)).abs().max() < 1e-12
    assert convergence_gap(explainable, image, [1, 1]).abs().max() < 1e-12


def test_it_is_captum_s_delta() -> None:
    network, image = seeded(SmallNet()).double(), images(3, (3, 16, 16)).double()
    baseline = 0.2 * torch.ones(1, 3, 16, 16).double()
    options = {"steps": 5, "baseline": baseline}
    explainable = ExplainableModel(network, None, "integrated_gradients", options=options)
    classes = explainable(image).class_idx
    peer = captum.attr.IntegratedGradients(network)
    _, delta = peer.attribute(
        image, baseline, classes, n_steps=5, method="riemann_middle", return_convergence_delta=True
    )
    gap = convergence_gap(explainable, image)
    assert gap.abs().max() > 1e-4
    assert (gap - delta).abs().max() < 1e-6 * gap.abs().max(), "captum's points are in float32"
    many = ExplainableModel(network, None, "integrated_gradients", options={**options, "steps": 500})
    assert convergence_gap(many, image).abs().max() < gap.abs().max() / 10


def test_what_has_no_gap() -> None:
    image = images(1, (3, 16, 16))
    with pytest.raises(
        InputError, match="is of method='integrated_gradients' and the score of a class; got 'saliency'"
    ):
        convergence_gap(ExplainableModel(seeded(SmallNet()), None, "saliency"), image)
    other = ExplainableModel(seeded(SmallNet()), None, "integrated_gradients", target=targets.Difference(other=1))
    with pytest.raises(InputError, match="the target Difference"):
        convergence_gap(other, image)
    several = ExplainableModel(seeded(SmallNet()), None, "integrated_gradients", top_k=2)
    with pytest.raises(InputError, match="one class for each image; got top_k=2"):
        convergence_gap(several, image)


@pytest.mark.parametrize("shape", ["dense", "none"])
def test_outputs_of_other_shapes(shape: str) -> None:
    class Cubed(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image**3 if shape == "dense" else (image**3)[:, 0].flatten(1).sum(1)

    image = images(2, (3, 4, 4)).double()
    explainable = ExplainableModel(Cubed().eval(), None, "integrated_gradients", options={"steps": 4})
    gap = convergence_gap(explainable, image, 0)
    assert (gap + (image[:, 0] ** 3).flatten(1).sum(1) / 64).abs().max() < 1e-12
