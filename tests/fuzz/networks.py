"""Random networks: convolutional ones in one to three dimensions, transformers, segmentations, several inputs."""

from collections import namedtuple
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor, nn

from tests.fuzz.attention import draw_transformer_block
from tests.fuzz.blocks import draw_block
from tests.fuzz.heads import Classifier, Head
from tests.fuzz.units import CONVOLUTIONS, ConvUnit, draw_activation
from tests.support.nets import seeded

SMALLEST_GRID, DRAWS = 2, 50
Answer = namedtuple("Answer", ["features", "logits"])


@dataclass
class Output:
    """What Hugging Face's networks return."""

    logits: Tensor
    hidden_state: Tensor


ENDINGS: dict[str, Callable[[], nn.Module]] = {
    "softmax": lambda: nn.Softmax(dim=1),
    "log_softmax": lambda: nn.LogSoftmax(dim=1),
    "sigmoid": nn.Sigmoid,
    "logsigmoid": nn.LogSigmoid,
}
# How the network returns its scores, and the argument ``output`` that selects them.
CONTAINERS: dict[str, tuple[Callable[[Tensor, Tensor], Any], Any]] = {
    "tensor": (lambda logits, other: logits, None),
    "dict": (lambda logits, other: {"logits": logits, "features": other}, None),
    "heads": (lambda logits, other: {"side": logits * 2 - 1, "main": logits}, "main"),
    "tuple": (lambda logits, other: (other, logits), 1),
    "nested": (lambda logits, other: [other.mean(), (logits,)], None),
    "namedtuple": (lambda logits, other: Answer(other, logits), None),
    "dataclass": (lambda logits, other: Output(logits, other), None),
    "function": (lambda logits, other: {"a": (other, logits)}, lambda output: output["a"][1]),
}
EXTRAS = ("vector", "image", "index")


@dataclass(frozen=True)
class Network:
    """A random network and what the package must be told of it.

    Attributes:
        module: in float64, in evaluation mode.
        image_shape: ``(C, *spatial)``.
        extra: what else it takes, a member of ``EXTRAS``, or ``None``.
        container: key of ``CONTAINERS``.
        output: which part of the output is the prediction.
        classes: how many scores it returns.
        kind: ``scores``, ``single``, ``segmentation`` or ``embedding``.
        ending: key of ``ENDINGS``, or ``None``.
    """

    module: nn.Module
    image_shape: tuple[int, ...]
    extra: str | None
    container: str
    output: Any
    classes: int
    kind: str
    ending: str | None


class ConvBody(nn.Module):
    """A stem, blocks, and perhaps a second input that joins behind the stem."""

    def __init__(self, rng: Random, dims: int, count: int, extra: str | None) -> None:
        super().__init__()
        width = rng.choice((4, 6, 8, 10))
        self.stem = ConvUnit(rng, 3, width, dims, stride=rng.choice((1, 2, 2)))
        blocks: list[nn.Module] = []
        channels = width
        for _ in range(count):
            blocks.append(draw_block(rng, channels, dims))
            channels = int(blocks[-1].channels)  # type: ignore[arg-type]
        self.blocks, self.channels, self.extra = nn.Sequential(*blocks), channels, extra
        self.dims = dims
        if extra == "vector":
            self.film = nn.Linear(3, width)
        elif extra == "index":
            self.film = nn.Embedding(4, width)

    def forward(self, image: Tensor, *inputs: Tensor) -> Tensor:
        features = self.stem(image)
        if self.extra == "image":
            features = features - self.stem(inputs[0])
        elif self.extra is not None:
            film = self.film(inputs[0])
            features = features * (1 + film.reshape(*film.shape, *[1] * self.dims))
        return self.blocks(features)


