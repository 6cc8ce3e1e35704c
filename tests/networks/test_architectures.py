"""Real architectures with random weights: eager against the reference, every artifact against eager."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from explainable_model import ExplainableModel, export, load, lower
from explainable_model.artifact.tolerances import TOLERANCES
from tests.support.nets import QUICK_FORMATS, images
from tests.support.reference import finished, gradcam

# Network, last layer, middle layer
NETWORKS = [
    ("resnet18", "layer4", "layer2"),
    ("resnet50", "layer4", "layer2"),
    ("vgg11_bn", "features", "features.13"),
    ("mobilenet_v3_large", "features", "features.6"),
    ("efficientnet_b0", "features", "features.3"),
    ("tf_efficientnet_lite0", "bn2", "blocks.2"),
]


def build(name: str) -> nn.Module:
    """Random weights with statistics that keep every signal alive, so that no map is degenerate."""
    torch.manual_seed(0)
    if name.startswith("tf_"):
        import timm

        network = timm.create_model(name, pretrained=False)
    else:
        network = torchvision.models.get_model(name, weights=None)
    _calibrate(network)
    return network.eval()


def _calibrate(network: nn.Module) -> None:
    """One pass in training mode sets the batch norms' statistics to what the random weights produce."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.9
    with torch.no_grad():
        network(images(8, (3, 64, 64), seed=123))


def steady_images(network: nn.Module, layer: str, size: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ten images and classes whose map is not degenerate, and the same in float32 as in float64.

    At a layer below further ReLUs the gradient of a ReLU flips where its input is zero but for the last bit; with
    random weights that happens in about every tenth small image, in the network itself as in any artifact of it.
    """
    single, double = ExplainableModel(network, layer), ExplainableModel(copy.deepcopy(network).double(), layer)
    pool = images(40, size, seed=99)
    classes = torch.arange(40) % 10
    cam, exact = single(pool, classes).cam, double(pool.double(), classes).cam
    steady = ((cam - exact).flatten(1).abs().amax(1) < 2e-5) & (exact.flatten(1).amax(1) > 0.5)
    assert steady.sum() >= 10
    return pool[steady][:10], classes[steady][:10]


@pytest.mark.parametrize("where", ["last", "middle"])
@pytest.mark.parametrize(("name", "last", "middle"), NETWORKS)
def test_network(name: str, last: str, middle: str, where: str, tmp_path: Path) -> None:
    network, layer = build(name), {"last": last, "middle": middle}[where]
    size = (3, 96, 96) if where == "last" else (3, 32, 32)
    image = images(2, size, seed=7)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        network = network.to(dtype)
        class_idx, signed = gradcam(network, layer, image.to(dtype))
        raw = ExplainableModel(network, layer, normalize=False, upsample=False)(image.to(dtype))
        assert torch.equal(raw.class_idx, class_idx)
        assert (raw.cam - signed.clamp(min=0)).abs().max() <= tolerance * signed.abs().max()
    full = ExplainableModel(network, layer)
    assert (full(image.double()).cam - finished(signed, size[1:])).abs().max() <= 1e-9

    network = network.float()
    chosen, classes = steady_images(network, layer, size)
    explainable = ExplainableModel(network, layer)
    lowered = lower(explainable, image[:1])
    for fmt in QUICK_FORMATS:
        session = load(export(lowered, tmp_path / f"net{fmt.suffixes[0]}"), threads=1)
        differences: list[float] = []
        for batch in (slice(0, 1), slice(1, 3), slice(3, 10)):
            want, got = explainable(chosen[batch], classes[batch]), session(chosen[batch], classes[batch])
            assert got.class_idx.tolist() == classes[batch].tolist()
            assert np.abs(got.logits - want.logits.numpy()).max() <= 1e-4 * float(want.logits.abs().max())
            differences += list(np.abs(got.cam - want.cam.numpy()).reshape(len(got.cam), -1).max(1))
        exact = [difference for difference in differences if difference <= TOLERANCES["float32"].cam]
        assert len(exact) >= (10 if where == "last" else 7), differences


# One of each kind of block; resnet50 and the lite network have no operator that these have not.
@pytest.mark.parametrize(
    ("name", "middle"),
    [(name, middle) for name, _, middle in NETWORKS if name not in ("resnet50", "tf_efficientnet_lite0")],
)
def test_lowered_in_float64(name: str, middle: str) -> None:
    network = build(name).double()
    explainable = ExplainableModel(network, middle, normalize=False)
    lowered = lower(explainable, images(1, (3, 64, 64)).double())
    for batch in (1, 7):
        image = images(batch, (3, 64, 64), seed=batch).double()
        classes = torch.arange(batch)
        want, got = explainable(image, classes), lowered(image, classes)
        assert want.cam.max() > 0, "a map of zeros would prove nothing"
        assert (got.cam - want.cam).abs().max() <= TOLERANCES["float64"].cam * want.cam.max()
        assert (got.logits - want.logits).abs().max() <= TOLERANCES["float64"].logits * want.logits.abs().max()
