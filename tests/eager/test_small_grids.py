"""Tokens of small grids: places are explained, other orders refused, text refused or doubted, never silently read."""

import warnings

import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel
from explainable_model.errors import DoubtfulPlacesWarning, LayerError
from tests.eager.test_token_places import RegistersLast, Unrolled
from tests.support.nets import TransformerBlock, images, seeded

# Words, and the size of an image whose proportions make a grid of them.
TEXTS = {4: (32, 32), 9: (48, 48), 12: (48, 64), 16: (32, 32), 20: (32, 40), 36: (48, 48)}
PATCH = {4: 16, 9: 16, 12: 16, 16: 8, 20: 8}  # with which the image has as many patches as the text has words


class Reader(nn.Module):
    """Words that attend to the patches of an image, or do not."""

    def __init__(self, words: int, patch: int = 4, *, attends: bool = True, width: int = 16) -> None:
        super().__init__()
        self.patch, self.vision = nn.Conv2d(3, width, patch, patch), TransformerBlock(width, 2)
        self.words, self.text = nn.Embedding(50, width), TransformerBlock(width, 2)
        self.cross, self.norm = nn.MultiheadAttention(width, 2, batch_first=True), nn.LayerNorm(width)
        self.head, self.count, self.attends = nn.Linear(width, 4), words, attends

    def forward(self, image: Tensor) -> Tensor:
        memory = self.vision(self.patch(image).flatten(2).mT)
        words = self.words(torch.arange(self.count) % 50).expand(len(image), -1, -1)
        if self.attends:
            words = words + self.cross(words, memory, memory)[0]
        scores: Tensor = self.head(self.text(self.norm(words)).mean(1) + memory.mean(1))
        return scores


def reader(words: int, patch: int = 4, seed: int = 0, *, attends: bool = True) -> nn.Module:
    torch.manual_seed(seed)
    return seeded(Reader(words, patch, attends=attends), seed)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("words", TEXTS)
def test_text_is_refused_where_no_map_has_its_grid(words: int, seed: int) -> None:
    with pytest.raises(LayerError, match="'text' has no spatial map: (no token follows one place|.*another order)"):
        ExplainableModel(reader(words, 8 if words == 36 else 4, seed), "text")(images(1, (3, *TEXTS[words])))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("words", PATCH)
