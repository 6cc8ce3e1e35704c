"""The automatic choice takes the layer that a person would name: real maps, never attention, text or queries."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from explainable_model import ExplainableModel, find_layers
from explainable_model.eager.find_layer import default_layer
from tests.support.nets import ResidualBlock, TransformerBlock, images, seeded


class SoftmaxBlock(nn.Module):
    """Attention with modules for its softmax and the products before and after it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.scores, self.softmax, self.attended = nn.Identity(), nn.Softmax(-1), nn.Tanh()
        self.talk = nn.Conv2d(heads, heads, 1)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.heads = heads

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm1(tokens)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attention = self.softmax(self.talk(self.scores(query @ key.mT / math.sqrt(query.shape[-1]))))
        tokens = tokens + self.proj(self.attended(attention @ value).transpose(1, 2).flatten(2))
        return tokens + self.mlp(self.norm2(tokens))


class SoftmaxViT(nn.Module):
    """64 patches of 4 x 4, read by their mean; with a class token it reads that."""

    def __init__(self, *, class_token: bool, width: int = 16) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 4, 4)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width)) if class_token else None
        self.blocks = nn.ModuleList([SoftmaxBlock(width, 2) for _ in range(2)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 4)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.patch(image).flatten(2).transpose(1, 2)
        if self.cls_token is not None:
            tokens = torch.cat([self.cls_token.expand(len(image), -1, -1), tokens], 1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(self.norm(tokens)[:, 0] if self.cls_token is not None else self.norm(tokens.mean(1)))


class TextBeside(nn.Module):
    """An image and a prompt of 77 tokens that attends to it: 77 tokens look like a grid of 8 x 9 and five more."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, width, 3, 4, 1), nn.Tanh())
        self.prompt = nn.Parameter(torch.zeros(1, 77, width))
        self.cross, self.norm = nn.MultiheadAttention(width, 2, batch_first=True), nn.LayerNorm(width)
        self.text, self.head = TransformerBlock(width, 2), nn.Linear(width, 4)

    def forward(self, image: Tensor) -> Tensor:
        memory = self.backbone(image).flatten(2).transpose(1, 2)
        tokens = self.prompt.expand(len(image), -1, -1)
        tokens = self.text(self.norm(tokens + self.cross(tokens, memory, memory)[0]))
        return self.head(tokens.mean(1))


class QueryDecoder(nn.Module):
    """100 queries, which look like a grid of 10 x 10, decode an encoded map of 8 x 8."""

    def __init__(self, width: int = 16, queries: int = 100) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, width, 4, 4)
        self.encoder = TransformerBlock(width, 2)
        self.queries = nn.Parameter(torch.zeros(1, queries, width))
        self.cross, self.norm = nn.MultiheadAttention(width, 2, batch_first=True), nn.LayerNorm(width)
        self.grow, self.shrink, self.head = nn.Linear(width, 64), nn.Linear(64, width), nn.Linear(width, 5)
        self.relu = nn.ReLU()

    def forward(self, image: Tensor) -> Tensor:
        memory = self.encoder(self.backbone(image).flatten(2).transpose(1, 2))
        queries = self.queries.expand(len(image), -1, -1)
        queries = self.norm(queries + self.cross(queries, memory, memory)[0])
        queries = queries + self.shrink(self.relu(self.grow(queries)))
        return self.head(queries).amax(1)


class BoxDecoder(nn.Module):
    """A 1 x 1 convolution over a table (N, bins, 4, anchors) with its softmax, as some detectors decode boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.Tanh(), nn.Conv2d(16, 32, 3, 2, 1), nn.Tanh())
        self.decode, self.squash, self.head = nn.Conv2d(8, 2, 1), nn.Tanh(), nn.Linear(2, 3)

    def forward(self, image: Tensor) -> Tensor:
        table = self.body(image).unflatten(1, (4, 8)).permute(0, 2, 1, 3, 4).flatten(3)  # (N, 8, 4, anchors)
        return self.head(self.squash(self.decode(table)).mean((2, 3)))


class VideoTransformer(nn.Module):
    """Tubes of 2 x 8 x 8 make 4 x 4 x 4 tokens: the stride differs between time and space."""

    def __init__(self, width: int = 16, *, patch: tuple[int, int, int] = (2, 8, 8)) -> None:
        super().__init__()
        self.patch = nn.Conv3d(3, width, patch, patch)
        self.blocks = nn.ModuleList([TransformerBlock(width, 2) for _ in range(2)])
        self.head = nn.Linear(width, 4)

    def forward(self, video: Tensor) -> Tensor:
        tokens = self.patch(video).flatten(2).transpose(1, 2)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(tokens.mean(1))


class SignalTransformer(nn.Module):
    """Patches of 8 samples, and a class token."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.patch = nn.Conv1d(3, width, 8, 8)
        self.block, self.head = TransformerBlock(width, 2), nn.Linear(width, 4)

    def forward(self, signal: Tensor) -> Tensor:
        tokens = self.patch(signal).transpose(1, 2)
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1)
        return self.head(self.block(tokens).mean(1))


class LinearPatches(nn.Module):
    """Patches that are cut out and embedded without a convolution."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embed, self.block, self.head = nn.Linear(192, width), TransformerBlock(width, 2), nn.Linear(width, 4)

    def forward(self, image: Tensor) -> Tensor:
        patches = functional.unfold(image, 8, stride=8).transpose(1, 2)
        return self.head(self.block(self.embed(patches)).mean(1))


class UnfoldedPatches(LinearPatches):
    """Patches that a module cuts out, with their values before their positions."""

    def __init__(self) -> None:
        super().__init__()
        self.unfold, self.mix = nn.Unfold(8, stride=8), nn.Linear(16, 16)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.mix(self.embed(self.unfold(image).transpose(1, 2)).relu())
        return self.head(self.block(torch.cat([tokens.mean(1, keepdim=True), tokens], 1)).mean(1))


class MapPatches(nn.Module):
    """Patches that are cut out of a map of finer resolution."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.pixels, self.norm, self.embed = nn.Conv2d(3, 4, 3, 2, 1), nn.LayerNorm(64), nn.Linear(64, width)
        self.block, self.head = TransformerBlock(width, 2), nn.Linear(width, 4)

    def forward(self, image: Tensor) -> Tensor:
        patches = functional.unfold(self.pixels(image), 4, stride=4).transpose(1, 2)
        return self.head(self.block(self.embed(self.norm(patches))).mean(1))


class MergedTokens(nn.Module):
    """Tokens whose height and width a layer halves, as hierarchical transformers do."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 4, 4)
        self.first, self.second = TransformerBlock(width, 2), TransformerBlock(2 * width, 2)
        self.merge, self.head = Merge(width), nn.Linear(2 * width, 4)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.first(self.patch(image).flatten(2).transpose(1, 2))
        return self.head(self.second(self.merge(tokens)).mean(1))


class Merge(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(4 * width, 2 * width)

    def forward(self, tokens: Tensor) -> Tensor:
        side = math.isqrt(tokens.shape[1])
        cells = tokens.unflatten(1, (side // 2, 2, side // 2, 2)).permute(0, 1, 3, 2, 4, 5)
        return self.reduce(cells.flatten(3).flatten(1, 2))


def text_line() -> nn.Module:
    """Height is reduced by 16 and width by 2, as for a line of text."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.Tanh(), nn.Conv2d(4, 6, 3, (2, 1), 1), nn.Tanh(), nn.MaxPool2d((2, 1)),
        nn.Conv2d(6, 8, 3, (2, 1), 1), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip


class BinarySegmenter(nn.Module):
    """One channel of logits per pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Tanh(), ResidualBlock(8, 12, 2))
        self.decoder = nn.Sequential(nn.Upsample(scale_factor=4), nn.Conv2d(12, 6, 3, padding=1), nn.Tanh())
        self.classify = nn.Conv2d(6, 1, 1)
        self.smooth = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return self.smooth(self.classify(self.decoder(self.encoder(image))))


class TwoOutputs(nn.Module):
    """A block that returns a map and a function of it, of which only the latter is read."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.head = nn.Conv2d(3, 4, 3, 2, 1), Body(), nn.Linear(4, 3)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.body(torch.tanh(self.stem(image)))["out"].mean((2, 3)))


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, activations: Tensor) -> dict[str, Tensor]:
        features = self.conv(activations) + activations
        return {"features": features, "out": torch.tanh(features)}


CHOICES = {
    "softmax, class token": (lambda: SoftmaxViT(class_token=True), (3, 32, 32), "blocks.1.norm1"),
    "softmax, mean": (lambda: SoftmaxViT(class_token=False), (3, 32, 32), "blocks.1"),
    "softmax, 64 tokens of width 64": (lambda: SoftmaxViT(class_token=False, width=128), (3, 32, 32), "blocks.1"),
    "text": (TextBeside, (3, 32, 32), "backbone"),
    "queries": (QueryDecoder, (3, 32, 32), "encoder"),
    "queries, a quarter of the tokens": (lambda: QueryDecoder(queries=16), (3, 32, 32), "encoder"),
    "boxes": (BoxDecoder, (3, 32, 32), "body"),
    "video": (VideoTransformer, (3, 8, 32, 32), "blocks.1"),
    "volume": (lambda: VideoTransformer(patch=(8, 8, 8)), (3, 32, 32, 32), "blocks.1"),
    "signal": (SignalTransformer, (3, 96), "block"),
    "patches without convolution": (LinearPatches, (3, 32, 32), "block"),
    "patches of a module": (UnfoldedPatches, (3, 32, 32), "block"),
    "patches of a map": (MapPatches, (3, 32, 32), "block"),
    "merged tokens": (MergedTokens, (3, 32, 32), "second"),
    "text line": (text_line, (3, 64, 96), "6"),
    "binary segmentation": (BinarySegmenter, (3, 32, 32), "decoder"),
    "part of an output": (TwoOutputs, (3, 32, 32), "body.conv"),
}


@pytest.mark.filterwarnings("ignore::explainable_model.errors.ShallowLayerWarning")  # the text beside one convolution
@pytest.mark.parametrize("name", CHOICES)
def test_the_layer_that_a_person_would_name(name: str) -> None:
    build, size, expected = CHOICES[name]
    network, image = seeded(build()), images(2, size)
    assert default_layer(network, image) == expected
    cam = ExplainableModel(network)(image).cam
    assert cam.shape == (2, *size[1:])
    assert cam.amax() > 0.5, "a map of zeros would explain nothing"


@pytest.mark.parametrize(
    ("build", "size", "layer", "grid"),
    [
        (VideoTransformer, (3, 8, 32, 32), "blocks.1", (4, 4, 4)),
        (SignalTransformer, (3, 96), "block", (12,)),
        (lambda: VideoTransformer(patch=(8, 8, 8)), (3, 32, 32, 32), "blocks.0", (4, 4, 4)),
    ],
)
def test_tokens_of_videos_and_signals_lie_in_their_places(build, size, layer, grid) -> None:  # type: ignore[no-untyped-def]
    network, image = seeded(build()).double(), images(1, size).double()
    explainable = ExplainableModel(network, layer)
    activations = explainable.attribute(image).activations
    assert activations.shape[2:] == grid
    outputs: list[Tensor] = []
    handle = network.get_submodule(layer).register_forward_hook(lambda module, inputs, output: outputs.append(output))
    network(image)
    handle.remove()
    prefix = outputs[0].shape[1] - math.prod(grid)
    assert torch.allclose(activations.flatten(2).mT, outputs[0][:, prefix:])
    assert next(c.layout.grid for c in find_layers(network, image) if c.name == layer) == grid
