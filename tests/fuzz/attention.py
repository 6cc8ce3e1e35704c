"""Attention of tokens in all the ways that networks write it, and blocks of transformers."""

import math
from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.fuzz.units import draw_activation

ATTENTIONS = ("matmul", "einsum", "fused", "module", "linear")
HEADS = 2


class OwnAttention(nn.Module):
    """Queries, keys and values from one linear layer."""

    def __init__(self, width: int, way: str) -> None:
        super().__init__()
        self.qkv, self.out, self.way = nn.Linear(width, 3 * width), nn.Linear(width, width), way
        self.drop = nn.Dropout(0.1)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        size = width // HEADS
        q, k, v = self.qkv(tokens).reshape(batch, count, 3, HEADS, size).permute(2, 0, 3, 1, 4).unbind(0)
        if self.way == "fused":
            mixed = functional.scaled_dot_product_attention(q, k, v)
        elif self.way == "einsum":
            scores = torch.einsum("bhqd,bhkd->bhqk", q, k) / math.sqrt(size)
            mixed = torch.einsum("bhqk,bhkd->bhqd", self.drop(scores.softmax(-1)), v)
        elif self.way == "linear":
            mixed = functional.relu(q) @ (functional.relu(k).transpose(-2, -1) @ v) / count
        else:
            scores = (q * size**-0.5) @ k.transpose(-2, -1)
            mixed = self.drop(torch.softmax(scores, dim=-1)) @ v
        return self.out(mixed.transpose(1, 2).reshape(batch, count, width))


class ModuleAttention(nn.Module):
    """``nn.MultiheadAttention``, with or without its probabilities."""

    def __init__(self, rng: Random, width: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, HEADS, batch_first=True)
        self.needs_weights = rng.random() < 0.5

    def forward(self, tokens: Tensor) -> Tensor:
        mixed: Tensor = self.attention(tokens, tokens, tokens, need_weights=self.needs_weights)[0]
        return mixed


def draw_attention(rng: Random, width: int, way: str) -> nn.Module:
    return ModuleAttention(rng, width) if way == "module" else OwnAttention(width, way)


class TokenMixer(nn.Module):
    """A linear layer over the tokens, as in MLP-Mixer."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.mix = nn.Linear(tokens, tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.mix(tokens.transpose(1, 2)).transpose(1, 2)


class TransformerBlock(nn.Module):
    """Attention, or a mixer, and a perceptron, with norms before or after them."""

    def __init__(self, rng: Random, width: int, tokens: int) -> None:
        super().__init__()
        way = rng.choice((*ATTENTIONS, "mixer"))
        self.attention = TokenMixer(tokens) if way == "mixer" else draw_attention(rng, width, way)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.perceptron = nn.Sequential(
            nn.Linear(width, 2 * width), draw_activation(rng, 1), nn.Linear(2 * width, width)
        )
        self.norm_first = rng.random() < 0.7

    def forward(self, tokens: Tensor) -> Tensor:
        if self.norm_first:
            tokens = tokens + self.attention(self.norm1(tokens))
            return tokens + self.perceptron(self.norm2(tokens))
        tokens = self.norm1(tokens + self.attention(tokens))
        return self.norm2(tokens + self.perceptron(tokens))


def draw_transformer_block(rng: Random, width: int, tokens: int) -> nn.Module:
    """A block of one's own, or PyTorch's, whose fast path eager evaluation takes without gradients."""
    if rng.random() < 0.7:
        return TransformerBlock(rng, width, tokens)
    return nn.TransformerEncoderLayer(
        width,
        HEADS,
        2 * width,
        0.1,
        rng.choice(("relu", "gelu")),
        batch_first=True,
        norm_first=rng.random() < 0.5,
    )
