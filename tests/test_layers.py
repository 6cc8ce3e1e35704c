"""Reading shapes as maps, resolving names, and the automatic choice."""

import pytest
import torch
from torch import nn

from explainable_model import ExplainableModel, find_layers
from explainable_model.errors import LayerError
from explainable_model.layers import SpatialLayout, default_layer, find_layout, resolve_layer
from tests.nets import CASES, TinyResNet, TinySegmenter, TinyViT, images, seeded


@pytest.mark.parametrize(
    ("shape", "image", "expected"),
    [
        ((2, 512, 7, 7), (2, 3, 224, 224), ("channels_first", (7, 7), 0)),
        ((2, 7, 7, 768), (2, 3, 224, 224), ("channels_last", (7, 7), 0)),
        ((2, 7, 7, 7), (2, 3, 224, 224), ("channels_first", (7, 7), 0)),
        ((2, 96, 7, 12), (2, 3, 224, 384), ("channels_first", (7, 12), 0)),
        ((2, 7, 12, 96), (2, 3, 224, 384), ("channels_last", (7, 12), 0)),
        ((2, 64, 4, 5), (2, 3, 32, 33), ("channels_first", (4, 5), 0)),
        ((2, 8, 1, 1), (2, 3, 32, 32), ("channels_first", (1, 1), 0)),
        ((2, 196, 192), (2, 3, 224, 224), ("tokens", (14, 14), 0)),
        ((2, 197, 192), (2, 3, 224, 224), ("tokens", (14, 14), 1)),
        ((2, 198, 192), (2, 3, 224, 224), ("tokens", (14, 14), 2)),
        ((2, 261, 192), (2, 3, 224, 224), ("tokens", (16, 16), 5)),
        ((2, 141, 192), (2, 3, 224, 160), ("tokens", (14, 10), 1)),
        ((2, 281, 192), (2, 3, 224, 320), ("tokens", (14, 20), 1)),
        ((2, 4, 18), (2, 2, 40), ("channels_first", (18,), 0)),
        ((2, 4, 3, 4, 5), (2, 1, 9, 12, 15), ("channels_first", (3, 4, 5), 0)),
        ((2, 1000), (2, 3, 224, 224), None),
        ((2, 23, 192), (2, 3, 224, 224), None),
        ((2, 3, 4, 5, 6), (2, 3, 224, 224), None),
    ],
)
def test_find_layout(shape: tuple[int, ...], image: tuple[int, ...], expected: tuple[str, ...] | None) -> None:
    layout = find_layout(shape, image)
    assert (None if layout is None else (layout.kind, layout.grid, layout.prefix)) == expected


def test_to_map_puts_every_value_in_its_place() -> None:
    first = torch.arange(24.0).reshape(1, 2, 3, 4)
    last = first.permute(0, 2, 3, 1)
    tokens = torch.cat([torch.full((1, 2, 2), -1.0), last.reshape(1, 12, 2)], 1)
    assert torch.equal(SpatialLayout("channels_last", (3, 4)).to_map(last), first)
    assert torch.equal(SpatialLayout("tokens", (3, 4), prefix=2).to_map(tokens), first)


def test_resolve_layer() -> None:
    network = TinyResNet()
    assert resolve_layer(network, "layer1.bn1") == "layer1.bn1"
    assert resolve_layer(network, network.layer1.bn1) == "layer1.bn1"
    with pytest.raises(LayerError, match="Its top-level layers are fc, layer1, layer2, pool, stem"):
        resolve_layer(network, "nothing like it")
    with pytest.raises(LayerError):
        resolve_layer(network, "")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("resnet", "layer2"), ("mobilenet", "project"), ("vit", "blocks.1.norm1"), ("segmenter", "backbone")],
)
def test_default_layer(name: str, expected: str) -> None:
    case = CASES[name]
    network = seeded(case.network())
    assert default_layer(network, images(1, case.size)) == expected
    explainable = ExplainableModel(network)
    assert explainable.target_layer is None
    by_default = explainable(images(2, case.size))
    assert explainable.target_layer == expected
    assert torch.equal(by_default.cam, ExplainableModel(network, expected)(images(2, case.size)).cam)


def test_default_layer_skips_the_class_map_itself() -> None:
    body = seeded(TinySegmenter())
    for batch in (1, 8):  # not "classifier", whose channels are the classes, whichever those of a batch are
        assert default_layer(body, images(batch)) == "backbone"


def test_default_layer_of_a_zero_head_is_an_error() -> None:
    network = seeded(TinyViT())
    nn.init.zeros_(network.head.weight)
    with pytest.raises(LayerError, match="weights are all zero"):
        ExplainableModel(network)(images(1))


def test_find_layers() -> None:
    found = {layer.name: layer for layer in find_layers(seeded(TinyResNet()), images(1))}
    assert found["layer2"].shape == (1, 16, 4, 4)
    assert found["layer2"].type == "ResidualBlock"
    assert "fc" not in found
    assert list(found)[-1] == "layer2"
    assert "layer2.relu" not in found, "the same tensor is listed once, under the outermost name"
    tokens = find_layers(seeded(TinyViT()), images(1))
    assert next(layer.layout for layer in tokens if layer.name == "blocks.0") == SpatialLayout("tokens", (4, 4), 1)
