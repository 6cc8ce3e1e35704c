"""Token sequences of images that are not square: every token in its place, last and automatic layer, lowered too."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.networks import Network, build
from explainable_model import ExplainableModel, find_layers, lower
from explainable_model.artifact.tolerances import TOLERANCES
from explainable_model.attribution.layout import find_layout
from explainable_model.eager.find_layer import default_layer


@dataclass(frozen=True)
class Case:
    """A transformer and what its tokens are.

    Attributes:
        name: in timm.
        patch: height and width of a patch.
        prefix: class, distillation and register tokens in front.
        embedded: the layer right after the patches were embedded, before tokens are mixed.
        default: the automatic layer.
        options: for the builder.
        kind: how the embedded tokens are arranged.
        merged: how often neighbours are merged into one before the automatic layer.
    """

    name: str
    patch: int
    prefix: int
    embedded: str
    default: str
    options: dict[str, Any] = field(default_factory=dict)
    kind: str = "tokens"
    merged: int = 0

    @property
    def size(self) -> tuple[int, int]:
        return 4 * self.patch, 6 * self.patch

    def build(self) -> nn.Module:
        options = {"img_size": self.size, "num_classes": 10, **self.options}
        return build(Network("timm", self.name, "", options=options)).double()

    def images(self, count: int) -> Tensor:
        generator = torch.Generator().manual_seed(count)
        return torch.randn(count, 3, *self.size, generator=generator, dtype=torch.float64)


VIT = {"depth": 2}
SWIN = {"depths": (2, 2), "num_heads": (2, 4), "embed_dim": 32, "window_size": 2}
CASES = [
    Case("vit_tiny_patch16_224", 16, 1, "norm_pre", "blocks.1.norm1", VIT),
    Case("vit_tiny_patch16_224", 16, 0, "norm_pre", "blocks", {**VIT, "class_token": False, "global_pool": "avg"}),
    Case("deit_tiny_distilled_patch16_224", 16, 2, "norm_pre", "blocks.1.norm1", VIT),
    Case("vit_small_patch14_reg4_dinov2", 14, 5, "norm_pre", "blocks.1.norm1", VIT),
    Case("vit_little_patch16_reg4_gap_256", 16, 4, "norm_pre", "blocks", VIT),
    Case("eva02_tiny_patch14_224", 14, 1, "pos_drop", "blocks.1", VIT),
    Case("swin_tiny_patch4_window7_224", 4, 0, "patch_embed", "norm", SWIN, "channels_last", 1),
]


def identified(case: Case) -> str:
    return f"{case.name}-{case.prefix}"


@pytest.fixture(scope="module", params=CASES, ids=identified)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture(scope="module")
def network(case: Case) -> nn.Module:
    return case.build()


def test_each_patch_is_a_cell_of_the_map(case: Case, network: nn.Module) -> None:
    image = case.images(1)
    layer = network.get_submodule(case.embedded)
    outputs: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    for row, column in ((0, 0), (2, 1), (1, 5), (3, 4)):
        changed = image.clone()
        there = (slice(row * case.patch, (row + 1) * case.patch), slice(column * case.patch, (column + 1) * case.patch))
        changed[..., there[0], there[1]] += 1
        outputs.clear()
        with torch.no_grad():
            network(image)
            network(changed)
        layout = find_layout(outputs[0].shape, image.shape)
        assert layout is not None
        assert (layout.kind, layout.grid, layout.prefix) == (case.kind, (4, 6), case.prefix)
        moved = (layout.to_map(outputs[1]) - layout.to_map(outputs[0])).abs().sum(1)[0]
        assert moved.nonzero().tolist() == [[row, column]]
    handle.remove()


def test_the_automatic_layer_has_the_grid(case: Case, network: nn.Module) -> None:
    image = case.images(1)
    assert default_layer(network, image) == case.default
    found = {layer.name: layer.layout for layer in find_layers(network, image)}
    assert found[case.default].grid == (4 >> case.merged, 6 >> case.merged)
    assert found[case.default].prefix == case.prefix


def test_lowered_is_eager(case: Case, network: nn.Module) -> None:
    layer = case.embedded if case.merged or case.prefix == 5 else case.default  # the whole network, or its end
    explainable = ExplainableModel(network, layer, normalize=False)
    lowered = lower(explainable, case.images(2))
    classes = torch.tensor([7, 1, 4])
    want, got = explainable(case.images(3), classes), lowered(case.images(3), classes)
    assert want.cam.shape == (3, *case.images(1).shape[2:])
    assert want.cam.amax() > 0, "a map of zeros would prove nothing"
    assert (got.cam - want.cam).abs().max() <= TOLERANCES["float64"].cam * want.cam.max()
