"""Open height and width: the map of every size is the network's own, and what cannot have it says so."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from explainable_model import ExplainableModel, export, load, lower, read_metadata
from explainable_model.artifact.shapes import SizeRange
from explainable_model.artifact.tolerances import TOLERANCES
from explainable_model.errors import InputError, LoweringError, StaticBatchWarning
from explainable_model.exporters.torchscript import quiet_torchscript, script
from tests.support.cli_run import Run
from tests.support.nets import QUICK_FORMATS, TinyResNet, TinySegmenter, TinyViT, images, seeded


class UNet(nn.Module):
    """Halves and doubles the image: even sizes only."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, 3, padding=1)
        self.deep = nn.Conv2d(4, 6, 3, padding=1)
        self.up = nn.ConvTranspose2d(6, 4, 2, 2)
        self.out = nn.Conv2d(8, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        fine = torch.tanh(self.down(image))
        deep = torch.tanh(self.deep(functional.max_pool2d(fine, 2)))
        return self.out(torch.cat([fine, self.up(deep)], 1))


class Resampling(nn.Module):
    """Each way to make a map smaller or larger that may follow the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2, 1)
        self.fc = nn.Linear(4 * 6, 3)

    def forward(self, image: Tensor) -> Tensor:
        activations = torch.tanh(self.conv(image))
        pooled = functional.avg_pool2d(activations, 3, 2, 1, ceil_mode=True)
        doubled = functional.interpolate(pooled, scale_factor=2, mode="nearest")
        smooth = functional.interpolate(doubled, size=activations.shape[2:], mode="bilinear", align_corners=True)
        largest = functional.max_pool2d(smooth * activations, 3, 2, 1, ceil_mode=True)
        return self.fc(functional.adaptive_avg_pool2d(torch.tanh(largest), (2, 3)).flatten(1))


def signal() -> nn.Module:
    return nn.Sequential(nn.Conv1d(3, 4, 5, 2), nn.Tanh(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 3))


def volume() -> nn.Module:
    return nn.Sequential(nn.Conv3d(3, 4, 3, 2), nn.Tanh(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 3))


def allowed(size: tuple[int, ...], sizes: Sequence[SizeRange] | None) -> tuple[int, ...]:
    """The nearest larger size: PyTorch 2.11 refuses odd ones where later versions do not."""
    assert sizes is not None
    return tuple(max(r.minimum, -(-n // r.multiple) * r.multiple) for n, r in zip(size, sizes, strict=True))


# Network, layer, size of the example, other sizes
CASES = {
    "resnet": (TinyResNet, "stem", (32, 32), [(33, 47), (9, 9), (64, 31)]),
    "segmenter": (TinySegmenter, "backbone.1", (24, 32), [(33, 47), (7, 9), (64, 31)]),
    "unet": (UNet, "deep", (16, 24), [(18, 14), (6, 40)]),
    "resampling": (Resampling, "conv", (24, 32), [(25, 41), (31, 17), (60, 33)]),
    "tokens": (TinyViT, "blocks.1.norm1", (32, 48), [(40, 24), (19, 33)]),
    "signal": (signal, "1", (40,), [(41,), (90,)]),
    "volume": (volume, "1", (9, 10, 11), [(10, 7, 19)]),
}


@pytest.mark.parametrize("name", list(CASES))
def test_equals_eager_at_every_size(name: str) -> None:
    build, layer, size, others = CASES[name]
    explainable = ExplainableModel(seeded(build()).double(), layer, normalize=False)
    lowered = lower(explainable, images(1, (3, *size)).double(), dynamic_size=True)
    assert lowered.dynamic_batch
    assert lowered.image_shape == [None, 3, *[None] * len(size)]
    for batch, other in enumerate([size, *(allowed(other, lowered.sizes) for other in others)], start=1):
        image = images(batch, (3, *other), seed=batch).double()
        classes = torch.arange(batch) % 3
        want, got = explainable(image, classes), lowered(image, classes)
        assert got.cam.shape == (batch, *other)
        assert want.cam.max() > 0, "a map of zeros would prove nothing"
        assert (got.cam - want.cam).abs().max() <= TOLERANCES["float64"].cam * want.cam.max()
        assert (got.logits - want.logits).abs().max() <= TOLERANCES["float64"].logits * want.logits.abs().max()


@pytest.mark.parametrize(
    ("method", "kind"), [("ablationcam", TinyResNet), ("eigencam", TinyResNet), ("legrad", TinyViT)]
)
def test_other_methods(method: str, kind: type[nn.Module]) -> None:
    explainable = ExplainableModel(seeded(kind()).double(), "layer2" if kind is TinyResNet else None, method)
    lowered = lower(explainable, images(1, (3, 32, 48)).double(), dynamic_size=True)
    image = images(2, (3, *allowed((41, 32), lowered.sizes)), seed=3).double()
    want = explainable(image)
    assert want.cam.max() > 0.5
    assert (lowered(image).cam - want.cam).abs().max() <= 10 * TOLERANCES["float64"].cam


def test_a_method_that_visits_every_position_is_refused() -> None:
    with pytest.raises(LoweringError, match=r"an open height and width: .*Recipro-CAM"):
        lower(ExplainableModel(seeded(TinyResNet()), "layer2", "reciprocam"), images(1), dynamic_size=True)


def resnet10() -> nn.Module:
    """torchvision's, with one block for each of resnet18's two."""
    return seeded(torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=5))


FORMAT_CASES = [
    (lambda: seeded(TinySegmenter()), "backbone.1", (24, 32), [(33, 47), (64, 21)]),
    (resnet10, "layer4", (64, 64), [(65, 97)]),
]


@pytest.mark.parametrize(("build", "layer", "size", "others"), FORMAT_CASES, ids=["segmenter", "resnet"])
def test_every_format_at_other_sizes(build, layer, size, others, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    explainable = ExplainableModel(build(), layer)
    lowered = lower(explainable, images(1, (3, *size)), dynamic_size=True)
    for fmt in QUICK_FORMATS:
        path = export(lowered, tmp_path / f"net{fmt.suffixes[0]}")
        metadata, session = read_metadata(path), load(path)
        assert metadata.image_shape == [None, 3, None, None]
        assert metadata.cam_shape == [None, None, None]
        assert metadata.logits_shape[2:] == ([None, None] if layer == "backbone.1" else [])
        assert metadata.sizes == list(lowered.sizes or ())
        for batch, other in enumerate((allowed(other, lowered.sizes) for other in others), start=2):
            image, classes = images(batch, (3, *other), seed=batch), torch.arange(batch)
            want, got = explainable(image, classes), session(image, classes)
            assert np.abs(got.cam - want.cam.numpy()).max() <= TOLERANCES["float32"].cam
            assert np.abs(got.logits - want.logits.numpy()).max() <= 1e-4 * float(want.logits.abs().max())
            assert want.cam.max() > 0.5, "a map of zeros would prove nothing"
        with pytest.raises(InputError, match=r"net\.\w+ expects \(N, 3, H, W\) with a width of \d+ or more"):
            session(images(1, (3, 64, 2)))


class Pooled(nn.Module):
    """Adaptive pooling to several cells, whose windows depend on the size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2)
        self.fc = nn.Linear(4 * 6, 3)

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(functional.adaptive_avg_pool2d(torch.tanh(self.conv(image)), (2, 3)).flatten(1))


