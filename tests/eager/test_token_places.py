"""A layer that a user names is read as a map only where its tokens are places of the image, in rows."""

import re

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.convnext import LayerNorm2d

from explainable_model import ExplainableModel, find_layers, lower
from explainable_model.errors import LayerError, ShallowLayerWarning
from tests.eager.test_layer_meaning import QueryDecoder
from tests.support.nets import TransformerBlock, images, seeded

UNITS = 2  # cells along each side of a unit


def unroll(tokens: Tensor, side: int) -> Tensor:
    """``(N, side^2, K)``, rows first, in units of 2 x 2 whose cells lie far apart, as Hiera orders them."""
    cells = tokens.unflatten(1, (side // UNITS, UNITS, side // UNITS, UNITS))
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(1, 4)


class Unrolled(nn.Module):
    """Blocks on unrolled tokens, then the largest of each unit, whose order is that of rows again."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.patch, self.order = nn.Conv2d(3, width, 4, 4), nn.Identity()
        self.block, self.last = TransformerBlock(width, 2), TransformerBlock(width, 2)
        self.head = nn.Linear(width, 4)

    def forward(self, image: Tensor) -> Tensor:
        patches = self.patch(image)
        tokens = self.order(unroll(patches.flatten(2).mT, patches.shape[-1]))
        tokens = self.block(tokens).unflatten(1, (UNITS**2, -1)).amax(1)
        return self.head(self.last(tokens).mean(1))


class RegistersLast(nn.Module):
    """Four registers stand after the patches."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.patch, self.registers = nn.Conv2d(3, width, 4, 4), nn.Parameter(torch.randn(1, 4, width))
        self.block, self.last = TransformerBlock(width, 2), TransformerBlock(width, 2)
        self.head = nn.Linear(width, 4)

    def forward(self, image: Tensor) -> Tensor:
        patches = self.patch(image).flatten(2).mT
        tokens = torch.cat([patches, self.registers.expand(image.shape[0], -1, -1)], 1)
        return self.head(self.last(self.block(tokens))[:, : patches.shape[1]].mean(1))


class TextBesideGrid(nn.Module):
    """A text of as many words as the image has patches, which attends to them."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.patch, self.vision = nn.Conv2d(3, width, 4, 4), TransformerBlock(width, 2)
        self.words, self.text = nn.Embedding(50, width), TransformerBlock(width, 2)
        self.cross, self.norm = nn.MultiheadAttention(width, 2, batch_first=True), nn.LayerNorm(width)
        self.head = nn.Linear(width, 4)

    def forward(self, image: Tensor) -> Tensor:
        memory = self.vision(self.patch(image).flatten(2).mT)
        words = self.words(torch.arange(64) % 50).expand(len(image), -1, -1)
        words = self.norm(words + self.cross(words, memory, memory)[0])
        return self.head(self.text(words).mean(1))


class Frequencies(nn.Module):
    """As many patches of the image's spectrum as of the image."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.patch, self.spectrum = nn.Conv2d(3, width, 4, 4), nn.Linear(96, width)
        self.norm, self.block, self.head = nn.LayerNorm(width), TransformerBlock(width, 2), nn.Linear(width, 4)

    def forward(self, image: Tensor) -> Tensor:
        waves = torch.view_as_real(torch.fft.fft2(image)).movedim(-1, 2).flatten(1, 2)
        cut = nn.functional.unfold(waves, 4, stride=4).mT
        tokens = torch.cat([self.norm(self.spectrum(cut)), self.patch(image).flatten(2).mT], 1)
        return self.head(self.block(tokens).mean(1))


class Windows(nn.Module):
    """Windows of 4 x 4 patches, ``(N, windows, tokens, K)``, whose shape could be a map with channels last."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.patch, self.window = nn.Conv2d(3, width, 2, 2), nn.Linear(width, width)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 4)

    def forward(self, image: Tensor) -> Tensor:
        cells = self.patch(image).movedim(1, 3).unflatten(2, (4, 4)).unflatten(1, (4, 4)).transpose(2, 3)
        tokens = cells.flatten(3, 4).flatten(1, 2)  # (N, 16 windows, 16 tokens, K)
        return self.head(self.window(self.norm(tokens)).tanh().mean((1, 2)))


class PixelTokens(nn.Module):
    """Attention over every pixel of the map of a wide convolution, whose change is largest beside the pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Conv2d(3, 16, 5, padding=2), TransformerBlock(16, 2), nn.Linear(16, 4)
        with torch.no_grad():
            self.stem.weight[:] = 0
            self.stem.weight[:, :, 2, 0] = torch.randn(16, 3)  # reads the pixel two columns to the left

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.block(self.stem(image).flatten(2).mT).mean(1))


REFUSED = {
    "unrolled": (Unrolled, "order", 64, "another order"),
    "unrolled, after attention": (Unrolled, "block", 64, "another order"),
    "text": (TextBesideGrid, "text", 32, "no token follows one place|another order"),
    "words": (TextBesideGrid, "norm", 32, "no token follows one place|another order"),
    "queries": (QueryDecoder, "norm", 32, "no token follows one place|another order"),
    "frequencies": (Frequencies, "norm", 32, "no token follows one place"),
    "windows": (Windows, "window", 32, "another order"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_tokens_that_are_no_places_in_rows_are_refused(name: str) -> None:
    build, layer, size, reason = REFUSED[name]
    with pytest.raises(LayerError, match=f"target_layer '{layer}' has no spatial map: .*({reason}).*reshape_transform"):
        ExplainableModel(seeded(build()), layer)(images(2, (3, size, size)))


@pytest.mark.parametrize(
    ("build", "layer", "size"),
    [
        (Unrolled, "last", 64),
        (Unrolled, "patch", 64),
        (TextBesideGrid, "vision", 32),
        (TextBesideGrid, "vision.proj", 32),
        (PixelTokens, "block", 20),
    ],
)
def test_tokens_in_rows_are_explained(build: type[nn.Module], layer: str, size: int) -> None:
    assert ExplainableModel(seeded(build()), layer)(images(2, (3, size, size))).cam.amax() > 0.5


def test_the_automatic_layer_is_in_rows() -> None:
    explainable = ExplainableModel(seeded(Unrolled()))
    with pytest.warns(ShallowLayerWarning, match="'patch', which cuts the image into patches before all attention"):
        explainable(images(2, (3, 64, 64)))
    assert explainable.target_layer == "patch"  # no layer shows that the tokens of the last block have a grid


def test_a_function_of_the_user_puts_them_in_order() -> None:
    def rolled(tokens: Tensor) -> Tensor:
        cells = tokens.unflatten(1, (UNITS, UNITS, 8, 8)).permute(0, 3, 1, 4, 2, 5)
        return cells.flatten(3, 4).flatten(1, 2).movedim(-1, 1)

    network, image = seeded(Unrolled()).double(), images(1, (3, 64, 64)).double()
    activations = ExplainableModel(network, "order", reshape_transform=rolled).attribute(image).activations
    assert torch.allclose(activations, network.get_submodule("patch")(image))


@pytest.mark.parametrize(("layer", "shape"), [("block", (3, 32, 32)), ("last", (3, 24, 40))])
def test_registers_after_the_patches_are_refused_with_the_function_to_write(layer: str, shape: tuple[int, ...]) -> None:
    network, image = seeded(RegistersLast()).double(), images(2, shape).double()
    with pytest.raises(LayerError, match="whose last 4 are not, such as registers.*reshape_transform=") as raised:
        ExplainableModel(network, layer)(image)
    function = eval(re.search(r"reshape_transform=(lambda .*)\.$", str(raised.value))[1])  # type: ignore[index]
    explainable = ExplainableModel(network, layer, reshape_transform=function)
    tokens = []
    with torch.no_grad(), network.get_submodule(layer).register_forward_hook(lambda *args: tokens.append(args[2])):
        network(image)
    wanted = tokens[0][:, :-4].mT.unflatten(2, (shape[1] // 4, shape[2] // 4))
    assert torch.equal(explainable.attribute(image).activations, wanted)
    assert (lower(explainable, image)(image).cam - explainable(image).cam).abs().max() < 1e-9


@pytest.mark.filterwarnings("ignore::explainable_model.errors.ShallowLayerWarning")
@pytest.mark.parametrize("build", [RegistersLast, Frequencies])
def test_the_automatic_layer_has_patches_alone(build: type[nn.Module]) -> None:
    explainable = ExplainableModel(seeded(build()))
    explainable(images(2))
    assert explainable.target_layer == "patch"


@pytest.mark.parametrize("build", [RegistersLast, Unrolled])
@pytest.mark.parametrize("method", ["rollout", "legrad"])
def test_attention_over_tokens_that_are_no_places_in_rows_is_refused(build: type[nn.Module], method: str) -> None:
    with pytest.raises(LayerError, match=f"Method '{method}' reads the attention.*Here they are not.*at a layer"):
        ExplainableModel(seeded(build()), method=method)(images(2, (3, 64, 64)))


class RegistersFirst(RegistersLast):
    def forward(self, image: Tensor) -> Tensor:
        patches = self.patch(image).flatten(2).mT
        tokens = torch.cat([self.registers.expand(image.shape[0], -1, -1), patches], 1)
        return self.head(self.last(self.block(tokens))[:, 4:].mean(1))


@pytest.mark.parametrize("method", ["rollout", "gradcam"])
def test_registers_before_the_patches_are_explained(method: str) -> None:
    assert ExplainableModel(seeded(RegistersFirst()), method=method)(images(2)).cam.amax() > 0.5


class TableOfAttention(nn.Module):
    """Attention whose probabilities pass through a dropout, ``(N, heads, T, T)``."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.patch, self.norm = nn.Conv2d(3, width, 8, 8), nn.LayerNorm(width)
        self.drop, self.head = nn.Dropout(0.1), nn.Linear(width, 4)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.norm(self.patch(image).flatten(2).mT)
        heads = tokens.unflatten(2, (2, -1)).transpose(1, 2)
        mixed = self.drop((heads @ heads.mT).softmax(-1)) @ heads
        return self.head(mixed.transpose(1, 2).flatten(2).mean(1))


def test_attention_is_not_listed_among_the_layers_with_a_map() -> None:
    network, image = seeded(TableOfAttention()), images(2, (3, 32, 16))
    names = [row.name for row in find_layers(network, image)]
    assert names == ["patch", "norm"]
    for name in names:
        assert ExplainableModel(network, name)(image).cam.shape == (2, 32, 16)
    with pytest.raises(LayerError, match="it holds attention, tokens by tokens"):
        ExplainableModel(network, "drop")(image)


class Moved(nn.Module):
    """Convolutions, a norm of their channels, and a kernel that moves each cell to its neighbor."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.patch, self.norm = nn.Conv2d(3, 8, 4, 4), norm
        self.move, self.act, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.SiLU(), nn.Linear(8, 4)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.act(self.move(self.norm(self.patch(image)))).mean((2, 3)))


def test_maps_of_convolutions_need_no_proof_in_a_small_grid() -> None:
    network, image = seeded(Moved(LayerNorm2d(8))).double(), images(2, (3, 16, 16)).double()
    with torch.no_grad():
        network.move.weight.zero_()
        network.move.weight[:, :, 0, 2] = torch.eye(8)
    maps: list[Tensor] = []
    with torch.no_grad(), network.act.register_forward_hook(lambda *args: maps.append(args[2])):
        network(image)
    assert torch.equal(ExplainableModel(network, "act").attribute(image).activations, maps[0])
    automatic = ExplainableModel(network)
    automatic(image)
    assert automatic.target_layer == "act"