class TokenBody(nn.Module):
    """Patches, perhaps a class token and registers, positions, blocks; as many features as the head reads."""

    def __init__(self, rng: Random, size: tuple[int, ...], count: int) -> None:
        super().__init__()
        width, patch = rng.choice((8, 12)), rng.choice((4, 8))
        self.prefix, self.reads_class = rng.choice(((1, True), (1, False), (0, False), (5, True), (2, True)))
        grid = [length // patch for length in size]
        tokens = grid[0] * grid[1] + self.prefix
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.prefix_tokens = nn.Parameter(torch.zeros(1, max(self.prefix, 1), width))
        self.positions = nn.Parameter(torch.zeros(1, tokens, width))
        self.blocks = nn.ModuleList(draw_transformer_block(rng, width, tokens) for _ in range(count))
        self.norm, self.channels = nn.LayerNorm(width), width

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.patches(image).flatten(2).transpose(1, 2)
        if self.prefix:
            tokens = torch.cat([self.prefix_tokens.expand(tokens.shape[0], -1, -1), tokens], 1)
        tokens = tokens + self.positions
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        return tokens[:, 0] if self.reads_class else tokens[:, self.prefix :].mean(1)


class SegmentationHead(nn.Module):
    """A decoder: scores at every pixel."""

    def __init__(self, rng: Random, channels: int, size: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.score = CONVOLUTIONS[len(size)](channels, classes, rng.choice((1, 3)), padding="same")
        self.up = nn.Upsample(size, mode=rng.choice(("nearest", "bilinear")) if len(size) == 2 else "nearest")
        self.activation, self.scores_first = draw_activation(rng, channels), rng.random() < 0.5

    def forward(self, tensor: Tensor) -> Tensor:
        if self.scores_first:
            return self.up(self.score(self.activation(tensor)))
        return self.score(self.activation(self.up(tensor)))


class FuzzNet(nn.Module):
    """A body, a head and an ending; ``pack`` makes what the network returns."""

    def __init__(
        self, body: nn.Module, head: nn.Module, ending: str | None, pack: Callable[..., Any], squeezes: bool
    ) -> None:
        super().__init__()
        self.body, self.head = body, head
        self.ending = nn.Identity() if ending is None else ENDINGS[ending]()
        self.pack, self.squeezes = pack, squeezes

    def forward(self, image: Tensor, *inputs: Tensor) -> Any:
        features = self.body(image, *inputs)
        logits = self.ending(self.head(features))
        return self.pack(logits.squeeze(1) if self.squeezes else logits, features.flatten(1))


def draw_network(rng: Random, seed: int) -> Network:
    """The network of a seed; one whose map becomes too small is drawn again."""
    torch.manual_seed(seed)
    for _ in range(DRAWS):
        try:
            network = _draw(rng)
            seeded(network.module, seed)
            with torch.no_grad():
                features = network.module.double().body(*sample_inputs(network, 4, seed))
                finite = bool(network.module.head(features).isfinite().all())
        except TooSmall:
            continue
        if finite:
            return network
    raise RuntimeError(f"No network in {DRAWS} draws of seed {seed}.")


class TooSmall(Exception):
    """The map of the last block has one position, or a kernel is larger than its map."""


def _draw(rng: Random) -> Network:
    dims = rng.choice((1, 2, 2, 2, 2, 2, 2, 2, 2, 3))
    is_transformer = dims == 2 and rng.random() < 0.25
    size = _draw_size(rng, dims, is_transformer)
    kind = rng.choice(("scores",) * 6 + ("single", "embedding")) if is_transformer else _draw_kind(rng)
    extra = None if is_transformer or rng.random() < 0.85 else rng.choice(EXTRAS)
    classes = {"single": 1, "embedding": 6}.get(kind, rng.choice((3, 4, 5)))
    if kind == "segmentation" and rng.random() < 0.2:
        classes = 1
    body = (
        TokenBody(rng, size, rng.choice((1, 1, 1, 2)))
        if is_transformer
        else ConvBody(rng, dims, rng.choice((1, 1, 1, 2)), extra)
    )
    head = _draw_head(rng, body, (3, *size), kind, classes, extra, is_transformer)
    ending = _draw_ending(rng, kind, classes)
    name = rng.choice(("tensor",) * 12 + tuple(CONTAINERS))
    pack, output = CONTAINERS[name]
    module = FuzzNet(body, head, ending, pack, kind == "single" and rng.random() < 0.3)
    return Network(module.eval(), (3, *size), extra, name, output, classes, kind, ending)


def _draw_size(rng: Random, dims: int, is_transformer: bool) -> tuple[int, ...]:
    if is_transformer:
        return rng.choice(((16, 16), (24, 24), (16, 24), (32, 16)))
    if dims == 1:
        return (rng.choice((32, 48)),)
    return rng.choice(((16, 16), (24, 24), (20, 28), (17, 19), (32, 32))) if dims == 2 else (8, 8, 10)


def _draw_kind(rng: Random) -> str:
    return rng.choice(("scores",) * 6 + ("single", "segmentation", "embedding"))


def _draw_ending(rng: Random, kind: str, classes: int) -> str | None:
    if kind == "embedding" or rng.random() < 0.7:
        return None
    return rng.choice(("sigmoid", "logsigmoid") if classes == 1 else tuple(ENDINGS))


def _draw_head(
    rng: Random,
    body: Any,
    image_shape: tuple[int, ...],
    kind: str,
    classes: int,
    extra: str | None,
    is_transformer: bool,
) -> nn.Module:
    if is_transformer:
        return Classifier(rng, body.channels, classes)
    grid = _grid(body, image_shape, extra)
    if kind == "segmentation":
        return SegmentationHead(rng, body.channels, image_shape[1:], classes)
    return Head(rng, body.channels, grid, classes)


def _grid(body: nn.Module, image_shape: tuple[int, ...], extra: str | None) -> tuple[int, ...]:
    """The spatial size of the last map.

    Raises:
        TooSmall: a map became too small on the way.
    """
    image = torch.zeros(2, *image_shape)
    try:
        with torch.no_grad():
            shape = body.eval()(image, *_extra_inputs(extra, image_shape, 2, torch.Generator())).shape
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        raise TooSmall from error
    if min(shape[2:]) < SMALLEST_GRID:
        raise TooSmall
    return tuple(shape[2:])


def sample_inputs(network: Network, batch: int, seed: int) -> list[Tensor]:
    """An image and what else the network takes, in float64."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(batch, *network.image_shape, generator=generator)
    extras = _extra_inputs(network.extra, network.image_shape, batch, generator)
    return [tensor.double() if tensor.is_floating_point() else tensor for tensor in (image, *extras)]


def _extra_inputs(
    extra: str | None, image_shape: Sequence[int], batch: int, generator: torch.Generator
) -> list[Tensor]:
    if extra == "vector":
        return [torch.randn(batch, 3, generator=generator)]
    if extra == "image":
        return [torch.randn(batch, *image_shape, generator=generator)]
    if extra == "index":
        return [torch.randint(4, (batch,), generator=generator)]
    return []
