"""Where the methods of one layer differ from a peer's. Each test holds both libraries to the equation it follows."""

import copy
import warnings
from typing import Any

import numpy as np
import pytest
import pytorch_grad_cam
import torch
from pytorch_grad_cam import DeepFeatureFactorization
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn

from explainable_model.attribution import noise
from explainable_model.attribution.postprocess import minmax
from tests.peers import nets, reference
from tests.peers.adapters import (
    CLASSES,
    Explain,
    finished,
    grad_cam,
    largest_difference,
    leaf,
    noise_of_image,
    ours,
    torch_cam,
)
from tests.peers.differing import differs
from tests.peers.pairs import GRAD_CAM, TORCHCAM
from tests.peers.reference import layer_values, nearest_sign, projection, weighted

VISIBLE = 0.05


@differs("gradcam++", GRAD_CAM, right="ours")
def test_gradcam_plus_plus_of_small_gradients() -> None:
    # The peer adds 1e-6 to a denominator of squared gradients: where gradients are below 1e-3, it decides the map.
    network, layer, image = nets.plain()
    with torch.no_grad():
        network.head[3].weight *= 1e-3
    expected = reference.gradcam_plus_plus(*layer_values(network, layer, image))
    peer = grad_cam("GradCAMPlusPlus")(network, layer, image)
    assert largest_difference(ours(network, layer, "gradcam++", image), expected) < 1e-4
    assert largest_difference(peer, expected) > VISIBLE
    assert largest_difference(peer, reference.gradcam_plus_plus(*layer_values(network, layer, image), 1e-6)) < 1e-4


@differs("gradcam++", TORCHCAM, right="ours")
def test_gradcam_plus_plus_without_its_coefficients() -> None:
    # The peer divides a temporary copy, so its weights are sum_ij g^2 relu(g).
    network, layer, image = nets.plain()
    activations, gradients = layer_values(network, layer, image)
    peer = torch_cam("GradCAMpp")(network, layer, image)
    expected = reference.gradcam_plus_plus(activations, gradients)
    assert largest_difference(ours(network, layer, "gradcam++", image), expected) < 1e-4
    assert largest_difference(peer, expected) > VISIBLE
    cubes = (gradients**2 * gradients.relu()).flatten(2).sum(2)
    assert largest_difference(peer, weighted(cubes, activations)) < 1e-3  # of maps of 1e-5, to which it adds 1e-8


@differs("smoothgradcam++", TORCHCAM, right="ours")
def test_smooth_gradcam_plus_plus_reads_all_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    # The peer rectifies the gradient of the last noisy copy, so that the order of the copies decides the map.
    network, layer, image = nets.plain()
    draws = noise_of_image(image, 4)
    maps = [torch_cam("SmoothGradCAMpp", noise=lambda _, d=d: d)(network, layer, image) for d in (draws, draws.flip(0))]
    assert largest_difference(*maps) > VISIBLE
    cam = ours(network, layer, "smoothgradcam++", image, options={"samples": 4})
    drawn = noise.gaussian_noise
    monkeypatch.setattr(noise, "gaussian_noise", lambda *given: drawn(*given).flip(0))
    assert largest_difference(ours(network, layer, "smoothgradcam++", image, options={"samples": 4}), cam) < 1e-5


