"""Agreement with pytorch-grad-cam and torchcam, where the libraries agree with the papers.

What differs, and why, is in ``explainable_model/methods/README.md``.
"""

import numpy as np
import pytest
import pytorch_grad_cam
import torch
import torchcam.methods
from pytorch_grad_cam.utils import svd_on_activations
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from explainable_model.methods.eigen import eigencam, eigengradcam, kpcacam
from explainable_model.methods.elementwise import elementwise, hirescam, layercam
from explainable_model.methods.gradcam import gradcam
from explainable_model.methods.xgradcam import xgradcam
from explainable_model.postprocess import minmax
from tests import method_checks as checks
from tests.nets import images, seeded
from tests.test_methods_activations import up_to_sign

CLASSES = [3, 1]
TOLERANCE = 1e-5


class PlainNet(nn.Module):
    """Out-of-place ReLUs, no stride (so that maps are not resized), a head that is not pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU()
        )
        self.head = nn.Sequential(nn.Conv2d(8, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 5))

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.features(image))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return seeded(PlainNet())


@pytest.fixture(scope="module")
def attribution(network: nn.Module) -> tuple[Tensor, Tensor]:
    """Activations and gradients of two images."""
    activations = network.features(image())
    scores = network.head(activations)[torch.arange(2), CLASSES]
    (gradients,) = torch.autograd.grad(scores.sum(), activations)
    return activations.detach(), gradients


def image() -> Tensor:
    return images(2, (3, 8, 8))


@pytest.mark.parametrize(
    ("method", "peer"),
    [
        (gradcam, pytorch_grad_cam.GradCAM),
        (hirescam, pytorch_grad_cam.HiResCAM),
        (layercam, pytorch_grad_cam.LayerCAM),
        (xgradcam, pytorch_grad_cam.XGradCAM),
        (elementwise, pytorch_grad_cam.GradCAMElementWise),
    ],
    ids=lambda value: value.__name__,
)
def test_pytorch_grad_cam(
    method: checks.Method, peer: type, network: nn.Module, attribution: tuple[Tensor, Tensor]
) -> None:
    with peer(model=network, target_layers=[network.features]) as explainer:
        expected = explainer(input_tensor=image(), targets=[ClassifierOutputTarget(c) for c in CLASSES])
    assert expected.max() > 0.99
    assert (minmax(method(*attribution).relu()) - torch.from_numpy(expected)).abs().max() < TOLERANCE


@pytest.mark.parametrize(
    ("method", "peer"),
    [
        (gradcam, torchcam.methods.GradCAM),
        (layercam, torchcam.methods.LayerCAM),
        (xgradcam, torchcam.methods.XGradCAM),
    ],
    ids=lambda value: value.__name__,
)
def test_torchcam(method: checks.Method, peer: type, network: nn.Module, attribution: tuple[Tensor, Tensor]) -> None:
    with peer(network, "features") as explainer:
        (expected,) = explainer(CLASSES, network(image()))
    assert expected.max() > 0.99
    assert (minmax(method(*attribution).relu()) - expected).abs().max() < TOLERANCE


def centred(tensor: Tensor) -> Tensor:
    return tensor - tensor.mean((2, 3), keepdim=True)


def test_eigencam_of_centred_activations(attribution: tuple[Tensor, Tensor]) -> None:
    # The library centres the channels, the paper does not.
    activations, gradients = attribution
    expected = svd_on_activations.get_2d_projection(activations.numpy())
    assert up_to_sign(eigencam(centred(activations)), torch.from_numpy(expected)) < 1e-4
    products = activations * gradients
    expected = svd_on_activations.get_2d_projection(products.numpy())
    given = eigengradcam(centred(products), torch.ones_like(products))
    assert up_to_sign(given, torch.from_numpy(expected)) < 1e-4


def test_kpcacam_up_to_sign(attribution: tuple[Tensor, Tensor]) -> None:
    activations, _ = attribution
    expected = svd_on_activations.get_2d_projection_kernel(activations.numpy())
    assert np.abs(expected).max() > 0.1
    assert up_to_sign(kpcacam(activations), torch.from_numpy(expected)) < 1e-4
