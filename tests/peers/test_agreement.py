"""Agreement with pytorch-grad-cam, torchcam and captum: the same map from both public calls.

``explainable_model/methods/README.md`` shows the table; ``test_page.py`` compares the two.
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import pytorch_grad_cam
import torch
import torchcam.methods
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget, ClassifierOutputTarget
from torch import Tensor, nn
from torch.nn import functional

from explainable_model.attribution.postprocess import minmax
from explainable_model.methods import METHODS
from tests.peers import nets
from tests.peers.adapters import CLASSES, finished, grad_cam, largest_difference, of_layers, ours, torch_cam
from tests.peers.pairs import AGREEMENTS, GRAD_CAM, Pair, Subject

# Captum announces that it hooks every ReLU, and that it takes the hooks away again: it did nothing wrong.
pytestmark = pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations:UserWarning")

CALLS = [(pair, subject) for pair in AGREEMENTS for subject in pair.subjects]


def our_maps(pair: Pair, network: nn.Module, layer: str, image: Tensor) -> list[Tensor]:
    """The map of the public call; both signs of it where the peer's sign is arbitrary."""
    at = layer if METHODS[pair.method].needs_layer else None
    if pair.either_sign:
        raw = ours(network, at, pair.method, image, signed=True, normalize=False, **pair.arguments)
        return [finished(raw), finished(-raw)]
    cam = ours(network, at, pair.method, image, upsample=pair.peer == GRAD_CAM, **pair.arguments)
    # pytorch-grad-cam scales a map again after it has resized it.
    return [minmax(cam) if pair.peer == GRAD_CAM else cam]


@pytest.mark.parametrize(("pair", "subject"), CALLS, ids=[f"{pair}-{subject.__name__}" for pair, subject in CALLS])
def test_agreement(pair: Pair, subject: Subject) -> None:
    network, layer, image = subject()
    expected = pair.explain(network, layer, image)
    maps = our_maps(pair, network, layer, image)
    for n in range(len(image)):
        assert min(largest_difference(cam[n], expected[n]) for cam in maps) < pair.bound


@pytest.mark.parametrize(
    ("method", "kind"),
    [("gradcam", "GradCAM"), ("layercam", "LayerCAM"), ("xgradcam", "XGradCAM"), ("hirescam", "HiResCAM")],
)
def test_tokens(method: str, kind: str) -> None:
    # The peers must be told how tokens make a map.
    network, layer, image = nets.tokens()
    expected = grad_cam(kind, reshape_transform=nets.as_grid)(network, layer, image)
    assert largest_difference(minmax(ours(network, layer, method, image, upsample=True)), expected) < 1e-5
    if kind != "HiResCAM":  # which torchcam lacks
        expected = torch_cam(kind, reshape_transform=nets.as_grid)(network, layer, image)
        assert largest_difference(ours(network, layer, method, image), expected) < 1e-5


@pytest.mark.parametrize("first", [0, -1])
def test_legrad(first: int) -> None:
    network, _, image = nets.tokens()
    expected = torch_cam("LeGrad")(network, [f"encoder.layers.encoder_layer_{n}" for n in (0, 1)][first:], image)
    assert largest_difference(ours(network, None, "legrad", image, options={"first": first}), expected) < 1e-5


def test_legrad_may_resize_before_it_adds_up() -> None:
    # The authors' code resizes the map of each layer and adds them up.
    network, _, image = nets.tokens()
    blocks = []
    for n in (0, 1):
        with torchcam.methods.LeGrad(network, [f"encoder.layers.encoder_layer_{n}"]) as extractor:
            network(image)
            blocks.append(extractor(CLASSES, normalized=False)[0])
    total = sum(functional.interpolate(block.unsqueeze(1), image.shape[2:], mode="bilinear")[:, 0] for block in blocks)
    cam = minmax(ours(network, None, "legrad", image, upsample=True))
    assert largest_difference(cam, minmax(torch.as_tensor(total))) < 1e-5


