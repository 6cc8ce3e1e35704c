"""Networks that are hard for a hook: in place, recurrent, under no_grad, with a final activation."""

import copy
import pickle

import pytest
import torch
from torch import nn

from explainable_model import ExplainableModel, lower
from tests.support.nets import TinyMobileNet, TinyResNet, XrayClassifier, images, seeded
from tests.support.reference import finished, gradcam


class InPlaceAfter(nn.Module):
    """Everything after the layer overwrites its output."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        activations = self.conv(image)
        activations.mul_(0.5).add_(0.1)
        activations[:, 0] = 0
        activations.relu_()
        return self.fc(activations.mean((2, 3)))


class PassThrough(nn.Module):
    """The layer returns its input, which is overwritten afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.same = nn.Identity()
        self.fc = nn.Linear(4, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        before = self.conv(image)
        after = self.same(before)
        before.zero_()
        return self.fc((after * after.tanh()).mean((2, 3)))


def test_in_place_operations_after_the_layer() -> None:
    network = seeded(InPlaceAfter()).double()
    image = images(2).double()
    activations = network.conv(image).detach().requires_grad_()
    masked = torch.cat([torch.zeros_like(activations[:, :1]), (activations[:, 1:] * 0.5 + 0.1).relu()], 1)
    scores = network.fc(masked.mean((2, 3)))
    (gradients,) = torch.autograd.grad(scores.amax(1).sum(), activations)
    expected = (gradients.mean((2, 3), keepdim=True) * activations).sum(1).clamp(min=0)
    got = ExplainableModel(network, "conv", normalize=False)(image)
    assert torch.allclose(got.cam, expected, atol=1e-12)


def test_layer_that_returns_its_input() -> None:
    network = seeded(PassThrough()).double()
    image = images(2).double()
    got = ExplainableModel(network, "same", normalize=False)(image)
    activations = network.conv(image).detach()
    leaf = activations.clone().requires_grad_()
    (gradients,) = torch.autograd.grad(network.fc((leaf * leaf.tanh()).mean((2, 3))).amax(1).sum(), leaf)
    expected = (gradients.mean((2, 3), keepdim=True) * activations).sum(1).clamp(min=0)
    assert torch.allclose(got.cam, expected, atol=1e-12)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        activations = self.first(image)
        for _ in range(3):
            activations = torch.tanh(self.again(activations))
        return self.fc(activations.mean((2, 3)))


def test_the_last_call_of_a_recurrent_layer_is_explained() -> None:
    network = seeded(Recurrent()).double()
    image = images(2).double()
    hidden = network.first(image)
    for _ in range(2):
        hidden = torch.tanh(network.again(hidden))
    leaf = network.again(hidden).detach().requires_grad_()
    (gradients,) = torch.autograd.grad(network.fc(torch.tanh(leaf).mean((2, 3))).amax(1).sum(), leaf)
    expected = (gradients.mean((2, 3), keepdim=True) * leaf.detach()).sum(1).clamp(min=0)
    got = ExplainableModel(network, "again", normalize=False, call=-1)(image)
    assert torch.allclose(got.cam, expected, atol=1e-12)


class NoGradLayer(nn.Module):
    """The network runs its layer, and the target inside, under its own no_grad."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            activations = self.conv(image)
        return self.fc(activations.relu().mean((2, 3)))


def test_layer_under_no_grad() -> None:
    network = seeded(NoGradLayer())
    got = ExplainableModel(network, "conv", normalize=False)(images(2))
    leaf = network.conv(images(2)).detach().requires_grad_()
    (gradients,) = torch.autograd.grad(network.fc(leaf.relu().mean((2, 3))).amax(1).sum(), leaf)
    expected = (gradients.mean((2, 3), keepdim=True) * leaf.detach()).sum(1).clamp(min=0)
    assert torch.allclose(got.cam, expected, atol=1e-6)


# Final activations


@pytest.mark.parametrize(
    "ending",
    [
        nn.Softmax(1),
        nn.Sigmoid(),
        nn.LogSoftmax(1),
        nn.Sequential(nn.Sigmoid(), nn.Unflatten(1, (5, 1)), nn.Flatten()),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_a_final_activation_is_explained_by_the_logit_under_it(ending: nn.Module, scale: float) -> None:
    network = seeded(TinyResNet())
    with torch.no_grad():
        network.fc.weight.mul_(scale)  # at 1000 every probability is 0 or 1 and its own gradient is 0
    plain = ExplainableModel(network, "layer1")(images(2))
    ended = ExplainableModel(nn.Sequential(network, ending).eval(), "0.layer1")(images(2), plain.class_idx)
    assert torch.allclose(ended.cam, plain.cam, atol=1e-6)
    assert (ended.cam.flatten(1).amax(1) > 0.5).all()
    assert torch.equal(ended.logits, ending(plain.logits)), "the prediction stays the network's own"


@pytest.mark.parametrize("shape", [(1,), (1, 1, 1), ()])
def test_binary_outputs(shape: tuple[int, ...]) -> None:
    class Binary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = seeded(TinyResNet(classes=1))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(self.body(image)).reshape(-1, *shape)

    network = Binary().eval()
    got = ExplainableModel(network, "body.layer1", normalize=False, upsample=False)(images(3))
    assert got.logits.shape == (3, *shape)
    assert got.class_idx.tolist() == [0, 0, 0]
    _, signed = gradcam(network.body, "layer1", images(3))
    assert torch.allclose(got.cam, signed.clamp(min=0), atol=1e-6)


def test_the_tutorials_xray_classifier() -> None:
    network = seeded(XrayClassifier(width=4))
    explainable = ExplainableModel(network, "blocks.4")
    for batch in (1, 4):
        image = images(batch, (3, 256, 256), seed=batch)
        got = explainable(image)
        assert got.logits.shape == (batch, 1, 1, 1)
        assert torch.equal(got.logits, network(image))
        kept = network.blocks(image).detach().requires_grad_()
        (gradients,) = torch.autograd.grad(network.classify(kept).sum(), kept)
        signed = (gradients.mean((2, 3), keepdim=True) * kept.detach()).sum(1)
        assert torch.allclose(got.cam, finished(signed, (256, 256)), atol=1e-5)
        assert got.cam.amax() > 0.5


def test_constant_image_is_finite() -> None:
    for network, layer in ((seeded(TinyResNet()), "layer2"), (seeded(TinyMobileNet()), "project")):
        for value in (0.0, 1.0, -3.0):
            cam = ExplainableModel(network, layer)(torch.full((2, 3, 32, 32), value)).cam
            assert torch.isfinite(cam).all()
            assert cam.min() >= 0
            assert cam.max() <= 1


def test_autocast_and_half_precision() -> None:
    network = seeded(TinyResNet())
    expected = ExplainableModel(network, "layer1")(images(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = ExplainableModel(network, "layer1")(images(2), expected.class_idx)
    assert (mixed.cam.float() - expected.cam).abs().max() < 0.1
    half = ExplainableModel(copy.deepcopy(network).bfloat16(), "layer1")(images(2).bfloat16(), expected.class_idx)
    assert half.cam.dtype == torch.bfloat16
    assert (half.cam.float() - expected.cam).abs().max() < 0.15


def test_channels_last_and_non_square_images() -> None:
    network = seeded(TinyResNet())
    image = images(2, (3, 32, 48))
    expected = ExplainableModel(network, "layer1")(image)
    got = ExplainableModel(network.to(memory_format=torch.channels_last), "layer1")(
        image.to(memory_format=torch.channels_last)
    )
    assert got.cam.shape == (2, 32, 48)
    assert torch.allclose(got.cam, expected.cam, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch.compile of torch 2.11 calls it
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # which it hides by itself otherwise
def test_copies_and_wrappers() -> None:
    network = seeded(TinyResNet())
    expected = ExplainableModel(network, "layer1")(images(2))
    copied = copy.deepcopy(ExplainableModel(network, "layer1"))
    assert torch.equal(copied(images(2)).cam, expected.cam)
    restored = pickle.loads(pickle.dumps(ExplainableModel(network, "layer1")))
    assert torch.equal(restored(images(2)).cam, expected.cam)
    partly = copy.deepcopy(network)
    partly.layer2 = torch.compile(partly.layer2, backend="eager")
    inside = copy.deepcopy(network)
    inside.compile(backend="eager")
    for wrapped in (nn.DataParallel(network), torch.compile(network), partly, inside):
        explainable = ExplainableModel(wrapped, "layer1")
        assert torch.equal(explainable(images(2)).cam, expected.cam)
        assert torch.allclose(lower(explainable, images(1))(images(2)).cam, expected.cam, atol=1e-4)
    assert torch.equal(ExplainableModel(network, network.layer1)(images(2)).cam, expected.cam)
