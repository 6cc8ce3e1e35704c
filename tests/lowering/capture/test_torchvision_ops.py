"""torchvision's operators, written out: values and gradients against torchvision's own, in float64."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from explainable_model import ExplainableModel, export, load, lower
from explainable_model.errors import LoweringError, VerificationError
from explainable_model.lowering.capture.torchvision_ops import WRITTEN_OUT
from tests.support.nets import QUICK_FORMATS, images, seeded

TOLERANCE = 1e-12
SUFFIXES = [fmt.suffixes[0] for fmt in QUICK_FORMATS]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradients(op: Any, tensors: Sequence[Tensor], options: Sequence[Any]) -> list[Tensor]:
    """What an operator returns, and its gradient by each tensor, zero where there is none."""
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    output = op(*leaves, *options)
    found = torch.autograd.grad(output, leaves, normal(*output.shape, seed=9), allow_unused=True)
    return [output.detach(), *(torch.zeros(()) if gradient is None else gradient for gradient in found)]


def compare(name: str, tensors: Sequence[Tensor], *options: Any) -> None:
    wanted = gradients(getattr(torch.ops.torchvision, name).default, tensors, options)
    got = gradients(WRITTEN_OUT[f"torchvision::{name}"], tensors, options)
    for one, other in zip(got, wanted, strict=True):
        assert torch.isfinite(one).all()
        assert (one - other).abs().max() < TOLERANCE


# Inside, empty, across the border, reversed, tiny, and as large as the map.
BOXES = [[0, 1.0, 2.0, 20, 25], [1, 5, 5, 5, 5], [0, -8, -9, 11, 12], [1, 15, 15, 27, 35], [1, 5.0, 4.0, 2.0, 1.0],
         [0, 3, 3, 3.2, 3.1], [0, 0, 0, 28, 36]]  # fmt: skip


@pytest.mark.parametrize(("ratio", "aligned"), [*itertools.product((1, 2, 3, 0, -1), (True, False))])
@pytest.mark.parametrize("pooled", [(3, 3), (2, 4), (1, 1)], ids=str)
def test_roi_align(ratio: int, aligned: bool, pooled: tuple[int, int]) -> None:
    boxes = torch.tensor(BOXES, dtype=torch.float64)
    compare("roi_align", [normal(2, 3, 9, 7), boxes], 0.25, *pooled, ratio, aligned)


@pytest.mark.parametrize(("groups", "parts"), [*itertools.product((1, 2), (1, 2, 4))])
@pytest.mark.parametrize(
    ("stride", "pad", "dilation"), [((1, 1), (1, 1), (1, 1)), ((2, 1), (0, 2), (1, 1)), ((1, 2), (2, 1), (2, 1))]
)
@pytest.mark.parametrize("use_mask", [True, False])
def test_deform_conv2d(
    groups: int, parts: int, stride: tuple[int, int], pad: tuple[int, int], dilation: tuple[int, int], use_mask: bool
) -> None:
    height = (9 + 2 * pad[0] - 2 * dilation[0] - 1) // stride[0] + 1
    width = (8 + 2 * pad[1] - dilation[1] - 1) // stride[1] + 1
    tensors = [
        normal(2, 4, 9, 8), normal(6, 4 // groups, 3, 2, seed=1), 2 * normal(2, 12 * parts, height, width, seed=2),
        normal(2, 6 * parts, height, width, seed=3), normal(6, seed=4),
    ]  # fmt: skip
    compare("deform_conv2d", tensors, *stride, *pad, *dilation, groups, parts, use_mask)


class Aligned(nn.Module):
    """Reads one box of each image."""

    def __init__(self, box: Sequence[float] = (1, 2, 20, 25), ratio: int = 2) -> None:
        super().__init__()
        self.body, self.fc = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(72, 4)
        self.box, self.ratio = list(map(float, box)), ratio

    def forward(self, image: Tensor) -> Tensor:
        features = self.body(image)
        numbers = torch.arange(image.shape[0], dtype=image.dtype).unsqueeze(1)
        boxes = torch.cat([numbers, image.new_tensor(self.box).expand(image.shape[0], 4)], 1)
        return self.fc(torchvision.ops.roi_align(features, boxes, (3, 3), 0.5, self.ratio, True).flatten(1))


class Deformable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.fc = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(6, 4)
        self.offset, self.mask = nn.Conv2d(8, 18, 3, padding=1), nn.Conv2d(8, 9, 3, padding=1)
        self.deform, self.last = torchvision.ops.DeformConv2d(8, 6, 3, padding=1), nn.Conv2d(6, 6, 3)

    def forward(self, image: Tensor) -> Tensor:
        features = self.body(image)
        features = self.deform(features, self.offset(features), self.mask(features).sigmoid()).relu()
        return self.fc(self.last(features).mean((2, 3)))


CASES: dict[str, tuple[nn.Module, str]] = {
    "aligned": (Aligned(), "body"),
    "adaptive": (Aligned(ratio=-1), "body"),
    "deformable": (Deformable(), "body"),
    "before the layer": (Deformable(), "last"),
}


@pytest.mark.parametrize(("network", "layer"), CASES.values(), ids=CASES)
def test_the_lowered_map_is_exact_at_any_batch(network: nn.Module, layer: str) -> None:
    explainable = ExplainableModel(seeded(network).double(), layer, signed=True, normalize=False)
    lowered = lower(explainable, images(2).double())
    assert lowered.dynamic_batch
    assert not any("torchvision" in str(node.target) for node in lowered.graph_module.graph.nodes)
    wanted, got = explainable(images(3).double()), lowered(images(3).double())
    assert wanted.cam.abs().max() > 1e-4
    assert (got.cam - wanted.cam).abs().max() < TOLERANCE
    assert (got.logits - wanted.logits).abs().max() < TOLERANCE


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("case", ["adaptive", "deformable"])
def test_every_format(case: str, suffix: str, tmp_path: Path) -> None:
    network, layer = CASES[case]
    explainable = ExplainableModel(seeded(network).float(), layer)
    session = load(export(explainable, tmp_path / f"network{suffix}", images(2)))
    assert (torch.from_numpy(session(images(3).numpy()).cam) - explainable(images(3)).cam).abs().max() < 1e-4


def test_what_cannot_be_written_out_is_refused(tmp_path: Path) -> None:
    beyond = ExplainableModel(seeded(Aligned((1, 2, 300, 305), ratio=-1)), "body")
    with pytest.raises(VerificationError, match="logits is not finite"):
        export(beyond, tmp_path / "network.ts", images(2))

    class Pooled(Aligned):
        def forward(self, image: Tensor) -> Tensor:
            boxes = [image.new_tensor(self.box).unsqueeze(0)] * 2
            return self.fc(torchvision.ops.roi_pool(self.body(image), boxes, (3, 3), 0.5).flatten(1))

    with pytest.raises(LoweringError, match="Cannot lower torchvision.roi_pool.default"):
        export(ExplainableModel(seeded(Pooled()), "body"), tmp_path / "network.ts", images(2))
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_are_not_finite_in_torchscript(tmp_path: Path) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.fc = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 4)

        def forward(self, image: Tensor) -> Tensor:
            features = self.body(image)
            masked = torch.where(features > 1e9, torch.nan, features).masked_fill(features < -2, -torch.inf)
            return self.fc(masked.amax((2, 3)))

    explainable = ExplainableModel(seeded(Masked()), "body")
    session = load(export(explainable, tmp_path / "network.ts", images(2)))
    assert (torch.from_numpy(session(images(3).numpy()).cam) - explainable(images(3)).cam).abs().max() < 1e-4
