"""Real architectures with random weights: eager against the reference, every artifact against eager."""

from copy import deepcopy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from explainable_model import ExplainableModel, export, load, lower
from explainable_model.artifact.tolerances import TOLERANCES
from tests.support.nets import QUICK_FORMATS, images
from tests.support.reference import finished, gradcam
from tests.support.steady import lively_classes, steadiest

# Network, last layer, middle layer
NETWORKS = [
    ("resnet18", "layer4", "layer2"),
    ("resnet50", "layer4", "layer2"),
    ("vgg11_bn", "features", "features.13"),
    ("mobilenet_v3_large", "features", "features.6"),
    ("efficientnet_b0", "features", "features.3"),
    ("tf_efficientnet_lite0", "bn2", "blocks.2"),
]


CLASSES = 10
SIZES = {"last": (3, 64, 64), "middle": (3, 32, 32)}


@cache
def built(name: str) -> nn.Module:
    """Random weights whose statistics keep every signal alive, so that no map is blank. Copy it before a change."""
    torch.manual_seed(0)
    if name.startswith("tf_"):
        import timm

        network = timm.create_model(name, pretrained=False, num_classes=CLASSES)
    else:
        network = torchvision.models.get_model(name, weights=None, num_classes=CLASSES)
    if name.startswith("vgg"):  # its classifier holds 96 % of its weights
        network.classifier = nn.Sequential(nn.Linear(512 * 7 * 7, 64), nn.ReLU(True), nn.Linear(64, CLASSES))
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


def in_float64(name: str) -> nn.Module:
    return deepcopy(built(name)).double()


@pytest.mark.parametrize("where", ["last", "middle"])
@pytest.mark.parametrize(("name", "last", "middle"), NETWORKS)
def test_eager_against_the_reference(name: str, last: str, middle: str, where: str) -> None:
    network, layer = in_float64(name), {"last": last, "middle": middle}[where]
    image = images(2, SIZES[where], seed=7).double()
    class_idx, signed = gradcam(network, layer, image)
    raw = ExplainableModel(network, layer, normalize=False, upsample=False)(image)
    assert torch.equal(raw.class_idx, class_idx)
    assert (raw.cam - signed.clamp(min=0)).abs().max() <= 1e-10 * signed.abs().max()
    full = ExplainableModel(network, layer)(image)
    assert (full.cam - finished(signed, SIZES[where][1:])).abs().max() <= 1e-9


@pytest.mark.parametrize("where", ["last", "middle"])
@pytest.mark.parametrize(("name", "last", "middle"), NETWORKS)
def test_formats(name: str, last: str, middle: str, where: str, tmp_path: Path) -> None:
    network, layer = built(name), {"last": last, "middle": middle}[where]
    exact = ExplainableModel(in_float64(name), layer)
    pool = images(20, SIZES[where], seed=99)
    classes = lively_classes(exact, pool, torch.arange(20) % CLASSES)
    chosen, classes = steadiest(exact, pool, classes, 10)
    explainable = ExplainableModel(network, layer)
    lowered = lower(explainable, pool[:1])
    batches = [slice(0, 1), slice(1, 3), slice(3, 10)]
    wanted = [explainable(chosen[batch], classes[batch]) for batch in batches]
    for fmt in QUICK_FORMATS:
        session = load(export(lowered, tmp_path / f"net{fmt.suffixes[0]}"), threads=1)
        for batch, want in zip(batches, wanted, strict=True):
            got, cam = session(chosen[batch], classes[batch]), exact(chosen[batch].double(), classes[batch]).cam
            assert got.class_idx.tolist() == classes[batch].tolist()
            assert np.abs(got.logits - want.logits.numpy()).max() <= 1e-4 * float(want.logits.abs().max())
            assert _largest(got.cam, cam) <= TOLERANCES["float32"].cam, fmt.name
            assert _largest(want.cam.numpy(), cam) <= TOLERANCES["float32"].cam


def _largest(cam: np.ndarray, exact: Tensor) -> float:
    return float(np.abs(cam - exact.numpy()).max())


# One of each kind of block; resnet50 and the lite network have no operator that these have not.
@pytest.mark.parametrize(
    ("name", "middle"),
    [(name, middle) for name, _, middle in NETWORKS if name not in ("resnet50", "tf_efficientnet_lite0")],
)
def test_lowered_in_float64(name: str, middle: str) -> None:
    explainable = ExplainableModel(in_float64(name), middle, normalize=False)
    lowered = lower(explainable, images(1, SIZES["middle"]).double())
    for batch in (1, 7):
        image = images(batch, SIZES["middle"], seed=batch).double()
        classes = torch.arange(batch)
        want, got = explainable(image, classes), lowered(image, classes)
        assert want.cam.max() > 0, "a map of zeros would prove nothing"
        assert (got.cam - want.cam).abs().max() <= TOLERANCES["float64"].cam * want.cam.max()
        assert (got.logits - want.logits).abs().max() <= TOLERANCES["float64"].logits * want.logits.abs().max()
