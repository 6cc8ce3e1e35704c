"""The mean of a gradient is taken before the last products: the same maps, and weights that are read once."""

import copy
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn

from explainable_model import FORMATS, ExplainableModel, LoweredModel, export, load, lower
from explainable_model.exporters.format import Format
from explainable_model.lowering.passes.average_early import average_early
from tests.support.nets import QUICK_FORMATS, images, seeded

aten = torch.ops.aten
PRODUCTS = ("conv", "matmul", "linear", "index_select")


class UpAndDown(nn.Module):
    """The layer is followed by a transposed convolution, whose gradient is a convolution with a stride."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 12, 3)
        self.up = nn.ConvTranspose2d(12, 4, 3, stride=2, padding=1, output_padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.layer(x)).sigmoid().mean((2, 3))


class Shortcut(nn.Module):
    """The gradient of the layer is a sum: of a shortcut with a stride, and of a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 12, 3)
        self.wide, self.short = nn.Conv2d(12, 16, 3, 2, 1), nn.Conv2d(12, 16, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        return (self.wide(x).sigmoid() + self.short(x)).relu().mean((2, 3))


class OwnMean(nn.Module):
    """The network itself averages behind a product."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 5, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layer(x).relu()).flatten(2).mean(2)


def behind(*tail: nn.Module, dims: int = 2) -> nn.Module:
    """A network whose layer "0" is followed by a tail that ends in classes."""
    convolution = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims](3, 12, 3)
    return seeded(nn.Sequential(convolution, *tail))


def pooled(*tail: nn.Module, dims: int = 2) -> nn.Module:
    pool = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}[dims](1)
    return behind(*tail, nn.SiLU(), pool, nn.Flatten(), dims=dims)


# Networks of 8x8 images whose layer "0" or "layer" is 6x6, and how many products with a weight are left behind it.
NETWORKS = {
    "AlexNet": behind(nn.Flatten(), nn.Linear(432, 20), nn.ReLU(), nn.Linear(20, 5)),
    "one linear layer": behind(nn.Flatten(), nn.Linear(432, 5)),
    "pooled before": behind(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(192, 20), nn.ReLU(), nn.Linear(20, 5)),
    "SqueezeNet": behind(nn.Conv2d(12, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    "padded": pooled(nn.Conv2d(12, 16, 3, padding=1)),
    "dilated": pooled(nn.Conv2d(12, 16, 2, dilation=2)),
    "strides": pooled(nn.Conv2d(12, 16, 3, stride=2, padding=1)),
    "strides that leave a rest": pooled(nn.Conv2d(12, 16, (2, 1), stride=(4, 3))),
    "1-D": pooled(nn.Conv1d(12, 16, 3, padding=1), dims=1),
    "3-D": pooled(nn.Conv3d(12, 16, 2, stride=2), dims=3),
    "transposed": seeded(UpAndDown()),
    "shortcut": seeded(Shortcut()),
}  # fmt: skip


def image_of(name: str, batch: int = 2) -> Tensor:
    dims = int(name[0]) if name[1:] == "-D" else 2
    return torch.randn(batch, 3, *[8] * dims, dtype=torch.float64, generator=torch.Generator().manual_seed(batch))


def raw(network: nn.Module, **options: object) -> ExplainableModel:
    layer = "layer" if hasattr(network, "layer") else "0"
    return ExplainableModel(network, layer, normalize=False, upsample=False, signed=True, **options)


def lowered_without(monkeypatch: pytest.MonkeyPatch, explainable: ExplainableModel, image: Tensor) -> LoweredModel:
    with monkeypatch.context() as patch:
        patch.setattr("explainable_model.lowering.pipeline.average_early", lambda module: 0)
        return lower(explainable, image)


def averages_after_a_product(module: fx.GraphModule) -> list[fx.Node]:
    """The means of a map that a product made."""
    means = [node for node in module.graph.nodes if node.target is aten.mean.dim]
    return [node for node in means if any(word in str(made_by(node)) for word in PRODUCTS)]


def made_by(node: fx.Node) -> object:
    while node.target in (aten.mean.dim, aten.flatten.using_ints, aten.reshape.default, aten.add.Tensor):
        node = node.args[0]
    return node.target


@pytest.mark.parametrize("name", NETWORKS)
def test_the_map_is_the_same_to_rounding_in_float64(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = copy.deepcopy(NETWORKS[name]).double()
    explainable, image = raw(network), image_of(name)
    early, late = lower(explainable, image), lowered_without(monkeypatch, explainable, image)
    assert averages_after_a_product(late.graph_module)
    assert not averages_after_a_product(early.graph_module)
    for batch in (1, 5):
        fresh = image_of(name, batch)
        want = explainable(fresh)
        assert want.cam.abs().max() > 1e-6
        for lowered in (early, late):
            got = lowered(fresh)
            assert torch.allclose(got.cam, want.cam, rtol=1e-12, atol=1e-13 * float(want.cam.abs().max()))
            assert torch.equal(got.logits, want.logits) or torch.allclose(got.logits, want.logits, rtol=1e-14)


def test_several_classes_at_once() -> None:
    network = copy.deepcopy(NETWORKS["AlexNet"]).double()
    explainable, image = raw(network, top_k=3), image_of("AlexNet")
    got, want = lower(explainable, image)(image), explainable(image)
    assert torch.allclose(got.cam, want.cam, rtol=1e-12, atol=1e-14)


def test_the_weight_behind_flatten_is_read_once() -> None:
    lowered = lower(raw(NETWORKS["AlexNet"]), torch.randn(2, 3, 8, 8))
    readers = Counter(tuple(node.meta["val"].shape) for node in constants_of_products(lowered.graph_module))
    assert readers[20, 432] == 1  # the forward
    assert readers[20, 12] == 1  # the gradient, for which 12 channels are enough


def constants_of_products(module: fx.GraphModule) -> list[fx.Node]:
    products = [node for node in module.graph.nodes if node.target in (aten.linear.default, aten.matmul.default)]
    return [argument for node in products for argument in node.all_input_nodes if argument.op == "get_attr"]


def test_no_kernel_is_stored_for_a_single_position() -> None:
    network = NETWORKS["SqueezeNet"]
    lowered = lower(raw(network), torch.randn(2, 3, 8, 8))
    stored = sum(tensor.numel() for tensor in lowered.graph_module.buffers())
    assert stored == sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("method", ["hirescam", "gradcam++", "layercam"])
def test_a_method_that_reads_every_position_keeps_them(method: str) -> None:
    explainable = raw(NETWORKS["padded"], method=method)
    image = torch.randn(2, 3, 8, 8)
    lowered = lower(explainable, image)
    assert torch.allclose(lowered(image).cam, explainable(image).cam, atol=1e-6)


def test_the_networks_own_mean_stays_where_it_is() -> None:
    network = seeded(OwnMean())
    image = torch.randn(2, 3, 8, 8)
    lowered = lower(raw(network), image)
    (own,) = averages_after_a_product(lowered.graph_module)
    assert own.meta["val"].shape[1] == 5
    assert torch.equal(lowered(image).logits, network(image))


def test_what_spares_nothing_stays() -> None:
    """Where the layer has few channels, the sums for each place of the kernel cost more than the convolution."""
    tail = (nn.Conv2d(4, 16, 3), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = seeded(nn.Sequential(nn.Conv2d(3, 4, 3), *tail))
    image = torch.randn(2, 3, 8, 8)
    explainable = raw(network)
    lowered = lower(explainable, image)
    assert averages_after_a_product(lowered.graph_module)
    assert torch.allclose(lowered(image).cam, explainable(image).cam, atol=1e-6)


def test_coarse_precision_averages_products() -> None:
    network = copy.deepcopy(NETWORKS["AlexNet"]).bfloat16()
    lowered = lower(raw(network), torch.randn(2, 3, 8, 8).bfloat16())
    assert average_early(lowered.graph_module) == 0
    assert not any("mean" in name for name, _ in lowered.graph_module.named_buffers())


@pytest.mark.parametrize(
    ("name", "fmt"),
    [("AlexNet", fmt) for fmt in FORMATS.values()]
    + [(name, fmt) for name in ("SqueezeNet", "shortcut") for fmt in QUICK_FORMATS],
    ids=lambda each: getattr(each, "name", each),
)
def test_every_format(name: str, fmt: Format, tmp_path: Path) -> None:
    for package in fmt.packages:
        reason = f"{package} has an environment of its own" if package == "litert_torch" else None
        pytest.importorskip(package, reason=reason)
    network = NETWORKS[name]
    explainable = ExplainableModel(network, "layer" if hasattr(network, "layer") else "0")
    path = tmp_path / f"model{fmt.suffixes[0]}"
    export(explainable, path, images(2, (3, 8, 8)))
    fresh = images(2 if fmt.fixed_size else 3, (3, 8, 8), seed=1)
    got, want = load(path, trusted=True)(fresh.numpy()), explainable(fresh)
    assert want.cam.amax() > 0.5
    assert torch.allclose(torch.as_tensor(got.cam), want.cam, atol=1e-5)
