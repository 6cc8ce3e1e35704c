"""The cases of torch-cam's test suite that have a value, through the public call of this library.

They come from its repository: ``tests/test_gradcampp_formulas.py``, ``tests/test_methods_gradient.py``,
``tests/test_methods_activation.py`` and ``tests/test_methods_transformer.py``. The release 0.5.0 fails
some of them, and the test says which.
"""

from collections.abc import Callable

import pytest
import torch
import torchcam.methods
from torch import Tensor, nn

from explainable_model.attribution import noise
from explainable_model.methods.fusion import refinecam
from tests.peers import nets
from tests.peers.adapters import CLASSES, largest_difference, leaf, ours, torch_cam
from tests.support.nets import images, seeded

RAW = {"signed": True, "normalize": False}


def release_map(kind: str, network: nn.Module, image: Tensor) -> Tensor:
    """The map of torchcam 0.5.0 as it is, neither scaled nor resized."""
    with getattr(torchcam.methods, kind)(network, "features") as extractor:
        return extractor(CLASSES[: len(image)], network(leaf(image)), normalized=False)[0].detach()


@pytest.mark.parametrize("method", ["gradcam++", "smoothgradcam++"])
@pytest.mark.parametrize("spatial", [(4,), (2, 2), (1, 2, 2)], ids=str)
def test_weights_of_gradients_that_vary(method: str, spatial: tuple[int, ...]) -> None:
    # The activations of both channels add up to 10: a gradient g > 0 adds g / (2 + 10 g) to the weight of its channel.
    coefficients = torch.tensor([[1.0, 2, 3, 4], [1, 0, -1, 2]], dtype=torch.float64).reshape(1, 2, *spatial)
    image = torch.tensor([[1.0, 2, 3, 4], [4, 3, 2, 1]], dtype=torch.float64).reshape(1, 2, *spatial)
    weights = (1 / 12 + 2 / 22 + 3 / 32 + 4 / 42, 1 / 12 + 2 / 22)
    expected = weights[0] * image[:, 0] + weights[1] * image[:, 1]
    network = nets.Linear(coefficients).eval()  # linear: noise changes no gradient
    assert torch.allclose(ours(network, "features", method, image, **RAW), expected, atol=1e-9)
    kind = {"gradcam++": "GradCAMpp", "smoothgradcam++": "SmoothGradCAMpp"}[method]
    wrong = (release_map(kind, network, image) - expected).abs().max() > 0.1 * expected.max()
    assert wrong, "torchcam has been corrected since 0.5.0: say so in explainable_model/methods/README.md"


class Threshold(nn.Module):
    """Class 3 has the score ``sum(f(x - 1))``, with f a ReLU or the magnitude."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.features, self.function = nn.Identity(), function

    def forward(self, image: Tensor) -> Tensor:
        score = self.function(self.features(image) - 1).flatten(1).sum(1)
        return torch.stack([-score, -score, -score, score], 1)


@pytest.mark.parametrize(("function", "weight"), [(torch.relu, 0.25), (torch.abs, 0.0)])
def test_smooth_gradcam_plus_plus_averages_before_it_rectifies(
    function: Callable[[Tensor], Tensor], weight: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Noise of +1 and -1: the gradients of the ReLU are all one and all zero, so every moment is 1/2, the coefficient is
    # 1/4 at both positions, and they add 1/8 each. Those of the magnitude are +1 and -1: their mean is zero.
    image = torch.tensor([[[[0.5, 1.5]]]])
    for order in ([1.0, -1.0], [-1.0, 1.0]):
        draws = torch.tensor(order).reshape(2, 1, 1, 1)
        monkeypatch.setattr(noise, "gaussian_noise", lambda picture, samples, seed, d=draws: d.expand(2, 1, 1, 2))
        options = {"options": {"samples": 2, "noise": 1.0}}
        cam = ours(Threshold(function).eval(), "features", "smoothgradcam++", image, **RAW, **options)
        assert torch.allclose(cam, weight * image[:, 0])


@pytest.mark.parametrize("method", ["gradcam++", "smoothgradcam++"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("image", "coefficients"),
    [
        (torch.tensor([[[[1.0, 2]], [[3, 4]]]]), torch.tensor([[[[1e-4, 2e-4]], [[0, 0]]]])),
        (torch.linspace(250, 750, 256).reshape(1, 1, 16, 16), torch.full((1, 1, 16, 16), 0.02)),
        (torch.tensor([[[[1.0, 2]]]]), torch.full((1, 1, 1, 2), 40.0)),
        (torch.tensor([[[[1.0, 1]], [[1, 3]]]]), torch.tensor([[[[-1.0, -1]], [[1, 1]]]])),
    ],
    ids=["small gradients", "large sums", "large cubes", "negative gradients"],
)
def test_half_precision_against_doubles(method: str, dtype: torch.dtype, image: Tensor, coefficients: Tensor) -> None:
    image, coefficients = image.to(dtype), coefficients.to(dtype)
    network = nets.Linear(coefficients).to(dtype).eval()
    cam = ours(network, "features", method, image)
    activations, gradients = image.double().flatten(2), coefficients.double().flatten(2)
    weights = (gradients.relu() / (2 + activations.sum(2, keepdim=True) * gradients).clamp_min(2)).sum(2)
    expected = (weights[:, :, None, None] * image.double()).sum(1)
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    assert (cam.double() - expected).abs().max() < 2 * torch.finfo(dtype).eps


class UnusedChannel(nn.Module):
    """Two equal channels, of which the score reads one."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, 2, 1, bias=False)
        nn.init.ones_(self.features.weight)

    def forward(self, image: Tensor) -> Tensor:
        score = self.features(image)[:, 0].flatten(1).mean(1)
        return torch.stack([-score, -score, -score, score], 1)


