"""Reading shapes as maps, resolving names, and the automatic choice."""

import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel, find_layers
from explainable_model.attribution.layout import SpatialLayout, find_layout
from explainable_model.eager.find_layer import default_layer
from explainable_model.eager.layer_name import resolve_layer
from explainable_model.errors import LayerError
from tests.support.nets import CASES, TinyResNet, TinySegmenter, TinyViT, images, seeded


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
        ((2, 29, 192), (2, 3, 64, 96), ("tokens", (4, 6), 5)),
        ((2, 9, 192), (2, 3, 28, 28), ("tokens", (2, 2), 5)),
        ((2, 730, 192), (2, 3, 224, 224), ("tokens", (27, 27), 1)),
        ((2, 1054, 192), (2, 3, 224, 320), ("tokens", (27, 39), 1)),
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


class HandsOn(nn.Module):
    """A block that also hands the map of an earlier layer on, unchanged, in front of its own."""

    def __init__(self, *, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place
        self.conv = nn.Conv2d(4, 4, 3, padding=1, stride=2)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (image.sigmoid_() if self.in_place else image), self.conv(image)


class Forked(nn.Module):
    def __init__(self, *, in_place: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.block = HandsOn(in_place=in_place)
        self.head = nn.Linear(4, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        first, second = self.block(self.stem(image))
        return self.head(second.mean((2, 3)) + first.mean((2, 3)))


@pytest.mark.parametrize("in_place", [True, False])
def test_a_layer_that_hands_its_input_on_is_not_listed_for_it(in_place: bool) -> None:
    found = [layer.name for layer in find_layers(seeded(Forked(in_place=in_place)), images(1))]
    assert found == (["block.conv", "block"] if in_place else ["stem", "block.conv"])


class Attentive(nn.Module):
    """Attention with normed queries and keys, read by a class token: only its input is a map with a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 16, 16)
        self.norm = nn.LayerNorm(32)
        self.query_norm = nn.LayerNorm(8)
        self.head = nn.Linear(32, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(image).flatten(2).transpose(1, 2)
        tokens = self.norm(torch.cat([tokens.mean(1, keepdim=True), tokens], 1))
        heads = self.query_norm(tokens.unflatten(2, (4, 8)).transpose(1, 2))  # (N, heads, tokens, width)
        attended = nn.functional.scaled_dot_product_attention(heads, heads, heads)
        return self.head(attended.transpose(1, 2).flatten(2)[:, 0])


def test_queries_are_not_taken_for_a_map() -> None:
    assert default_layer(seeded(Attentive()), images(1, (3, 64, 64))) == "norm"


def test_find_layers_under_inference_mode() -> None:
    with torch.inference_mode():
        assert find_layers(seeded(TinyResNet()), images(1))[-1].name == "layer2"


def test_find_layers() -> None:
    found = {layer.name: layer for layer in find_layers(seeded(TinyResNet()), images(1))}
    assert found["layer2"].shape == (1, 16, 4, 4)
    assert found["layer2"].type == "ResidualBlock"
    assert "fc" not in found
    assert list(found)[-1] == "layer2"
    assert "layer2.relu" not in found, "the same tensor is listed once, under the outermost name"
    tokens = find_layers(seeded(TinyViT()), images(1))
    assert next(layer.layout for layer in tokens if layer.name == "blocks.0") == SpatialLayout("tokens", (4, 4), 1)


class Fixed(nn.Module):
    """Takes batches of four alone."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(image).reshape(4, 4, 32, 32).mean((2, 3)))


class WithLoss(nn.Module):
    """A module inside the network returns a scalar, as a loss is."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.loss, self.pool = nn.Conv2d(3, 4, 3), Mean(), nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4, 2)

    def forward(self, image: Tensor) -> Tensor:
        activations = self.conv(image)
        return self.fc(self.pool(activations).flatten(1)) + 0 * self.loss(activations)


class Mean(nn.Module):
    def forward(self, tensor: Tensor) -> Tensor:
        return tensor.mean()


def test_a_module_that_returns_a_scalar_is_no_layer() -> None:
    network, image = seeded(WithLoss()), images(2, (3, 16, 16))
    assert [layer.name for layer in find_layers(network, image)] == ["conv"]
    assert ExplainableModel(network)(image).cam.shape == (2, 16, 16)
    with pytest.raises(LayerError, match="'loss' has no spatial map: its output has shape \\(\\)"):
        ExplainableModel(network, "loss")(image)


def test_default_layer_looks_at_few_images_of_a_large_batch() -> None:
    network, batches = seeded(CASES["resnet"].network()), []
    network.register_forward_hook(lambda module, inputs, output: batches.append(len(inputs[0])))
    assert default_layer(network, images(8)) == "layer2"
    assert set(batches) == {2}
    assert default_layer(seeded(Fixed()), images(4)) == "body"


def test_default_layer_keeps_no_graph_of_the_whole_network() -> None:
    network, graphs = seeded(nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(20)), nn.Flatten())), []
    network[9].register_forward_hook(lambda module, inputs, output: graphs.append(output.requires_grad))
    assert default_layer(network, images(1)) == "18"  # what follows it is the class map itself
    assert graphs == [False, False]


class Frozen(nn.Module):
    """A backbone under a no_grad of the network's own."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            features = self.backbone(image)
        return self.head(features.mean((2, 3)))


def test_default_layer_under_a_no_grad() -> None:
    assert default_layer(seeded(Frozen()), images(1)) == "backbone"


def test_default_layer_where_few_images_do_not_show_it() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3)
    )
    nn.init.ones_(network[0].weight)
    nn.init.constant_(network[0].bias, -0.1)
    batch = images(4).abs() + 1
    batch[:2] = 0  # nothing passes the activation, and no gradient comes back through it
    assert default_layer(network.eval(), batch) == "1"
    with pytest.raises(LayerError, match="No layer"):
        default_layer(network, batch[:2])


class TwoNames(nn.Module):
    """Every layer of the backbone has a second name."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = TinyResNet()
        self.features = nn.Sequential(*list(self.backbone.children())[:-1])
        self.fc = nn.Linear(16, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.fc(self.features(image).mean((2, 3)))


@pytest.mark.parametrize("wrap", [lambda network: network, nn.DataParallel])
def test_every_name_of_a_layer_is_right(wrap: type[nn.Module]) -> None:
    network = seeded(TwoNames())
    listed = [layer.name for layer in find_layers(network, images(1))]
    assert listed[-1] == "features"
    expected = ExplainableModel(network, network.backbone.layer2)(images(1)).cam
    names = ("backbone.layer2", "features.3", "module.features.3", "module._orig_mod.features.3", network.features[3])
    for name in names:
        assert torch.equal(ExplainableModel(wrap(network), name)(images(1)).cam, expected)
    for name in listed:
        assert ExplainableModel(network, name).target_layer == name


def test_an_image_of_zeros_is_named_as_the_reason() -> None:
    """Its ReLU is off everywhere, so that the prediction depends on nothing; a real image has a layer."""

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

        def forward(self, image: Tensor) -> Tensor:
            output: Tensor = self.fc(self.body(image).relu().mean((2, 3)))
            return output

    network = Classifier().eval()
    nn.init.constant_(network.body.weight, 0.1)
    nn.init.constant_(network.body.bias, -0.5)
    with pytest.raises(LayerError, match="all values of the image are equal.*give a real image"):
        default_layer(network, torch.zeros(1, 3, 16, 16))
    assert default_layer(network, torch.rand(1, 3, 16, 16)) == "body"
    nn.init.zeros_(network.fc.weight)
    with pytest.raises(LayerError) as refusal:
        default_layer(network, torch.rand(1, 3, 16, 16))
    assert "equal" not in str(refusal.value)