FUSIONS = [
    ("mean", "gradcam", lambda *given: of_layers("GradCAM", *given, grad_cam_targets())),
    ("product", "gradcam", lambda *given: refined_by_grad_cam(*given)),
    ("product", "gradcam", lambda *given: fused_by_torchcam(torchcam.methods.RefineCAM, *given)),
    ("max", "gradcam", lambda *given: fused_by_torchcam(torchcam.methods.GradCAM, *given)),
    ("layercam", "layercam", lambda *given: fused_by_torchcam(torchcam.methods.LayerCAM, *given)),
]


def grad_cam_targets() -> list[ClassifierOutputTarget]:
    return [ClassifierOutputTarget(class_idx) for class_idx in CLASSES]


def refined_by_grad_cam(network: nn.Module, layers: list[str], image: Tensor) -> Tensor:
    peer = copy.deepcopy(network)
    modules = [peer.get_submodule(layer) for layer in layers]
    explainer = pytorch_grad_cam.RefineCAM(peer, modules, base_method=pytorch_grad_cam.GradCAM)
    return torch.from_numpy(explainer(image, grad_cam_targets()))


def fused_by_torchcam(kind: Any, network: nn.Module, layers: list[str], image: Tensor) -> Tensor:
    refine = kind is torchcam.methods.RefineCAM
    with kind(network, layers, **({"base_method": torchcam.methods.GradCAM} if refine else {})) as extractor:
        maps = extractor(CLASSES, network(image))
        return maps[0].detach() if refine else extractor.fuse_cams(maps).detach()


@pytest.mark.parametrize(("fusion", "method", "peer"), FUSIONS)
def test_several_layers(fusion: str, method: str, peer: Callable[..., Tensor]) -> None:
    # Layers of one size: the order of scaling and resizing is where the libraries differ.
    network, _, image = nets.plain()
    layers = ["features.1", "features.3"]
    # The fusion of LayerCAM ends at tanh(2).
    scaled = fusion != "layercam"
    cam = ours(network, layers, method, image, fusion=fusion, normalize=scaled)
    expected = peer(network, layers, image)
    assert largest_difference(cam, minmax(expected) if scaled else expected) < 1e-5


def test_shapleycam_of_probabilities() -> None:
    # The paper's score is a probability, whose second derivative is not zero.
    network, layer, image = nets.plain()
    targets = [ClassifierOutputSoftmaxTarget(class_idx) for class_idx in CLASSES]
    expected = grad_cam("ShapleyCAM", targets=targets)(network, layer, image)

    def probability(output: Tensor, class_idx: Tensor) -> Tensor:
        return output.softmax(1).gather(1, class_idx.unsqueeze(1)).squeeze(1)

    cam = ours(network, layer, "shapleycam", image, target=probability)
    assert largest_difference(cam, expected) < 1e-5
    assert largest_difference(cam, ours(network, layer, "gradcam", image, target=probability)) > 1e-3


def test_augmented() -> None:
    network, layer, image = nets.plain()  # maps of image size, which pytorch-grad-cam scales once
    expected = grad_cam("GradCAM", aug_smooth=True)(network, layer, image)
    assert largest_difference(ours(network, layer, "gradcam", image, augment=True, upsample=True), expected) < 1e-5


def test_a_constant_channel_is_no_mask() -> None:
    # Score-CAM: the paper leaves the mask of a constant channel open; every library makes it zero.
    network, layer, image = nets.plain()
    with torch.no_grad():
        network.features[2].weight[3], network.features[2].bias[3] = 0.0, 2.0
    cam = ours(network, layer, "scorecam", image)
    assert largest_difference(cam, grad_cam("ScoreCAM")(network, layer, image)) < 1e-5
    assert largest_difference(cam, torch_cam("ScoreCAM")(network, layer, image)) < 1e-5