def test_adaptive_pooling_in_onnx(tmp_path: Path) -> None:
    explainable = ExplainableModel(seeded(Pooled()), "conv")
    session = load(export(explainable, tmp_path / "net.onnx", images(1, (3, 32, 32)), dynamic_size=True))
    for size in ((41, 24), (28, 60)):
        image = images(2, (3, *allowed(size, session.metadata.sizes)), seed=3)
        assert np.abs(session(image).cam - explainable(image).cam.numpy()).max() <= TOLERANCES["float32"].cam


def test_multiples_are_found_and_held_to(tmp_path: Path) -> None:
    import onnx

    lowered = lower(ExplainableModel(seeded(UNet()), "deep"), images(1, (3, 16, 24)), dynamic_size=True)
    assert lowered.sizes == (SizeRange(4, 2), SizeRange(4, 2))
    with pytest.raises(InputError, match=r"\(N, 3, H, W\) with a height of 4 or more, a multiple of 2"):
        lowered(images(1, (3, 15, 16)))
    with quiet_torchscript(), pytest.raises(torch.jit.Error, match=r"multiple of \[1, 1, 2, 2\]"):
        script(lowered)(images(1, (3, 16, 15)))
    path = export(lowered, tmp_path / "net.onnx")
    with pytest.raises(InputError, match="a width of 4 or more, a multiple of 2"):
        load(path)(images(1, (3, 16, 15)))
    with pytest.raises(InputError, match=r"expects \(N, 3, H, W\)\."):
        load(path)(images(1, (1, 16, 16)))
    graph = onnx.load(path).graph
    named = [[d.dim_param for d in v.type.tensor_type.shape.dim] for v in (*graph.input, *graph.output)]
    assert named[:2] == [["batch", "", "height", "width"], ["batch"]]
    assert named[3:] == [["batch"], ["batch", "height", "width"]]


