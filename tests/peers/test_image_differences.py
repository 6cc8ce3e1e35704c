"""Where the methods that explain at the image differ from a peer's."""

import copy
import inspect
from collections.abc import Callable
from functools import partial

import captum.attr
import pytest
import pytorch_grad_cam
import timm.layers
import torch
from torch import Tensor, nn
from torch.nn import functional

from explainable_model.attribution.postprocess import minmax
from explainable_model.methods import input_gradient
from tests.peers import nets
from tests.peers.adapters import (
    CLASSES,
    Explain,
    captum_image,
    captum_layer,
    captum_smoothgrad,
    grad_cam,
    grad_cam_guided,
    largest_difference,
    largest_magnitude,
    leaf,
    noise_of_image,
    ours,
    rectified_sum,
)
from tests.peers.pairs import CAPTUM, GRAD_CAM
from tests.support.nets import images, seeded

# Captum announces that it hooks every ReLU, and that it takes the hooks away again: it did nothing wrong.
pytestmark = pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations:UserWarning")
VISIBLE = 0.05


def image_gradient(network: nn.Module, image: Tensor) -> Tensor:
    changed = leaf(image)
    score = network(changed)[torch.arange(2), CLASSES].sum()
    return torch.autograd.grad(score, changed)[0]


def test_smoothgrad_averages_signed_gradients() -> None:
    # The paper averages gradients, so that noise cancels; captum's saliency takes their magnitudes first by default.
    network, layer, image = nets.plain()
    gradients = [image_gradient(network, image + draw) for draw in noise_of_image(image, 3)]
    cam = ours(network, None, "smoothgrad", image, options={"samples": 3})
    peer = captum_smoothgrad(network, layer, image)
    mean = torch.stack(gradients).mean(0)
    assert largest_difference(cam, minmax(largest_magnitude(mean))) < 1e-5
    assert largest_difference(peer, minmax(largest_magnitude(torch.stack(gradients).abs().mean(0)))) < 1e-5
    assert largest_difference(cam, peer) > VISIBLE


def test_integrated_gradients_of_another_quadrature() -> None:
    # Captum takes 50 points of Gauss and Legendre by default, this library the middles of 32 steps: with more steps,
    # both come to the same integral.
    default = inspect.signature(captum.attr.IntegratedGradients.attribute).parameters
    assert (default["n_steps"].default, default["method"].default) == (50, "gausslegendre")
    network, layer, image = nets.plain()

    def distance(steps: int) -> float:
        peer = captum_image("IntegratedGradients", rectified_sum, n_steps=steps)(network, layer, image)
        return largest_difference(
            ours(network, None, "integrated_gradients", image, options={"steps": steps}), peer
        )  # fmt: skip

    assert distance(512) < 0.01
    assert distance(512) < distance(16)


class FunctionalReLU(nn.Module):
    """A plain network whose ReLUs are no modules."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 6, 3)
        self.hidden, self.fc = nn.Conv2d(6, 4, 3), nn.Linear(4, 5)

    def forward(self, image: Tensor, relu: Callable[[Tensor], Tensor] = functional.relu) -> Tensor:
        activations = relu(self.hidden(relu(self.features(image))))
        logits: Tensor = self.fc(activations.mean((2, 3)))
        return logits


class GuidedReLU(torch.autograd.Function):
    """Springenberg et al. 2015: a gradient passes where the input and itself are positive."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, tensor: Tensor) -> Tensor:
        ctx.save_for_backward(tensor)
        return tensor.clamp(min=0)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        (tensor,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return grad.clamp(min=0) * (tensor > 0)


@pytest.mark.parametrize(
    "peer", [grad_cam_guided, captum_image("GuidedBackprop", largest_magnitude)], ids=[GRAD_CAM, CAPTUM]
)
def test_guided_backpropagation_through_functions(peer: Explain) -> None:
    # Both peers look for ReLU modules; where the ReLU is a function, they return the plain gradient.
    network, image = seeded(FunctionalReLU()), images(2, (3, 8, 8))
    guided = image_gradient(partial(network, relu=GuidedReLU.apply), image)  # type: ignore[arg-type]
    assert largest_difference(ours(network, None, "guided_backprop", image), minmax(largest_magnitude(guided))) < 1e-5
    plain = minmax(largest_magnitude(image_gradient(network, image)))
    assert largest_difference(peer(network, "", image), plain) < 1e-5
    assert largest_difference(minmax(largest_magnitude(guided)), plain) > VISIBLE


def test_guided_backpropagation_changes_the_network_of_the_peer() -> None:
    # pytorch-grad-cam puts one ReLU in the place of all; a hook on one of them then runs for every one.
    network, _, image = nets.plain()
    peer = copy.deepcopy(network)
    pytorch_grad_cam.GuidedBackpropReLUModel(peer)(image[:1].clone(), CLASSES[0])
    assert peer.features[1] is peer.features[3]
    ours(network, None, "guided_backprop", image)
    assert network.features[1] is not network.features[3]


def test_guided_gradcam_resizes_linearly() -> None:
    # Captum repeats the nearest value by default; the paper resizes bilinearly.
    network, layer, image = nets.strided()
    nearest = captum_layer("GuidedGradCam", largest_magnitude)(network, layer, image)
    assert largest_difference(ours(network, layer, "guided_gradcam", image), nearest) > VISIBLE


class NormAct(nn.Module):
    """Norm and activation in one module of another class than batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), timm.layers.BatchNormAct2d(6))
        self.fc = nn.Linear(6, 5)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.features(image).mean((2, 3)))
        return logits


class FunctionalConvolution(nn.Module):
    """A convolution that is no module."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(6, 3, 3, 3)), nn.Parameter(torch.ones(6))
        self.fc = nn.Linear(6, 5)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.fc(functional.conv2d(image, self.weight, self.bias).relu().mean((2, 3)))
        return logits


class Groups(nn.Module):
    """A norm that the peer does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.GroupNorm(2, 6), nn.ReLU())
        self.fc = nn.Linear(6, 5)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.features(image).mean((2, 3)))
        return logits


@pytest.mark.parametrize("build", [NormAct, FunctionalConvolution, Groups])
def test_fullgrad_misses_no_bias(build: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    # The full gradient adds up to the score (the paper's proposition 1). The peer looks for Conv2d and BatchNorm2d: in
    # these networks it finds no bias, so its map is that of the image times its gradient alone.
    network, image = seeded(build()), images(2, (3, 8, 8))
    shares: list[Tensor] = []
    make_map = input_gradient.fullgrad

    def keep(pictures: Tensor, gradients: Tensor, biases: list[Tensor]) -> Tensor:
        shares.append((pictures * gradients).flatten(1).sum(1) + sum(bias.flatten(1).sum(1) for bias in biases))
        return make_map(pictures, gradients, biases)

    monkeypatch.setattr(input_gradient, "fullgrad", keep)
    cam = ours(network, None, "fullgrad", image)
    score = network(image)[torch.arange(2), CLASSES].detach()
    assert torch.allclose(shares[0], score, atol=1e-4)
    peer = grad_cam("FullGrad")(network, "", image)
    alone = make_map(image, image_gradient(network, image), [])
    assert largest_difference(peer, minmax(alone)) < 1e-3
    assert largest_difference(cam, peer) > VISIBLE