@pytest.mark.parametrize("method", ["gradcam++", "smoothgradcam++"])
def test_a_channel_without_a_gradient_adds_nothing(method: str) -> None:
    image = torch.tensor([[[[0.1, 0.2], [0.3, 0.4]]]])
    expected = torch.tensor([[[0.0, 1 / 3], [2 / 3, 1.0]]])
    assert torch.allclose(ours(UnusedChannel().eval(), "features", method, image), expected, atol=1e-6)


def test_finercam_adds_up_before_it_rectifies() -> None:
    # Classifier weights 1 (class 3), 3 and -1: against the mean of both references nothing is left, against each of
    # them alone there is a map for one. This library takes the two references that are closest.
    class Contrast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Conv2d(1, 1, 1, bias=False)
            nn.init.ones_(self.features.weight)

        def forward(self, image: Tensor) -> Tensor:
            mean = self.features(image).mean((1, 2, 3))
            return torch.stack([3 * mean, -mean, -99 * mean, mean], 1)

    image = torch.ones(1, 1, 2, 2)
    network = Contrast().eval()
    both = ours(network, "features", "finercam", image, **RAW, options={"gamma": 1.0, "references": 2})
    assert not both.any()
    own = ours(network, "features", "finercam", image, **RAW, options={"gamma": 0.0})
    assert torch.equal(own, ours(network, "features", "gradcam", image, **RAW))
    assert own.min() > 0


@pytest.mark.parametrize("classes", [2, 3])
def test_finercam_takes_at_most_the_other_classes(classes: int) -> None:
    network = seeded(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))
    )
    many, fewer = (
        ours(network, "1", "finercam", images(1, (3, 8, 8)), **RAW, class_idx=0, options={"references": count})
        for count in (10, classes - 1)
    )
    assert torch.equal(many, fewer)


def test_refinecam_of_two_maps() -> None:
    rising, falling = torch.tensor([[[0.0, 1], [2, 3]]]), torch.tensor([[[3.0, 2], [1, 0]]])
    assert torch.allclose(refinecam([rising, falling]), torch.tensor([[[0, 2 / 9], [2 / 9, 0]]]))
    volume = torch.arange(8.0).reshape(1, 2, 2, 2)
    assert refinecam([volume, volume.flip(-1)]).shape == volume.shape


def test_cam_of_a_convolution_as_the_classifier() -> None:
    network = seeded(
        nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 5, 1), nn.Flatten())
    )
    image = images(2, (3, 8, 8))
    peer = torch_cam("CAM", fc_layer="3")(network, "1", image)
    assert largest_difference(ours(network, "1", "cam", image, signed=True, normalize="minmax"), peer) < 1e-5


class Block(nn.Module):
    """A transformer block of torch-cam's kind: attention is a batch-first ``nn.MultiheadAttention``."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.self_attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def forward(self, tokens: Tensor) -> Tensor:
        normed = self.norm1(tokens)
        tokens = tokens + self.self_attention(normed, normed, normed, need_weights=False)[0]
        return tokens + self.mlp(self.norm2(tokens))


class AveragedTokens(nn.Module):
    """A grid of 2 x 3 patches after two tokens of another kind; the head reads the mean of all tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.prefix = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.zeros(1, 2, 8))
        self.blocks = nn.ModuleList([Block(), Block()])
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 5)

    def project(self, tokens: Tensor) -> Tensor:
        scores: Tensor = self.head(self.norm(tokens.mean(1)))
        return scores

    def forward(self, image: Tensor) -> Tensor:
        patches = self.patches(image).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.prefix.expand(image.shape[0], -1, -1), patches], 1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.project(tokens)


@pytest.mark.parametrize("first", [0, -1])
def test_legrad_of_an_uneven_grid(first: int) -> None:
    network, image = seeded(AveragedTokens()), images(2, (3, 8, 12))
    with torch.no_grad():
        network.head.weight *= 100  # torchcam adds 1e-8 to the range of the map
    options = {"score_projection": network.project, "prefix_tokens": 2, "grid_shape": (2, 3)}
    layers = ["blocks.0", "blocks.1"][first:]
    peer = torch_cam("LeGrad", **options)(network, layers, image)
    assert largest_difference(ours(network, None, "legrad", image, options={"first": first}), peer) < 1e-5


def test_a_class_below_zero_stands_for_the_predicted_one() -> None:
    # torchcam refuses it.
    network, layer, image = nets.plain()
    predicted = network(image).argmax(1)
    cam = ours(network, layer, "gradcam", image, class_idx=-1)
    assert torch.equal(cam, ours(network, layer, "gradcam", image, class_idx=predicted))
    with pytest.raises(ValueError, match="class_idx"):
        torch_cam("GradCAM", class_idx=-1)(network, layer, image)
