"""Of a class token's layers one row is computed, of all others every row; nothing that is returned changes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from explainable_model import ExplainableModel, LoweredModel, lower
from tests.support.nets import TinyViT, seeded

TOKENS, WIDTH = 17, 12
Step = Callable[["Tokens", Tensor], Tensor]


class Tokens(nn.Module):
    """16 patches and a class token, one step of a transformer, and a classifier of what is read of it."""

    def __init__(self, step: Step, read: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.step, self.read = step, read
        self.patch = nn.Conv2d(3, WIDTH, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.position = nn.Parameter(torch.randn(1, TOKENS, WIDTH))
        self.norm, self.attention = nn.LayerNorm(WIDTH), nn.MultiheadAttention(WIDTH, 3, batch_first=True)
        self.wide, self.back = nn.Linear(WIDTH, 20), nn.Linear(20, WIDTH)
        self.mix, self.qkv = nn.Linear(TOKENS, TOKENS), nn.Linear(WIDTH, 3 * WIDTH)
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, image: Tensor) -> Tensor:
        patches = self.patch(image).flatten(2).transpose(1, 2)
        tokens = self.norm(torch.cat([self.token.expand(image.shape[0], -1, -1), patches], 1))
        tokens = mixer(self, tokens)  # each knows of all before the step
        return self.head(self.read(self.step(self, tokens)))


def mlp(net: Tokens, tokens: Tensor) -> Tensor:
    return tokens + net.back(functional.gelu(net.wide(net.norm(tokens + net.position))))


def attention(net: Tokens, tokens: Tensor) -> Tensor:
    return mlp(net, tokens + net.attention(tokens, tokens, tokens, need_weights=False)[0])


def scaled(net: Tokens, tokens: Tensor) -> Tensor:
    q, k, v = net.qkv(tokens).reshape(-1, TOKENS, 3, 3, 4).permute(2, 0, 3, 1, 4).unbind(0)
    mixed = functional.scaled_dot_product_attention(q, k, v)
    return mlp(net, tokens + mixed.transpose(1, 2).reshape(-1, TOKENS, WIDTH))


def written_out(net: Tokens, tokens: Tensor) -> Tensor:
    q, k, v = net.qkv(tokens).unflatten(2, (3, 3, 4)).permute(2, 0, 3, 1, 4).unbind(0)
    mixed = (q @ k.transpose(-2, -1)).softmax(-1) @ v
    return mlp(net, tokens + mixed.transpose(1, 2).flatten(2))


def turned(net: Tokens, tokens: Tensor) -> Tensor:
    return mlp(net, tokens.permute(2, 0, 1)[None].squeeze(0).permute(1, 2, 0).contiguous())


def causal(net: Tokens, tokens: Tensor) -> Tensor:
    q, k, v = net.qkv(tokens).reshape(-1, TOKENS, 3, 3, 4).permute(2, 0, 3, 1, 4).unbind(0)
    mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    return tokens + mixed.transpose(1, 2).reshape(-1, TOKENS, WIDTH)


def masked(net: Tokens, tokens: Tensor) -> Tensor:
    q, k, v = net.qkv(tokens).reshape(-1, TOKENS, 3, 3, 4).permute(2, 0, 3, 1, 4).unbind(0)
    mask = torch.arange(TOKENS)[:, None] > torch.arange(TOKENS) - 3
    mixed = functional.scaled_dot_product_attention(q, k, v, mask)
    return tokens + mixed.transpose(1, 2).reshape(-1, TOKENS, WIDTH)


def mixer(net: Tokens, tokens: Tensor) -> Tensor:
    return tokens + net.mix(tokens.transpose(1, 2)).transpose(1, 2)


def shares(net: Tokens, tokens: Tensor) -> Tensor:
    return tokens * tokens.softmax(1)


def normed(net: Tokens, tokens: Tensor) -> Tensor:
    return functional.layer_norm(tokens, (TOKENS, WIDTH))


def regrouped(net: Tokens, tokens: Tensor) -> Tensor:
    return net.norm(tokens.reshape(-1, WIDTH, TOKENS).tanh().reshape(-1, TOKENS, WIDTH))


def read_first(tokens: Tensor) -> Tensor:
    return tokens[:, 0]


def read_slice(tokens: Tensor) -> Tensor:
    return tokens[:, :1].flatten(1)


def read_last(tokens: Tensor) -> Tensor:
    return tokens[:, -1]


def read_two(tokens: Tensor) -> Tensor:
    return tokens[:, 0] + tokens[:, 1]


def lowered_and_compared(network: nn.Module, layer: str, *, zero: bool = False) -> LoweredModel:
    """In float64, at another batch size; a map of zeros proves nothing where it need not be one."""
    explainable = ExplainableModel(seeded(network).double(), layer, signed=True, normalize="none")
    generator = torch.Generator().manual_seed(1)
    size = 16 if isinstance(network, Tokens) else 32
    image = torch.randn(3, 3, size, size, dtype=torch.float64, generator=generator)
    lowered = lower(explainable, image[:1])
    want, got = explainable(image), lowered(image)
    assert torch.allclose(got.logits, want.logits, rtol=0, atol=1e-12)
    assert torch.allclose(got.cam, want.cam, rtol=1e-9, atol=1e-12)
    assert zero or want.cam.abs().amax() > 1e-5
    return lowered


def rows_of(lowered: LoweredModel, weight: str) -> set[int]:
    """How many tokens meet that matrix, in forward and backward products."""
    products = (torch.ops.aten.linear.default, torch.ops.aten.matmul.default)
    found = set()
    for node in lowered.graph_module.graph.nodes:
        if node.target in products and str(node.args[1]).endswith(weight):
            shape = node.args[0].meta["val"].shape
            found |= {size for size in shape[:-1] if isinstance(size, int)} if len(shape) > 2 else {1}
    return found


@pytest.mark.parametrize(
    ("step", "read"),
    [(mlp, read_first), (attention, read_first), (attention, read_last), (attention, read_slice), (scaled, read_first),
     (written_out, read_last), (turned, read_slice)],
)  # fmt: skip
def test_one_row_of_what_one_row_is_read_of(step: Step, read: Callable[[Tensor], Tensor]) -> None:
    lowered = lowered_and_compared(Tokens(step, read), "patch")
    assert rows_of(lowered, "wide_weight") == {1}
    assert rows_of(lowered, "back_weight") == {1}
    if step is attention:
        assert rows_of(lowered, "out_proj_weight") == {1}
        assert rows_of(lowered, "in_proj_weight") == {TOKENS}


@pytest.mark.parametrize("step", [causal, masked, mixer, shares, normed, regrouped])
def test_every_row_where_positions_meet(step: Step) -> None:
    lowered_and_compared(Tokens(step, read_last), "patch")


def test_two_positions_are_not_one() -> None:
    assert rows_of(lowered_and_compared(Tokens(attention, read_two), "patch"), "wide_weight") == {TOKENS}


def test_a_target_layer_keeps_its_positions() -> None:
    lowered = lowered_and_compared(Tokens(attention, read_first), "wide", zero=True)  # of patches nothing is read
    assert rows_of(lowered, "wide_weight") == {TOKENS}
    assert rows_of(lowered, "back_weight") == {1}


class Classified(Tokens):
    """Every token is classified, and one answer is read."""

    def forward(self, image: Tensor) -> Tensor:
        patches = self.patch(image).flatten(2)
        return self.read(self.step(self, self.head((patches @ self.mix.weight[:-1]).transpose(1, 2))))


def softmax(net: Tokens, scores: Tensor) -> Tensor:
    return scores.softmax(-1)


def sigmoid(net: Tokens, scores: Tensor) -> Tensor:
    return scores.sigmoid()


@pytest.mark.parametrize(("step", "read"), [(softmax, read_first), (softmax, read_slice), (sigmoid, read_first)])
def test_what_is_read_of_probabilities_stays_a_probability(step: Step, read: Callable[[Tensor], Tensor]) -> None:
    """The logit under an activation is explained only where nothing but a reshape lies behind it."""
    lowered = lowered_and_compared(Classified(step, read), "patch")
    assert rows_of(lowered, "head_weight") == {1}


@pytest.mark.parametrize("layer", ["blocks.0.norm1", "blocks.1.norm1"])
def test_the_last_block_of_a_transformer_is_one_row(layer: str) -> None:
    lowered = lowered_and_compared(TinyViT(), layer)
    shapes = {
        str(node.args[1]): tuple(node.args[0].meta["val"].shape[1:-1])
        for node in lowered.graph_module.graph.nodes
        if node.target is torch.ops.aten.linear.default and "mlp" in str(node.args[1])
    }
    assert [shape == (1,) for shape in shapes.values()] == ["blocks_1" in name for name in shapes]
    assert shapes
