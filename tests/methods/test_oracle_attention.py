"""LeGrad and rollout on whole networks, against attention that is written out."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from explainable_model.errors import LayerError, ModelError
from tests.methods.oracle import (
    assert_equal,
    batch,
    each,
    raw,
    small,
)
from tests.support.nets import TinyViT, TransformerBlock, images, seeded


def block_attention(block: Any, tokens: Tensor) -> Tensor:
    """Probabilities ``(N, heads, T, T)``, written out from the weights."""
    qkv, width = block.qkv(block.norm1(tokens)), tokens.shape[2]
    size = width // block.heads
    scores = []
    for head in range(block.heads):
        query, key = (qkv[..., part * width + head * size :][..., :size] for part in range(2))
        scores.append(query @ key.transpose(1, 2) / size**0.5)
    return torch.softmax(torch.stack(scores, 1), 3)


def block_output(block: Any, tokens: Tensor, attention: Tensor) -> Tensor:
    """The tokens that a block returns for this attention."""
    values = block.qkv(block.norm1(tokens))[..., 2 * tokens.shape[2] :].chunk(block.heads, 2)
    mixed = torch.cat([attention[:, head] @ value for head, value in enumerate(values)], 2)
    tokens = tokens + block.proj(mixed)
    return tokens + block.mlp(block.norm2(tokens))


def block_inputs(network: Any, image: Tensor) -> list[Tensor]:
    """The tokens that go into every block."""
    tokens = functional.conv2d(image, network.patch.weight, network.patch.bias, stride=8).flatten(2).transpose(1, 2)
    tokens = torch.cat([network.cls_token.expand(len(image), -1, -1), tokens], 1)
    inputs = []
    for block in network.blocks:
        inputs.append(tokens)
        tokens = block_output(block, tokens, block_attention(block, tokens))
    assert (network.head(network.norm(tokens)[:, 0]) - network(image)).abs().max() < 1e-12
    return inputs


@pytest.mark.parametrize("first", [0, 1, -1])
def test_legrad(first: int) -> None:
    network, image = seeded(TinyViT(), seed=3).double(), images(2, seed=4).double()
    model: Any = network

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        layers = []
        with torch.no_grad():
            inputs = block_inputs(network, image)
        for block, tokens in list(zip(model.blocks, inputs, strict=True))[first:]:
            attention = block_attention(block, tokens).detach().requires_grad_()
            score = model.head(model.norm(block_output(block, tokens, attention).mean(1)))[0, class_idx]
            (gradient,) = torch.autograd.grad(score, attention)
            layers.append(gradient[0].clamp(min=0).mean((0, 1))[1:].reshape(4, 4))
        return torch.stack(layers).mean(0)

    assert_equal(raw(network, None, "legrad", image, first=first), each(oracle, image))


class PatchMeanViT(nn.Module):
    """Two blocks whose head averages the patches, projects and ends in softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 8, 8)
        self.blocks = nn.Sequential(TransformerBlock(16, 2), TransformerBlock(16, 2))
        self.head = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 4))

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.blocks(self.patch(image).flatten(2).transpose(1, 2))
        return self.head(tokens.mean(1)).softmax(1)


class MaskedHeadViT(PatchMeanViT):
    """A head with a mask of the tokens that it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.LayerNorm(16), OwnLeakyReLU(), nn.Linear(16, 4))


class OwnLeakyReLU(nn.Module):
    """Written with a comparison."""

    def forward(self, tensor: Tensor) -> Tensor:
        return torch.where(tensor > 0, tensor, 0.1 * tensor)


@pytest.mark.parametrize("build", [PatchMeanViT, MaskedHeadViT])
def test_legrad_of_a_head_that_averages_and_ends_in_softmax(build: type[nn.Module]) -> None:
    network, image = seeded(build()).double(), images(2, seed=4).double()
    model: Any = network

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        layers, tokens = [], network.patch(image).flatten(2).transpose(1, 2).detach()
        for block in model.blocks:
            attention = block_attention(block, tokens).detach().requires_grad_()
            returned = block_output(block, tokens, attention)
            (gradient,) = torch.autograd.grad(network.head(returned.mean(1))[0, class_idx], attention)
            layers.append(gradient[0].clamp(min=0).mean((0, 1)).reshape(4, 4))
            tokens = returned.detach()
        return torch.stack(layers).mean(0)

    assert_equal(raw(network, None, "legrad", image), each(oracle, image))


class AttentionPool(PatchMeanViT):
    """A learned query that attends to the patches."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(16, 1)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.blocks(self.patch(image).flatten(2).transpose(1, 2))
        return self.head((self.query(tokens).softmax(1) * tokens).sum(1))


class ReadsEarlyTokens(PatchMeanViT):
    """A head that also reads the patch embedding."""

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.patch(image).flatten(2).transpose(1, 2)
        return self.head(self.blocks(tokens).mean(1) + tokens.amax(1))


class OneBlock(PatchMeanViT):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(TransformerBlock(16, 2))


class UnequalBlocks(PatchMeanViT):
    """A normalization between the blocks, which the last one does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            TransformerBlock(16, 2), nn.LayerNorm(16), TransformerBlock(16, 2), TransformerBlock(16, 2)
        )


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (AttentionPool, {}, "the head of this network has an attention of its own"),
        (ReadsEarlyTokens, {}, "the head of this network also reads 'amax'"),
        (OneBlock, {}, "needs two blocks with attention or more"),
        (UnequalBlocks, {}, "the blocks of this network differ"),
        (TinyViT, {"first": 2}, "first=2; the network has 2 blocks"),
        (TinyViT, {"first": -3}, "first=-3; the network has 2 blocks"),
    ],
)
def test_legrad_refuses_what_it_has_no_score_for(build: type[nn.Module], options: dict[str, int], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        raw(seeded(build()).double(), None, "legrad", images(2).double(), **options)


def test_rollout() -> None:
    network, image = seeded(TinyViT()).double(), images(2, seed=4).double()
    model: Any = network

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        with torch.no_grad():
            inputs = block_inputs(network, image)
            attentions = [block_attention(*pair) for pair in zip(model.blocks, inputs, strict=True)]
        reached = torch.eye(17, dtype=torch.float64)
        for attention in attentions:
            reached = (attention[0].mean(0) / 2 + torch.eye(17, dtype=torch.float64) / 2) @ reached
        return reached[0, 1:].reshape(4, 4)

    assert_equal(raw(network, None, "rollout", image), each(oracle, image))


class InWindows(nn.Module):
    """Attention over 31 of 64 tokens, which are no grid of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.blocks = (
            nn.Conv2d(3, 16, 4, 4),
            nn.Sequential(TransformerBlock(16, 2), TransformerBlock(16, 2)),
        )
        self.head = nn.Linear(16, 3)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.patches(image).flatten(2).mT[:, :31]
        return self.head(self.blocks(tokens).mean(1))


def test_attention_over_part_of_the_image_is_refused() -> None:
    with pytest.raises(LayerError, match=r"needs attention over the whole image; this network's is over 31 tokens"):
        raw(seeded(InWindows()).double(), None, "rollout", images(2).double())


@pytest.mark.parametrize("method", ["legrad", "rollout"])
def test_a_network_without_attention(method: str) -> None:
    with pytest.raises(ModelError, match="no attention over tokens"):
        raw(small(), None, method, batch())
