"""What a lowered graph looks like: its head is the plain network's, and tokens go where the caller says."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from explainable_model import ExplainableModel, export, load, lower
from explainable_model.artifact.tolerances import TOLERANCES
from explainable_model.errors import LayerError
from explainable_model.lowering.capture.export import quiet_export
from tests.support.nets import QUICK_FORMATS, TinyResNet, TinyViT, images, seeded


def plain_onnx(network: nn.Module, image: Tensor, path: Path) -> onnx.GraphProto:
    """The network alone, as PyTorch exports it (which folds batch norm too)."""
    with quiet_export():
        batch = {0: torch.export.Dim("batch", min=1, max=65_536)}
        program = torch.onnx.export(
            network, (image,), dynamo=True, opset_version=18, dynamic_shapes=(batch,), verbose=False
        )
    assert program is not None
    program.save(path)
    return onnx.load(path).graph


def operations(nodes: list[onnx.NodeProto]) -> list[tuple[str, dict[str, Any]]]:
    """Operator and attributes of each node."""
    return [(node.op_type, {a.name: str(onnx.helper.get_attribute_value(a)) for a in node.attribute}) for node in nodes]


def leading_to(graph: onnx.GraphProto, output: str) -> list[onnx.NodeProto]:
    """The nodes that an output is computed from, in order."""
    wanted, found = {output}, []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            found.append(node)
    return found[::-1]


def constants_of(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> list[np.ndarray[Any, Any]]:
    """Every constant that the nodes read, in order."""
    values = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    return [values[name] for node in nodes for name in node.input if name in values]


def resnet10() -> nn.Module:
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5)


@pytest.mark.parametrize(("build", "layer"), [(TinyResNet, "layer2"), (TinyResNet, "stem"), (resnet10, "layer3")])
def test_the_prediction_is_the_plain_networks_own_graph(build: Any, layer: str, tmp_path: Path) -> None:
    network = seeded(build())
    plain = plain_onnx(network, images(2), tmp_path / "plain.onnx")
    explained = onnx.load(export(ExplainableModel(network, layer), tmp_path / "net.onnx", images(1))).graph
    head = leading_to(explained, "logits")
    assert operations(head) == operations(list(plain.node))
    ours, theirs = constants_of(explained, head), constants_of(plain, list(plain.node))
    assert [each.shape for each in ours] == [each.shape for each in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert np.allclose(a, b, rtol=1e-5, atol=1e-6), "batch norm is folded into the same weights"


def test_the_head_of_a_transformer_is_the_plain_networks_own_graph(tmp_path: Path) -> None:
    network = seeded(TinyViT())
    plain = list(plain_onnx(network, images(2), tmp_path / "plain.onnx").node)
    explained = onnx.load(export(ExplainableModel(network, "blocks.1.norm1"), tmp_path / "net.onnx", images(1))).graph
    # The layer is the third layer norm; behind it attention is taken apart, to keep its probabilities.
    end = [n for n, node in enumerate(plain) if node.op_type == "LayerNormalization"][2] + 1
    assert end > 40
    assert operations(leading_to(explained, "logits")[:end]) == operations(plain[:end])
    named = [node.name for node in leading_to(explained, "logits")[:end]]
    assert named[-1] == "blocks/1/norm1/LayerNormalization"


class Windows(nn.Module):
    """Attention within windows of 2 x 2 tokens, all of them in one call: five dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 8, 8)
        self.qkv = nn.Linear(8, 24)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 4)

    def forward(self, image: Tensor) -> Tensor:
        rows = self.patch(image).unflatten(2, (-1, 2)).unflatten(4, (-1, 2))  # (N, K, 2, 2, 2, 2)
        tokens = rows.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)  # (N, windows, tokens, K)
        qkv = self.qkv(tokens).unflatten(-1, (3, 2, 4)).permute(3, 0, 1, 4, 2, 5)
        mixed = nn.functional.scaled_dot_product_attention(*qkv.unbind(0))
        tokens = self.norm(tokens + mixed.transpose(2, 3).flatten(3))
        return self.head(tokens.relu().mean((1, 2)))


@pytest.mark.parametrize("layer", ["norm", "patch"])
def test_attention_in_five_dimensions(layer: str, tmp_path: Path) -> None:
    def by_windows(tokens: Tensor) -> Tensor:
        """``(N, 2 x 2 windows, 2 x 2 tokens, K)`` -> ``(N, K, 4, 4)``, or a map as it is."""
        if layer == "patch":
            return tokens
        return tokens.unflatten(2, (2, 2)).unflatten(1, (2, 2)).permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)

    explainable = ExplainableModel(seeded(Windows()), layer, reshape_transform=by_windows)
    lowered = lower(explainable, images(1))
    image = images(3, seed=4)
    want = explainable(image)
    assert want.cam.amax() > 0.5, "a map of zeros would prove nothing"
    for fmt in QUICK_FORMATS:
        got = load(export(lowered, tmp_path / f"net{fmt.suffixes[0]}"))(image)
        assert np.abs(got.cam - want.cam.numpy()).max() <= TOLERANCES["float32"].cam
        assert np.allclose(got.logits, want.logits.numpy(), atol=1e-5)


class Columns(nn.Module):
    """Patches column by column, with the class token at the end; ``rows`` gives the usual order."""

    def __init__(self, *, rows: bool) -> None:
        super().__init__()
        self.rows = rows
        self.patch = nn.Conv2d(3, 16, 8, 8)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 16))
        self.norm = nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, image: Tensor) -> Tensor:
        patches = self.patch(image)
        patches = (patches if self.rows else patches.transpose(2, 3)).flatten(2).transpose(1, 2)
        token = self.cls_token.expand(image.shape[0], -1, -1)
        tokens = self.norm(torch.cat([token, patches] if self.rows else [patches, token], 1))
        mixed = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.head(mixed[:, 0 if self.rows else -1])


def by_columns(tokens: Tensor) -> Tensor:
    """``(N, 6 x 4 + 1, K)`` -> ``(N, K, 4, 6)``."""
    return tokens[:, :-1].transpose(1, 2).unflatten(2, (6, 4)).transpose(2, 3)


def test_tokens_in_an_order_of_their_own(tmp_path: Path) -> None:
    usual = ExplainableModel(seeded(Columns(rows=True)), "norm", normalize=False)
    network = seeded(Columns(rows=False))
    size = (3, 32, 48)
    image = images(3, size, seed=4)
    want = usual(image)
    assert torch.allclose(network(image), want.logits, atol=1e-5), "attention does not mind the order"
    with pytest.raises(LayerError, match="its tokens lie in another order"):
        ExplainableModel(network, "norm", normalize=False)(image)
    explainable = ExplainableModel(network, "norm", normalize=False, reshape_transform=by_columns)
    assert torch.allclose(explainable(image).cam, want.cam, rtol=1e-4, atol=1e-6)
    lowered = lower(explainable, images(1, size))
    for fmt in QUICK_FORMATS:
        got = load(export(lowered, tmp_path / f"net{fmt.suffixes[0]}"))(image)
        assert np.abs(got.cam - want.cam.numpy()).max() <= TOLERANCES["float32"].cam * float(want.cam.max())


def test_a_transform_that_makes_no_map_is_said_to() -> None:
    explainable = ExplainableModel(seeded(Columns(rows=False)), "norm", reshape_transform=lambda tokens: tokens)
    with pytest.raises(LayerError, match=r"reshape_transform made \(1, 25, 16\) of \(1, 25, 16\)"):
        lower(explainable, images(1, (3, 32, 48)))
