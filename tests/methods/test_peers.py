"""Agreement with pytorch-grad-cam and torchcam, where the libraries agree with the papers.

What differs, and why, is in ``explainable_model/methods/README.md``.
"""

from collections.abc import Callable

import numpy as np
import pytest
import pytorch_grad_cam
import torch
import torchcam.methods
from pytorch_grad_cam.utils import svd_on_activations
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget, ClassifierOutputTarget
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from explainable_model import ExplainableModel
from explainable_model.attribution.postprocess import minmax
from explainable_model.methods.eigen import eigencam, eigengradcam, kpcacam
from explainable_model.methods.elementwise import elementwise, hirescam, layercam
from explainable_model.methods.finercam import finercam_weights
from explainable_model.methods.fusion import fuse_layercam, refinecam
from explainable_model.methods.gradcam import gradcam
from explainable_model.methods.input_gradient import fullgrad
from explainable_model.methods.iscam import iscam
from explainable_model.methods.masking import ablationcam, scorecam, upsampled_masks
from explainable_model.methods.shapleycam import shapleycam
from explainable_model.methods.sscam import sscam
from explainable_model.methods.xgradcam import xgradcam
from tests.methods.test_activations import up_to_sign
from tests.support import method_checks as checks
from tests.support.nets import images, seeded

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


def centered(tensor: Tensor) -> Tensor:
    return tensor - tensor.mean((2, 3), keepdim=True)


def test_eigencam_of_centered_activations(attribution: tuple[Tensor, Tensor]) -> None:
    # The library centers the channels, the paper does not.
    activations, gradients = attribution
    expected = svd_on_activations.get_2d_projection(activations.numpy())
    assert up_to_sign(eigencam(centered(activations)), torch.from_numpy(expected)) < 1e-4
    products = activations * gradients
    expected = svd_on_activations.get_2d_projection(products.numpy())
    given = eigengradcam(centered(products), torch.ones_like(products))
    assert up_to_sign(given, torch.from_numpy(expected)) < 1e-4


def test_kpcacam_up_to_sign(attribution: tuple[Tensor, Tensor]) -> None:
    activations, _ = attribution
    expected = svd_on_activations.get_2d_projection_kernel(activations.numpy())
    assert np.abs(expected).max() > 0.1
    assert up_to_sign(kpcacam(activations), torch.from_numpy(expected)) < 1e-4


def class_scores(logits: Tensor) -> Tensor:
    """The score of the class to explain: logits ``(2, ..., 5)`` -> ``(2, ...)``."""
    return torch.stack([image_logits[..., class_idx] for image_logits, class_idx in zip(logits, CLASSES, strict=True)])


def finished(cam: Tensor) -> Tensor:
    return minmax(cam.detach().relu())


def test_fusion() -> None:
    maps = [finished(cam) for cam in checks.inputs([(5, 6)] * 3, batch=2, dtype=torch.float32)]
    expected = torchcam.methods.LayerCAM.fuse_cams([cam.clone() for cam in maps])
    assert (fuse_layercam(maps) - expected).abs().max() < TOLERANCE
    expected = torchcam.methods.RefineCAM.fuse_cams([cam.clone() for cam in maps], normalized=False)
    assert (refinecam(maps) - expected).abs().max() < TOLERANCE


def test_finercam(network: nn.Module) -> None:
    with torchcam.methods.FinerCAM(network, "features") as explainer:
        (expected,) = explainer(CLASSES, network(image()))
    activations = network.features(image())
    logits = network.head(activations)
    weights = finercam_weights(logits.detach(), torch.tensor(CLASSES))
    (gradients,) = torch.autograd.grad((weights * logits).sum(), activations)
    assert expected.max() > 0.99
    assert (finished(gradcam(activations, gradients)) - expected).abs().max() < TOLERANCE


def test_scorecam(network: nn.Module, attribution: tuple[Tensor, Tensor]) -> None:
    # Maps of image size: how the masks are resized is where the libraries differ.
    activations, _ = attribution
    with torch.no_grad():
        masked = image().unsqueeze(1) * upsampled_masks(activations, (8, 8)).unsqueeze(2)
        scores = class_scores(network(masked.flatten(0, 1)).reshape(2, 8, 5))
    cam = finished(scorecam(activations, scores))
    with pytorch_grad_cam.ScoreCAM(model=network, target_layers=[network.features]) as explainer:
        expected = explainer(input_tensor=image(), targets=[ClassifierOutputTarget(c) for c in CLASSES])
    assert (cam - torch.from_numpy(expected)).abs().max() < TOLERANCE
    with torchcam.methods.ScoreCAM(network, "features") as explainer:
        with torch.no_grad():
            network(image())
        (expected,) = explainer(CLASSES)
    assert (cam - expected).abs().max() < TOLERANCE


def masked_scores(
    network: nn.Module, activations: Tensor, change: Callable[[Tensor, int], Tensor], samples: int
) -> Tensor:
    """``(2, samples, 8)``: scores of both images under the changed masks of their channels."""
    masks = upsampled_masks(activations, (8, 8))
    with torch.no_grad():
        rows = [network((image().unsqueeze(1) * change(masks, n).unsqueeze(2)).flatten(0, 1)) for n in range(samples)]
    return torch.stack([class_scores(row.reshape(2, 8, 5)) for row in rows], 1)


