"""Attention weighted by its gradient, on whole networks, against attention that is written out."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from explainable_model.errors import ModelError
from tests.methods.oracle import assert_equal, each, raw
from tests.methods.test_oracle_attention import PatchMeanViT, block_attention, block_inputs, block_output
from tests.support.nets import TinyViT, TransformerBlock, images, seeded


def chained(network: Any, image: Tensor, class_idx: int) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """The attention of every block of a ``TinyViT``, with gradients of the network's own score."""
    tokens, attentions = block_inputs(network, image)[0].detach(), []
    for block in network.blocks:
        attentions.append(block_attention(block, tokens) + 0)
        tokens = block_output(block, tokens, attentions[-1])
    score = network.head(network.norm(tokens)[:, 0])[0, class_idx]
    return attentions, torch.autograd.grad(score, attentions)


def test_chefer() -> None:
    network, image = seeded(TinyViT(), seed=3).double(), images(2, seed=4).double()

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        relevance = torch.eye(17, dtype=torch.float64)
        for attention, gradient in zip(*chained(network, image, class_idx), strict=True):
            raised = (attention * gradient)[0].clamp(min=0)
            relevance = relevance + (raised[0] + raised[1]) / 2 @ relevance
        return relevance[0, 1:].reshape(4, 4).detach()

    assert_equal(raw(network, None, "chefer", image), each(oracle, image))


def test_agcam() -> None:
    network, image = seeded(TinyViT(), seed=3).double(), images(2, seed=4).double()
    model: Any = network

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        cam = torch.zeros(16, dtype=torch.float64)
        _, gradients = chained(network, image, class_idx)
        for block, tokens, gradient in zip(model.blocks, block_inputs(network, image), gradients, strict=True):
            query, key, _ = block.qkv(block.norm1(tokens)).reshape(17, 3, 2, 8).unbind(1)
            for head in range(2):
                score = query[0, head] @ key[1:, head].T / 8**0.5
                cam += gradient[0, head, 0, 1:].clamp(min=0) / (1 + torch.exp(-score))
        return cam.reshape(4, 4).detach()

    assert_equal(raw(network, None, "agcam", image), each(oracle, image))


def test_gradeclip() -> None:
    network, image = seeded(TinyViT(), seed=3).double(), images(2, seed=4).double()
    model: Any = network

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        block, tokens = model.blocks[-1], block_inputs(network, image)[-1].detach()
        query, key, value = block.qkv(block.norm1(tokens)).reshape(17, 3, 16).unbind(1)
        attention = block_attention(block, tokens)[0]
        output = torch.cat([attention[head] @ value[:, 8 * head : 8 * head + 8] for head in range(2)], 1).detach()
        output.requires_grad_()
        behind = tokens + block.proj(output)
        score = model.head(model.norm(behind + block.mlp(block.norm2(behind)))[:, 0])[0, class_idx]
        (gradient,) = torch.autograd.grad(score, output)
        cosine = functional.cosine_similarity(query[:1], key[1:])
        weights = (cosine - cosine.min()) / (cosine.max() - cosine.min())
        return (weights * (gradient[0] * value[1:]).sum(1)).reshape(4, 4).detach()

    assert_equal(raw(network, None, "gradeclip", image), each(oracle, image))


class EagerAttention(nn.Module):
    """Attention as old networks write it: images and heads in one dimension, a bias by position, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.bias = nn.Linear(16, 48), nn.Parameter(torch.randn(2, 17, 17))

    def forward(self, tokens: Tensor) -> Tensor:
        batch = tokens.shape[0]
        query, key, value = self.qkv(tokens).reshape(batch, 17, 3, 2, 8).permute(2, 0, 3, 1, 4).flatten(1, 2).unbind(0)
        scores = torch.bmm(query * 8**-0.5, key.transpose(1, 2)).reshape(batch, 2, 17, 17) + self.bias
        attention = functional.dropout(scores.softmax(-1), 0.1, self.training)
        mixed = torch.bmm(attention.reshape(-1, 17, 17), value)
        return mixed.reshape(batch, 2, 17, 8).transpose(1, 2).flatten(2)


class EagerViT(TinyViT):
    """A last block whose attention is written out by hand, without residual connections and projection."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([TransformerBlock(16, 2), EagerAttention()])


def test_gradeclip_of_attention_written_out_by_hand() -> None:
    network, image = seeded(EagerViT(), seed=3).double(), images(2, seed=4).double()
    model: Any = network

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        tokens = functional.conv2d(image, model.patch.weight, model.patch.bias, stride=8).flatten(2).transpose(1, 2)
        tokens = model.blocks[0](torch.cat([model.cls_token, tokens], 1)).detach()
        query, key, value = model.blocks[1].qkv(tokens).reshape(17, 3, 16).unbind(1)
        output = model.blocks[1](tokens).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(model.head(model.norm(output)[:, 0])[0, class_idx], output)
        cosine = functional.cosine_similarity(query[:1], key[1:])
        weights = (cosine - cosine.min()) / (cosine.max() - cosine.min())
        return (weights * (gradient[0, 0] * value[1:]).sum(1)).reshape(4, 4).detach()

    assert_equal(raw(network, None, "gradeclip", image), each(oracle, image))


@pytest.mark.parametrize(
    ("build", "message"),
    [(PatchMeanViT, "reads the attention of the class token, and this network has none")],
)
def test_gradeclip_refuses(build: type[nn.Module], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        raw(seeded(build()).double(), None, "gradeclip", images(2).double())


def test_chefer_without_a_class_token() -> None:
    network, image = seeded(PatchMeanViT()).double(), images(2, seed=4).double()
    model: Any = network

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        tokens, attentions = network.patch(image).flatten(2).transpose(1, 2), []
        for block in model.blocks:
            attentions.append(block_attention(block, tokens) + 0)
            tokens = block_output(block, tokens, attentions[-1])
        logits = network.head(tokens.mean(1))
        relevance = torch.eye(16, dtype=torch.float64)
        for attention, gradient in zip(attentions, torch.autograd.grad(logits[0, class_idx], attentions), strict=True):
            relevance = relevance + (attention * gradient)[0].clamp(min=0).mean(0) @ relevance
        return relevance.mean(0).reshape(4, 4).detach()

    assert_equal(raw(network, None, "chefer", image), each(oracle, image))
