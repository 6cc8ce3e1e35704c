"""The automatic choice in an ensemble, or in several streams: it is one of several networks, and says so."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel
from explainable_model.errors import OneNetworkWarning, RepeatedLayerWarning
from tests.support.nets import TinyResNet, images, seeded


def member(width: int = 6) -> nn.Module:
    layers = nn.Conv2d(3, width, 3, 2), nn.ReLU(), nn.Conv2d(width, width, 3), nn.ReLU()
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4))


class Ensemble(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.members = nn.ModuleList(member() for _ in range(3))

    def forward(self, image: Tensor) -> Tensor:
        return torch.stack([network(image).softmax(1) for network in self.members]).mean(0)


class TwoStreams(nn.Module):
    """Two other networks, whose features are joined."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.small = TinyResNet(5), member()
        self.fc = nn.Linear(9, 3)

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(torch.cat([self.wide(image), self.small(nn.functional.avg_pool2d(image, 2))], 1))


class Unread(TwoStreams):
    """The prediction reads one of the two alone."""

    def forward(self, image: Tensor) -> Tensor:
        self.wide(image)
        return self.small(image)


class Shortcut(nn.Module):
    """Two convolutions see the image, and one network follows."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shortcut = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(3, 8, 1, 2)
        self.body, self.fc = nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU()), nn.Linear(8, 3)

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(self.body(self.first(image).relu() + self.shortcut(image)).mean((2, 3)))


class TwoInputs(nn.Module):
    """The image and another picture have an encoder each; the other's runs last."""

    def __init__(self, channels: int, *, backwards: bool = False) -> None:
        super().__init__()
        self.rgb = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU())
        self.thermal = nn.Sequential(nn.Conv2d(channels, 6, 3, 2), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU())
        self.fc = nn.Linear(12, 4)
        self.backwards = backwards

    def forward(self, image: Tensor, other: Tensor) -> Tensor:
        first, second = (other, image) if self.backwards else (image, other)
        return self.fc(torch.cat([self.rgb(first).mean((2, 3)), self.thermal(second).mean((2, 3))], 1))


class Shared(nn.Module):
    """One encoder sees both inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU())
        self.fc = nn.Linear(6, 4)

    def forward(self, image: Tensor, other: Tensor) -> Tensor:
        return self.fc((self.encoder(image) - self.encoder(other)).mean((2, 3)))


class Gated(nn.Module):
    """A small network decides which of two heads is read."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Conv2d(3, 2, 8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.net = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU())
        self.fc = nn.Linear(6, 8)

    def forward(self, image: Tensor) -> Tensor:
        weights = self.gate(image).softmax(1)
        return (weights[:, :, None] * self.fc(self.net(image).mean((2, 3))).view(-1, 2, 4)).sum(1)


class Experts(nn.Module):
    """A gate weighs two networks."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Conv2d(3, 2, 8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.first, self.second = member(), member()

    def forward(self, image: Tensor) -> Tensor:
        share = self.gate(image).softmax(1)
        return share[:, :1] * self.first(image) + share[:, 1:] * self.second(image)


@pytest.mark.parametrize(
    ("build", "layers"),
    [
        (Ensemble, "['members.0.3', 'members.1.3', 'members.2.3']"),
        (TwoStreams, "['small.3', 'wide.layer2']"),
        (Experts, "['first.3', 'second.3']"),
    ],
)
def test_one_of_several_networks_is_told(build: Callable[[], nn.Module], layers: str) -> None:
    network, image = seeded(build()), images(2)
    words = rf"networks side by side that see the image: .*target_layer=\{layers[:-1]}\]"
    with pytest.warns(OneNetworkWarning, match=words):
        ExplainableModel(network)(image)


def test_the_members_that_the_warning_names_are_averaged() -> None:
    network, image = seeded(Ensemble()), images(2)
    names = [f"members.{n}.3" for n in range(3)]
    together = ExplainableModel(network, names)(image).cam
    apart = torch.stack([ExplainableModel(network, name)(image).cam for name in names]).mean(0)
    assert together.shape == apart.shape
    similar = torch.corrcoef(torch.stack([together.flatten(), apart.flatten()]))[0, 1]
    assert similar > 0.95, "each map is scaled before the mean, and the mean once more"


@pytest.mark.parametrize("build", [Unread, Shortcut, Gated, member, lambda: TinyResNet(3)])
def test_a_single_network_is_not_told(build: Callable[[], nn.Module]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", OneNetworkWarning)
        ExplainableModel(seeded(build()))(images(2))


@pytest.mark.parametrize(("channels", "backwards"), [(3, False), (3, True), (1, False), (4, False)])
def test_the_choice_sees_the_image_beside_another_input(channels: int, *, backwards: bool) -> None:
    network, image = seeded(TwoInputs(channels, backwards=backwards)), images(2)
    other = torch.randn(2, channels, *image.shape[2:], generator=torch.Generator().manual_seed(1))
    explainable = ExplainableModel(network)
    with warnings.catch_warnings():
        warnings.simplefilter("error", OneNetworkWarning)
        cam = explainable(image, None, other).cam
    assert explainable.target_layer == ("thermal" if backwards else "rgb")
    assert (explainable(image, None, other.flip(3)).cam.argmax() == cam.argmax()).all()


def test_an_encoder_of_both_inputs_is_chosen_with_a_word_on_its_calls() -> None:
    network, image = seeded(Shared()), images(2)
    explainable = ExplainableModel(network)
    with pytest.warns(RepeatedLayerWarning, match="runs 2 times"):
        explainable(image, None, image.flip(0))
    assert explainable.target_layer == "encoder"
