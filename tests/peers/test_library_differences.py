"""Where the libraries differ whatever the method: in-place operations, tiny maps, sizes, probabilities."""

import pytest
import torch
import torchcam.methods
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torch.nn import functional

from explainable_model.attribution.postprocess import minmax
from explainable_model.methods.fusion import FUSIONS
from tests.peers import nets
from tests.peers.adapters import (
    CLASSES,
    captum_layer,
    grad_cam,
    largest_difference,
    of_layers,
    ours,
    torch_cam,
)
from tests.peers.pairs import CAPTUM, GRAD_CAM, TORCHCAM
from tests.support.nets import TinyResNet, images, seeded

GRADCAM = {GRAD_CAM: grad_cam("GradCAM"), TORCHCAM: torch_cam("GradCAM"), CAPTUM: captum_layer("LayerGradCam")}


def in_place(inplace: bool) -> nn.Module:
    """A convolution and batch norm whose output a ReLU overwrites, or does not."""
    return seeded(nets.StridedNet(inplace))


@pytest.mark.parametrize("peer", [GRAD_CAM, TORCHCAM])
def test_in_place_operations_after_the_layer(peer: str) -> None:
    # Two peers keep a reference to the output of the layer, and read what the in-place ReLU writes there.
    _, layer, image = nets.strided()
    outside, inside = (GRADCAM[peer](in_place(inplace), layer, image) for inplace in (False, True))
    assert largest_difference(outside, inside) > 0.1
    cam = ours(in_place(True), layer, "gradcam", image)
    assert largest_difference(cam, ours(in_place(False), layer, "gradcam", image)) < 1e-6
    # Without the operation the libraries agree, as ``test_agreement.py`` shows.


def test_captum_keeps_a_copy() -> None:
    _, layer, image = nets.strided()
    cam = ours(in_place(True), layer, "gradcam", image)
    assert largest_difference(GRADCAM[CAPTUM](in_place(True), layer, image), cam) < 1e-6


def test_in_place_sums() -> None:
    # ``out += shortcut`` after the layer, as in every ResNet of torchvision.
    network, image = seeded(TinyResNet()), images(2)
    cam = ours(network, "layer2.bn2", "gradcam", image, signed=True, normalize=False)
    own = captum_layer("LayerGradCam", lambda shares: shares.sum(1))(network, "layer2.bn2", image)
    assert largest_difference(minmax(cam), own) < 1e-6
    peer = torch_cam("GradCAM")(network, "layer2.bn2", image)
    assert (peer - minmax(cam.relu())).abs().max() > 0.1


def test_tiny_maps_are_scaled_like_others() -> None:
    # torchcam adds 1e-8 to the range of a map, which dims it; pytorch-grad-cam adds 1e-7, and scales once more.
    network, layer, image = nets.plain()
    cam = ours(network, layer, "gradcam", image)
    with torch.no_grad():
        network.head[3].weight *= 1e-7
    assert largest_difference(ours(network, layer, "gradcam", image), cam) < 1e-4
    assert GRADCAM[TORCHCAM](network, layer, image).max() < 0.5
    assert largest_difference(GRADCAM[GRAD_CAM](network, layer, image), cam) < 1e-3
    with torch.no_grad():
        network.head[3].weight *= 1e-8
    assert largest_difference(ours(network, layer, "gradcam", image), cam) < 1e-4
    assert GRADCAM[GRAD_CAM](network, layer, image).max() < 0.5


@pytest.mark.parametrize("peer", [GRAD_CAM, TORCHCAM])
def test_a_constant_map_is_zero(peer: str) -> None:
    network, layer, image = nets.plain()
    with torch.no_grad():
        network.head[3].weight.zero_()
    with pytest.warns(UserWarning, match="zero"):
        assert not ours(network, layer, "gradcam", image).any()
    assert not GRADCAM[peer](network, layer, image).any()


def test_the_peer_scales_again_after_resizing() -> None:
    # This library scales a map once, at the resolution of the layer, so that resizing moves no value; the largest value
    # of a resized map may then lie below one. pytorch-grad-cam scales again.
    network, layer, image = nets.strided()
    cam = ours(network, layer, "gradcam", image, upsample=True)
    peer = grad_cam("GradCAM")(network, layer, image)
    assert cam.amax((1, 2)).max() < 0.99
    assert largest_difference(cam, peer) > 0.01
    assert largest_difference(minmax(cam), peer) < 1e-5


def test_maps_are_resized_with_half_pixel_centers() -> None:
    network, layer, image = nets.strided()
    small = torch_cam("GradCAM")(network, layer, image)
    large = torchcam.methods.GradCAM.fuse_cams([small, small], (16, 16))  # the larger of two equal maps
    cam = ours(network, layer, "gradcam", image, upsample=True)
    assert largest_difference(cam, large) < 1e-5
    assert largest_difference(minmax(cam), GRADCAM[GRAD_CAM](network, layer, image)) < 1e-5


@pytest.mark.parametrize("fusion", ["mean", "product"])
def test_layers_of_different_size(fusion: str) -> None:
    # The peers scale the map of a layer before they resize it to the common size, this library after: each layer's map
    # reaches one there.
    network, _, image = nets.strided()
    layers = ["stem", "features"]
    fine, coarse = (ours(network, layer, "gradcam", image) for layer in layers)
    coarse = functional.interpolate(coarse.unsqueeze(1), fine.shape[1:], mode="bilinear")[:, 0]
    fuse = FUSIONS[fusion].fuse
    cam = ours(network, layers, "gradcam", image, fusion=fusion)
    assert largest_difference(cam, minmax(fuse([fine, minmax(coarse)]))) < 1e-5
    if fusion == "product":
        peer = torch_cam("RefineCAM", base_method=torchcam.methods.GradCAM)(network, layers, image)
        assert largest_difference(peer, minmax(fine * coarse)) < 1e-5
    else:
        peer = of_layers("GradCAM", network, layers, image, [ClassifierOutputTarget(c) for c in CLASSES])
        cam = minmax(ours(network, layers, "gradcam", image, fusion=fusion, upsample=True))
    assert 1e-3 < largest_difference(cam, peer) < 0.1


class Saturated(nn.Module):
    """A softmax whose largest probability, that of ``CLASSES``, rounds to one."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("lead", 1e3 * functional.one_hot(torch.tensor(CLASSES), 5))

    def forward(self, image: Tensor) -> Tensor:
        return torch.softmax(self.network(image) + self.lead, 1)


@pytest.mark.parametrize("peer", list(GRADCAM))
def test_the_gradient_of_a_saturated_probability(peer: str) -> None:
    # Under a final softmax this library differentiates the logit; the peers' gradient of the probability is zero.
    network, layer, image = nets.plain()
    saturated = Saturated(network).eval()
    assert torch.equal(saturated(image).amax(1), torch.ones(2))
    cam = ours(saturated, f"network.{layer}", "gradcam", image)
    assert largest_difference(cam, ours(network, layer, "gradcam", image)) < 1e-5
    assert not GRADCAM[peer](saturated, f"network.{layer}", image).any()
