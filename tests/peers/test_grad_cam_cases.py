"""The cases of pytorch-grad-cam's test suite, through the public call of this library.

They come from ``tests`` of its source distribution 1.5.7, which ask for shapes, ranges and an unchanged network; each
case names its file. ``test_sess.py`` and ``test_fasterrcnn_target_device.py`` are about parts that this library lacks.
"""

import gc

import pytest
import torch
import torchvision
from torch import Tensor, nn

from explainable_model import ExplainableModel
from explainable_model.errors import LayerError
from explainable_model.methods.eigen import eigencam, kpcacam
from tests.peers.adapters import grad_cam
from tests.support.nets import TinyResNet, images, seeded


class TinyVolumeNet(nn.Module):
    """One 3-D convolution, pooling, two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 2, 3, padding=1)
        self.fc = nn.Linear(2, 2)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.fc(torch.relu(self.conv(image)).mean((2, 3, 4)))
        return logits


@pytest.mark.parametrize("method", ["gradcam++", "xgradcam"])
def test_volumes(method: str) -> None:
    # test_3d_cam_weights.py
    explainable = ExplainableModel(seeded(TinyVolumeNet()), "conv", method)
    assert explainable(images(1, (1, 3, 4, 5))).cam.shape == (1, 3, 4, 5)


@pytest.mark.parametrize("classes", [2, 3])
def test_finercam_of_few_classes(classes: int) -> None:
    # test_finer_cam_correctness.py
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), *head)
    assert ExplainableModel(seeded(network), "0", "finercam")(images(1, (3, 16, 16))).cam.shape == (1, 16, 16)


def test_one_channel() -> None:
    # test_one_channel.py
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    assert ExplainableModel(seeded(network), "0")(images(16, (1, 32, 32))).cam.shape == (16, 32, 32)


GRADIENTS = ("gradcam", "gradcam++", "xgradcam", "eigencam", "eigengradcam", "layercam")
METHODS = (*GRADIENTS, "scorecam", "ablationcam", "kpcacam")
LAYERS = ["layer2", "layer1"]


@pytest.mark.parametrize("class_idx", [None, 3])
@pytest.mark.parametrize("size", [(2, 3, 32, 32), (1, 3, 32, 40)], ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs(method: str, size: tuple[int, ...], class_idx: int | None) -> None:
    # test_run_all_models.py: two layers at once.
    cam = ExplainableModel(seeded(TinyResNet()), LAYERS, method)(images(size[0], size[1:]), class_idx).cam
    assert cam.shape == (size[0], *size[2:])
    assert 0 <= cam.min() <= cam.max() <= 1


def test_a_map_of_one_position_is_refused() -> None:
    # test_run_all_models.py explains the last layer of resnet18 at 32 x 32 pixels. Its map has one position, and the
    # peer returns a map that says nothing.
    network = seeded(torchvision.models.resnet18(num_classes=5))
    with pytest.raises(LayerError, match="a map of one position"):
        ExplainableModel(network, "layer4")(images(1, (3, 32, 32)))
    peer = grad_cam("GradCAM")(network, "layer4", images(1, (3, 32, 32)))
    assert peer.amin() == peer.amax()


@pytest.mark.parametrize("method", GRADIENTS)
def test_refinecam(method: str) -> None:
    # test_refine_cam.py
    cam = ExplainableModel(seeded(TinyResNet()), LAYERS, method, fusion="product")(images(2), 3).cam
    assert cam.shape == (2, 32, 32)
    assert 0 <= cam.min() <= cam.max() <= 1


@pytest.mark.parametrize("method", ["gradcam", "shapleycam"])
def test_nothing_stays_behind(method: str) -> None:
    # test_context_release.py watches the memory of a hundred calls; tensors that stay can be counted.
    network = seeded(TinyResNet())
    explainable, image = ExplainableModel(network, "layer2", method), images(1)

    def left() -> int:
        explainable(image, 3)
        gc.collect()
        return sum(type(kept) is Tensor for kept in gc.get_objects())

    left()
    assert left() == left()
    assert not any(module._forward_hooks for module in network.modules())


def test_a_projection_leaves_its_argument_alone() -> None:
    # test_svd_no_side_effect.py
    activations = images(1, (2, 2, 2))
    before = activations.clone()
    eigencam(activations)
    kpcacam(activations)
    assert torch.equal(activations, before)