def test_iscam_of_the_library_s_factors(network: nn.Module, attribution: tuple[Tensor, Tensor]) -> None:
    # The library adds up j / N from 1 to i, the paper from 0 to i - 1.
    activations, _ = attribution
    scores = masked_scores(network, activations, lambda masks, n: (n + 1) * (n + 2) / 8 * masks, 4)
    with torchcam.methods.ISCAM(network, "features", num_samples=4) as explainer:
        with torch.no_grad():
            network(image())
        (expected,) = explainer(CLASSES)
    assert expected.max() > 0.99
    assert (finished(iscam(activations, scores, samples=4)) - expected).abs().max() < TOLERANCE


def test_sscam_of_the_library_s_noise(network: nn.Module, attribution: tuple[Tensor, Tensor]) -> None:
    # The library draws noise for every channel from PyTorch's generator.
    activations, _ = attribution
    torch.manual_seed(5)
    noise = [torch.distributions.Normal(0, 0.5).sample(activations.shape) for _ in range(3)]
    scores = masked_scores(network, activations, lambda masks, n: masks + noise[n], 3)
    torch.manual_seed(5)
    with torchcam.methods.SSCAM(network, "features", num_samples=3, std=0.5) as explainer:
        with torch.no_grad():
            network(image())
        (expected,) = explainer(CLASSES)
    assert expected.max() > 0.99
    assert (finished(sscam(activations, scores)) - expected).abs().max() < TOLERANCE


def test_ablationcam_up_to_the_sign_of_the_score(network: nn.Module, attribution: tuple[Tensor, Tensor]) -> None:
    activations, _ = attribution
    with torch.no_grad():
        score = class_scores(network.head(activations))
        keep = 1 - torch.eye(8)[:, :, None, None]
        without = network.head((activations.unsqueeze(1) * keep).flatten(0, 1))
        ablated = class_scores(without.reshape(2, 8, 5))
    assert (score < 0).any()
    assert (score > 0).any()
    cam = ablationcam(activations, score, ablated) * score.sign()[:, None, None]
    with pytorch_grad_cam.AblationCAM(model=network, target_layers=[network.features]) as explainer:
        expected = explainer(input_tensor=image(), targets=[ClassifierOutputTarget(c) for c in CLASSES])
    assert expected.max() > 0.99
    assert (finished(cam) - torch.from_numpy(expected)).abs().max() < TOLERANCE


def test_shapleycam_of_probabilities(network: nn.Module, attribution: tuple[Tensor, Tensor]) -> None:
    activations = attribution[0].clone().requires_grad_()
    score = class_scores(network.head(activations).softmax(1))
    (gradients,) = torch.autograd.grad(score.sum(), activations, create_graph=True)
    (products,) = torch.autograd.grad((gradients * attribution[0]).sum(), activations)
    with pytorch_grad_cam.ShapleyCAM(model=network, target_layers=[network.features]) as explainer:
        expected = explainer(input_tensor=image(), targets=[ClassifierOutputSoftmaxTarget(c) for c in CLASSES])
    assert expected.max() > 0.99
    assert (finished(shapleycam(activations, gradients, products)) - torch.from_numpy(expected)).abs().max() < TOLERANCE


def test_fullgrad(network: nn.Module) -> None:
    convolutions = [network.features[0], network.features[2], network.head[0]]
    outputs = [image().requires_grad_()]
    for convolution in convolutions:
        outputs.append(convolution(outputs[-1] if len(outputs) == 1 else outputs[-1].relu()))
    score = class_scores(network.head[3](outputs[-1].relu().flatten(1)))
    gradients = torch.autograd.grad(score.sum(), outputs)
    biases = [g * c.bias.detach()[:, None, None] for g, c in zip(gradients[1:], convolutions, strict=True)]
    with pytorch_grad_cam.FullGrad(model=network, target_layers=[]) as explainer:
        expected = explainer(input_tensor=image(), targets=[ClassifierOutputTarget(c) for c in CLASSES])
    # The library adds 1e-7 to every range, and those of the bias gradients are small.
    assert (finished(fullgrad(image(), gradients[0], biases)) - torch.from_numpy(expected)).abs().max() < 1e-3


@pytest.mark.parametrize("first", [0, -1])
def test_legrad(first: int) -> None:
    transformer = seeded(
        VisionTransformer(
            image_size=16, patch_size=4, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=5
        )
    )
    picture = images(2, (3, 16, 16))
    with torchcam.methods.LeGrad(transformer, list(transformer.encoder.layers)[first:]) as explainer:
        transformer(picture)
        (expected,) = explainer(CLASSES)
    assert expected.max() > 0.99
    explainable = ExplainableModel(transformer, method="legrad", upsample=False, options={"first": first})
    assert (explainable(picture, torch.tensor(CLASSES)).cam - expected).abs().max() < TOLERANCE