def test_text_is_doubted_where_a_map_has_its_grid(words: int, seed: int) -> None:
    image, grid = images(1, (3, *TEXTS[words])), tuple(length // PATCH[words] for length in TEXTS[words])
    with pytest.warns(DoubtfulPlacesWarning, match="Nothing shows that the tokens of target_layer 'text'") as caught:
        ExplainableModel(reader(words, PATCH[words], seed), "text")(image)
    text = str(caught[0].message)
    function = eval(text[text.index("reshape_transform=") + len("reshape_transform=") : -1])
    explainable = ExplainableModel(reader(words, PATCH[words], seed), "text", reshape_transform=function)
    assert explainable.attribute(image).activations.shape[2:] == grid  # without a warning: the user said so


@pytest.mark.parametrize("words", TEXTS)
def test_text_that_does_not_look_at_the_image_is_refused(words: int) -> None:
    with pytest.raises(LayerError, match="'text' has no spatial map: its tokens do not depend on the image"):
        ExplainableModel(reader(words, attends=False), "text")(images(1, (3, *TEXTS[words])))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("words", PATCH)
def test_patches_in_rows_are_explained_without_a_warning(words: int, seed: int) -> None:
    explainable = ExplainableModel(reader(words, PATCH[words], seed), "vision")
    assert explainable(images(2, (3, *TEXTS[words]))).cam.amax() > 0.5


class OneImage(nn.Module):
    """Takes one image at a time."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        if len(image) != 1:
            raise ValueError(f"one image, not {len(image)}")
        scores: Tensor = self.network(image)
        return scores


def test_a_network_for_one_image_is_asked_one_by_one() -> None:
    with pytest.raises(LayerError, match="no token follows one place|another order"):
        ExplainableModel(OneImage(reader(16)).eval(), "network.text")(images(1))
    assert ExplainableModel(OneImage(reader(16, 8)).eval(), "network.vision")(images(1)).cam.amax() > 0.5


@pytest.mark.parametrize("layer", ["order", "block"])
@pytest.mark.parametrize("size", [16, 24])  # units of 2 x 2, in grids of 4 x 4 and 6 x 6
def test_another_order_is_refused(size: int, layer: str) -> None:
    with pytest.raises(LayerError, match="its tokens lie in another order"):
        ExplainableModel(seeded(Unrolled()), layer)(images(1, (3, size, size)))


class Mixer(nn.Module):
    """Mixes the tokens by a perceptron over their places, as MLP-Mixer does."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(nn.Linear(tokens, 32), nn.GELU(), nn.Linear(32, tokens))

    def forward(self, tokens: Tensor) -> Tensor:
        mixed: Tensor = self.mix(tokens.mT).mT
        return mixed


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("side", [4, 6, 7])
def test_a_mixer_of_places_has_no_other_order(side: int, seed: int) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch, self.mixer = nn.Conv2d(3, 16, 4, 4), Mixer(side**2)
            self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 5)

        def forward(self, image: Tensor) -> Tensor:
            tokens = self.patch(image).flatten(2).mT
            scores: Tensor = self.head(self.norm(tokens + self.mixer(tokens)).mean(1))
            return scores

    torch.manual_seed(seed)
    network, image = Net().eval(), images(1, (3, 4 * side, 4 * side))
    activations = ExplainableModel(network, "mixer").attribute(image).activations
    expected = network.mixer(network.patch(image).flatten(2).mT).mT.unflatten(2, (side, side))
    torch.testing.assert_close(activations, expected)  # weights that mix places at random lead to no other place


@pytest.mark.parametrize("layer", ["block", "last"])
def test_registers_after_the_patches_are_refused(layer: str) -> None:
    with pytest.raises(LayerError, match="whose last 4 are not, such as registers"):
        ExplainableModel(seeded(RegistersLast()), layer)(images(1, (3, 16, 16)))


@pytest.mark.parametrize("size", [(32, 32), (48, 64), (64, 64)])
def test_blocks_of_a_vision_transformer(size: tuple[int, int]) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", img_size=size, num_classes=5, depth=4).eval()
    for layer in ("blocks.0", "blocks.2", "blocks.3.norm1"):
        assert ExplainableModel(network, layer)(images(1, (3, *size))).cam.isfinite().all()


def test_the_automatic_choice_of_mixed_tokens_is_doubted() -> None:
    class Mixed(Reader):
        def forward(self, image: Tensor) -> Tensor:
            tokens = self.patch(image).flatten(2).mT
            tokens = self.norm(tokens.mean(1, keepdim=True) + 0 * tokens + self.words(torch.arange(16)))
            scores: Tensor = self.head(self.text(tokens).mean(1))
            return scores

    torch.manual_seed(0)
    network, image = seeded(Mixed(16, 8)), images(1)
    with pytest.warns(DoubtfulPlacesWarning, match="target_layer 'text'"):
        assert ExplainableModel(network)(image).cam.isfinite().all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ExplainableModel(network, "patch")(image)


@pytest.mark.parametrize("patch", [4, 8])  # with 8, as many patches as words
@pytest.mark.parametrize(("words", "size"), [(72, (64, 72)), (100, (80, 80))])
def test_text_that_could_be_a_larger_grid_is_refused(words: int, size: tuple[int, int], patch: int) -> None:
    """72 words for a picture of 8 x 9 patches, 100 for one of 10 x 10; the automatic choice passes over them."""
    image, network = images(1, (3, *size)), reader(words, patch)
    with pytest.raises(LayerError, match="'text' has no spatial map: (no token follows one place|.*another order)"):
        ExplainableModel(network, "text")(image)
    explainable = ExplainableModel(network)
    explainable(image)
    assert str(explainable.target_layer).split(".")[0] in ("vision", "patch")