class Centered(nn.Module):
    """The features less the mean of each channel."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.centered = network, nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        activations = self.network.features(image)
        logits: Tensor = self.network.head(self.centered(activations - activations.mean((2, 3), keepdim=True)))
        return logits


@differs("eigencam", GRAD_CAM, right="ours")
def test_eigencam_does_not_center() -> None:
    network, layer, image = nets.plain()
    activations, _ = layer_values(network, layer, image)
    cam, peer = ours(network, layer, "eigencam", image), grad_cam("EigenCAM")(network, layer, image)
    assert nearest_sign(cam, projection(activations, centered=False)) < 1e-4
    assert nearest_sign(peer, projection(activations, centered=True)) < 1e-4
    assert nearest_sign(cam, peer) > VISIBLE
    # Centered activations have one projection, whose sign the peer leaves to the decomposition.
    centered = Centered(network).eval()
    raw = ours(centered, "centered", "eigencam", image, signed=True, normalize=False)
    assert nearest_sign(grad_cam("EigenCAM")(centered, "centered", image), raw) < 1e-4


@differs("eigengradcam", GRAD_CAM, right="both")
def test_eigengradcam_does_not_center() -> None:
    network, layer, image = nets.plain()
    activations, gradients = layer_values(network, layer, image)
    products = activations * gradients
    cam, peer = ours(network, layer, "eigengradcam", image), grad_cam("EigenGradCAM")(network, layer, image)
    assert nearest_sign(cam, projection(products, centered=False)) < 1e-4
    assert nearest_sign(peer, projection(products, centered=True)) < 1e-4
    assert nearest_sign(cam, peer) > VISIBLE


@differs("fem", GRAD_CAM, right="ours")
def test_fem_adds_up_marks() -> None:
    # The paper adds up marks, weighted by the mean of the channel; the peer activations, weighted by their marks.
    network, layer, image = nets.plain()
    activations, _ = layer_values(network, layer, image)
    marks, means = reference.fem(activations)
    peer = grad_cam("FEM")(network, layer, image)
    expected = weighted(means, marks)
    assert largest_difference(ours(network, layer, "fem", image), expected) < 1e-5
    assert largest_difference(peer, expected) > VISIBLE
    assert largest_difference(peer, weighted(marks.flatten(2).mean(2), activations)) < 1e-5


def parts(seed: int) -> Tensor:
    """``(1, 24, 6, 6)``: four features at four places, a little of each everywhere, and zero at one position."""
    torch.manual_seed(seed)
    places = torch.eye(4).repeat_interleave(9, 1)[:, torch.randperm(36)] + 0.02 * torch.rand(4, 36)
    activations = (torch.rand(24, 4) @ places).reshape(1, 24, 6, 6)
    activations[:, :, 0, 0] = 0
    return activations


def peer_concepts(image: Tensor) -> list[Tensor]:
    """The maps of pytorch-grad-cam: for each image, one for each of four concepts, in no order."""
    network = nets.Linear(torch.ones(24, 6, 6)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        _, maps = DeepFeatureFactorization(network, network.features)(image.clone(), n_components=4)
    return [torch.from_numpy(each) for each in maps]


def worst_match(cams: Tensor, others: Tensor) -> float:
    """The correlation of the map that has the least in common with its nearest."""
    every = torch.corrcoef(torch.cat([cams, others]).flatten(1).double())
    return float(every[: len(cams), len(cams) :].amax(1).min())


@differs("dff", GRAD_CAM, right="both")
def test_dff_factorizes_each_image_by_itself() -> None:
    # The paper factorizes a set of images. So does the peer; here the map of an image does not depend on the others.
    network = nets.Linear(torch.ones(24, 6, 6)).eval()
    image = torch.cat([parts(0), parts(1)])
    maps = [ours(network, "features", "dff", image, options={"concept": concept}) for concept in range(4)]
    alone = [torch.stack([cam[n] for cam in maps]) for n in range(2)]
    for n in range(2):
        (peer,) = peer_concepts(image[n : n + 1])
        assert worst_match(alone[n], peer) > 0.95
    together = peer_concepts(image)
    assert min(worst_match(alone[n], together[n]) for n in range(2)) < 0.8
    # The peer moves each channel to a smallest value of zero; the paper's activations are rectified.
    (moved,) = peer_concepts(image[:1] - 5)
    assert worst_match(alone[0], moved) > 0.95
    assert not ours(network, "features", "dff", image[:1] - 5).any()


class References:
    """The score that pytorch-grad-cam differentiates for Finer-CAM: references weighted by their probability."""

    def __init__(self, order: Tensor, strength: float) -> None:
        self.order, self.strength = order, strength

    def __call__(self, output: Tensor, class_idx: Tensor) -> Tensor:
        own = output.gather(1, class_idx.unsqueeze(1))
        others = self.order[: len(output)]
        shares = output.softmax(1).gather(1, others)
        return (shares * (own - self.strength * output.gather(1, others))).sum(1) / shares.sum(1)


def nearest_classes(network: nn.Module, image: Tensor) -> Tensor:
    """Classes from the one to explain to the most unlike, ``(N, classes)``."""
    logits = network(image).detach()
    return (logits - logits.gather(1, torch.tensor(CLASSES).unsqueeze(1))).abs().argsort(1)


def peer_finercam(network: nn.Module, layer: str, image: Tensor, **call: Any) -> Tensor:
    """One call for each image: the peer's class is the same for the whole batch."""
    maps = []
    peer = copy.deepcopy(network)
    with pytorch_grad_cam.FinerCAM(peer, [peer.get_submodule(layer)]) as explainer:
        for n, class_idx in enumerate(CLASSES):
            maps.append(explainer(input_tensor=image[n : n + 1], target_idx=class_idx, **call))
    return torch.from_numpy(np.concatenate(maps))


@differs("finercam", GRAD_CAM, right="both")
def test_finercam_weights_its_references() -> None:
    # The paper prints the mean of the references; the peer, after the authors' code, weights them by their probability.
    network, layer, image = nets.plain()
    peer = peer_finercam(network, layer, image)
    order = nearest_classes(network, image)
    score = References(order[:, 1:4], strength=1.0)
    assert largest_difference(ours(network, layer, "gradcam", image, target=score), peer) < 1e-5
    cam = ours(network, layer, "finercam", image, options={"gamma": 1.0})
    assert largest_difference(cam, peer) > 1e-3
    # With one reference there is nothing to weight.
    peer = peer_finercam(network, layer, image, alpha=0.6, comparison_categories=[1])
    cam = ours(network, layer, "finercam", image, options={"gamma": 0.6, "references": 1})
    assert largest_difference(cam, peer) < 1e-5


@pytest.mark.parametrize("peer", [grad_cam("XGradCAM"), torch_cam("XGradCAM")], ids=[GRAD_CAM, TORCHCAM])
def test_xgradcam_where_activations_cancel(peer: Explain) -> None:
    # The paper's activations are rectified. Where a channel cancels, the peers divide by 1e-7 or 1e-8, and this channel
    # hides every other one.
    activations = torch.tensor([[[[1.0, -1.0]], [[1.0, 3.0]]]])
    network = nets.Linear(torch.tensor([[[[1.5, 0.5]], [[1.0, 1.0]]]])).eval()
    expected = torch.tensor([[[1.0, 0.0]]])
    assert largest_difference(peer(network, "features", leaf(activations)), expected) < 1e-5
    raw = ours(network, "features", "xgradcam", activations, normalize=False, signed=True)
    # w_1 = 1 / (0.001 * 2), w_2 = 1.
    assert torch.allclose(raw, torch.tensor([[[500.0 + 1, -500.0 + 3]]]))


def test_cam_is_not_rectified_by_the_peer() -> None:
    # The paper's map is signed; the peer scales its whole range to [0, 1], this library rectifies it by default.
    network, layer, image = nets.pooled()
    signed = ours(network, layer, "cam", image, signed=True, normalize=False)
    peer = torch_cam("CAM")(network, layer, image)
    assert largest_difference(peer, minmax(signed)) < 1e-5
    assert largest_difference(ours(network, layer, "cam", image), finished(signed)) < 1e-5
    assert largest_difference(peer, finished(signed)) > VISIBLE