# What takes one size only


class Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 8, 8)
        self.positions = nn.Parameter(torch.zeros(1, 16, 8))
        self.norm = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 3)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.norm(self.patch(image).flatten(2).transpose(1, 2) + self.positions)
        return self.fc(torch.tanh(tokens).mean(1))


class FlatClassifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, 4)
        self.fc = nn.Linear(2 * 8 * 8, 3)

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(torch.tanh(self.conv(image)).flatten(1))


class AnotherPathForLarge(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, 3)

    def forward(self, image: Tensor) -> Tensor:
        activations = torch.tanh(self.conv(image))
        if image.shape[2] > 40:
            activations = activations * 2
        return self.fc(activations.mean((2, 3)))


class SquareOnly(AnotherPathForLarge):
    def forward(self, image: Tensor) -> Tensor:
        activations = torch.tanh(self.conv(image))
        return self.fc((activations + activations.transpose(2, 3)).mean((2, 3)))


@pytest.mark.parametrize(
    ("kind", "layer", "message"),
    [
        (Positions, "norm", r"an open height and width: .*H // 8\) == 16\. Networks with a table of positions"),
        (
            FlatClassifier,
            "conv",
            r"an open height and width: .* == 128\. .*resize the images",
        ),
        (AnotherPathForLarge, "conv", r"break its condition H <= 40.*dynamic_size=False.*give a larger example"),
        (SquareOnly, "conv", r"an open height and width: .*break its condition .*H"),
    ],
)
@pytest.mark.parametrize("top_k", [None, 2])
def test_networks_of_one_size_are_refused(
    kind: type[nn.Module], layer: str, message: str, top_k: int | None, tmp_path: Path
) -> None:
    explainable = ExplainableModel(seeded(kind()), layer, top_k=top_k)
    with pytest.raises(LoweringError, match=message):
        export(explainable, tmp_path / "net.ts", images(1), dynamic_size=True)
    assert list(tmp_path.iterdir()) == []
    assert lower(explainable, images(1)).sizes is None


def test_an_open_size_with_one_batch_size() -> None:
    class Loop(AnotherPathForLarge):
        def forward(self, image: Tensor) -> Tensor:
            activations = torch.tanh(self.conv(image))
            return torch.stack([self.fc(activations[n].mean((1, 2))) for n in range(len(image))])

    explainable = ExplainableModel(seeded(Loop()), "conv")
    with pytest.warns(StaticBatchWarning):
        lowered = lower(explainable, images(2), dynamic_size=True)
    image = images(2, (3, 17, 45), seed=3)
    assert lowered.image_shape == [2, 3, None, None]
    assert torch.allclose(lowered(image).cam, explainable(image).cam, atol=1e-5)


def test_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "net.ts"
    run = Run(capsys, "export", "--model", "tests.support.cli_nets:named", "-o", path, "--dynamic-size", "--json")
    assert run.code == 0
    assert run.record["image_shape"] == [None, 3, None, None]
    sizes = [SizeRange(**size) for size in run.record["sizes"]]
    assert all(size.minimum <= 10 and size.multiple <= 2 for size in sizes)
    for command in (["verify", path], ["verify", path, "--model", "tests.support.cli_nets:named"]):
        assert Run(capsys, *command).code == 0
    assert f"sizes: ({sizes[0]}, {sizes[1]})" in Run(capsys, "inspect", path).out
    assert load(path)(images(1, (3, 50, 70))).cam.shape == (1, 50, 70)


# The matrices against torch's own operators
