"""The automatic layer of parallel branches, and of what makes queries, keys and values."""

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from explainable_model import ExplainableModel
from explainable_model.errors import ShallowLayerWarning
from tests.support.nets import TransformerBlock, images, seeded


class Levels(nn.Module):
    """Three levels of a pyramid, merged from the top, each pooled for the classifier; the finest runs last."""

    def __init__(self, *, last_is_coarse: bool = False, width: int = 8) -> None:
        super().__init__()
        self.c2, self.c3 = nn.Conv2d(3, width, 3, 2, 1), nn.Conv2d(width, width, 3, 2, 1)
        self.c4, self.last_is_coarse = nn.Conv2d(width, width, 3, 2, 1), last_is_coarse
        self.l2, self.l3, self.l4 = nn.Conv2d(width, 8, 1), nn.Conv2d(width, 8, 1), nn.Conv2d(width, 8, 1)
        self.fc = nn.Linear(24, 5)

    def forward(self, image: Tensor) -> Tensor:
        c2 = self.c2(image).relu()
        c3 = self.c3(c2).relu()
        c4 = self.c4(c3).relu()
        if self.last_is_coarse:
            p2, p3, p4 = self.l2(c2), self.l3(c3), self.l4(c4)
        else:
            p4 = self.l4(c4)
            p3 = self.l3(c3) + functional.interpolate(p4, scale_factor=2.0)
            p2 = self.l2(c2) + functional.interpolate(p3, scale_factor=2.0)
        scores: Tensor = self.fc(torch.cat([level.mean((2, 3)) for level in (p2, p3, p4)], 1))
        return scores


class Decoder(Levels):
    """The finest level is computed from the coarser ones: it is the last map of one way, and no branch."""

    def __init__(self) -> None:
        super().__init__()
        self.smooth, self.fc = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, image: Tensor) -> Tensor:
        c2 = self.c2(image).relu()
        p3 = self.l3(self.c3(c2).relu())
        scores: Tensor = self.fc(self.smooth(self.l2(c2) + functional.interpolate(p3, scale_factor=2.0)).mean((2, 3)))
        return scores


class Gated(Levels):
    """A gate of one channel and fewer cells beside the map."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.fc = nn.Conv2d(8, 2, 3, 2, 1), nn.Linear(8, 5)

    def forward(self, image: Tensor) -> Tensor:
        c2 = self.c2(image).relu()
        gate = self.gate(c2).sigmoid().mean((2, 3)).sum(1, keepdim=True)
        scores: Tensor = self.fc(self.l2(c2).mean((2, 3)) * gate)
        return scores


class PooledAttention(nn.Module):
    """Attention whose keys and values are pooled by convolutions, as in MViT, on a map."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.q, self.pool_k, self.pool_v = (
            nn.Conv2d(width, width, 1),
            nn.Conv2d(width, width, 2, 2),
            nn.Conv2d(width, width, 2, 2),
        )

    def forward(self, maps: Tensor) -> Tensor:
        query, key, value = (tensor.flatten(2).mT for tensor in (self.q(maps), self.pool_k(maps), self.pool_v(maps)))
        return functional.scaled_dot_product_attention(query, key, value)


class PoolingVideo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8)
        self.attn, self.head = PooledAttention(), nn.Linear(8, 5)

    def forward(self, image: Tensor) -> Tensor:
        scores: Tensor = self.head(self.attn(self.norm(self.stem(image)))[:, 0])
        return scores


class PoolingBlock(nn.Module):
    """A block that is named after its pooling, and has weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.conv(functional.avg_pool2d(maps, 3, 1, 1)).relu()


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Conv2d(3, 8, 4, 4), PoolingBlock(), nn.Linear(8, 5)

    def forward(self, image: Tensor) -> Tensor:
        scores: Tensor = self.head(self.block(self.stem(image)).mean((2, 3)))
        return scores


CASES = {
    "a block named after its pooling": (Pooled(), "block"),
    "levels, the finest last": (Levels(), "l4"),
    "levels, the coarsest last": (Levels(last_is_coarse=True), "l4"),
    "a decoder": (Decoder(), "smooth"),
    "a gate beside the map": (Gated(), "l2"),
    "pooled keys and values": (PoolingVideo(), "norm"),
}


@pytest.mark.filterwarnings("ignore::explainable_model.errors.ShallowLayerWarning")
@pytest.mark.parametrize("name", CASES)
def test_the_layer_that_a_person_would_name(name: str) -> None:
    network, layer = CASES[name]
    explainable = ExplainableModel(seeded(network), signed=True)
    assert explainable(images(2)).cam.abs().amax() > 0
    assert explainable.target_layer == layer


class Unread(nn.Module):
    """Tokens of a video, whose frames, rows and columns no shape tells apart; or those of an image."""

    def __init__(self, shrink: int) -> None:
        super().__init__()
        self.patch, self.block, self.head = nn.Conv2d(3, 16, 4, 4), TransformerBlock(16, 2), nn.Linear(16, 5)
        self.shrink = shrink

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.patch(image).flatten(2).mT
        tokens = tokens[:, : tokens.shape[1] - self.shrink]
        scores: Tensor = self.head(self.block(tokens).mean(1))
        return scores


def test_the_patch_embedding_as_the_automatic_layer_is_told() -> None:
    with pytest.warns(ShallowLayerWarning, match=r"'patch', which cuts .*Name a later layer.*unflatten\(2, grid\)"):
        ExplainableModel(seeded(Unread(13)))(images(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ExplainableModel(seeded(Unread(13)), "patch")(images(2))  # the user named it
        explainable = ExplainableModel(seeded(Unread(0)))
        explainable(images(2))
    assert explainable.target_layer == "block"
