"""ONNX artifacts of every opset, in ONNX Runtime and in ONNX's own reference, and what an opset cannot say."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn
from torch.nn import functional

from explainable_model import ExplainableModel, export, load, lower, read_metadata
from explainable_model.errors import InputError, LoweringError
from explainable_model.exporters.onnx_opset import known_opsets
from tests.support.cli_run import Run
from tests.support.nets import CASES, TinyResNet, images, seeded
from tests.support.onnx_soundness import check_onnx_file

NEWEST = known_opsets()[-1]


class Activations(nn.Module):
    """Layers that older opsets lack."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2)
        self.norm = nn.GroupNorm(2, 4)
        self.last = nn.LayerNorm(4)
        self.head = nn.Linear(4, 5)

    def forward(self, image: Tensor) -> Tensor:
        x = functional.mish(self.norm(self.conv(image))) + 0.1
        first, second = functional.hardswish(functional.pad(x, (1, 1, 0, 2), value=0.5)).chunk(2, 1)
        x = torch.cat([functional.gelu(first), second.amax(3, keepdim=True) + second], 1)
        return self.head(self.last(functional.interpolate(x, scale_factor=2.0).mean((2, 3))))


class Warped(nn.Module):
    """Samples its image at places that it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, image: Tensor) -> Tensor:
        turn = torch.tensor([[[0.9, 0.1, 0.0], [-0.1, 0.9, 0.0]]]).expand(image.shape[0], 2, 3)
        grid = functional.affine_grid(turn, list(image.shape), align_corners=False)
        warped = functional.grid_sample(image, grid, align_corners=False)
        return self.head(functional.relu(self.conv(warped)).mean((2, 3)))


NETWORKS = {**{name: (case.network, case.last) for name, case in CASES.items()}, "activations": (Activations, "conv")}
TRIED = {"activations": (13, NEWEST), "vit": (13,)}
"""The opsets that are tried of each network; ``python -m benchmarks opsets`` tries all."""


def compare(path: Path, explainable: ExplainableModel, opset: int) -> None:
    """Compare ONNX Runtime and ONNX's reference with the network, and the file with its record."""
    check_onnx_file(path)
    model = onnx.load(path)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", opset)]
    assert read_metadata(path).opset == opset
    session, reference = load(path, threads=1), ReferenceEvaluator(model)
    for batch in (1, 3):
        image, asked = images(batch, seed=40 + batch), torch.arange(batch) % 3 - 1
        want = explainable(image, asked)
        found = session(image, asked)
        given = {"image": image.numpy(), "class_idx": asked.numpy()}
        answers = {"ONNX Runtime": found.cam, "onnx.reference": reference.run(["cam"], given)[0]}
        for name, cam in answers.items():
            assert np.abs(cam - want.cam.numpy()).max() < 1e-4, f"{name} at opset {opset}"
        assert want.cam.max() > 0.5, "a map of zeros would prove nothing"


@pytest.mark.parametrize("name", list(TRIED))
def test_opsets(name: str, tmp_path: Path) -> None:
    network, layer = NETWORKS[name]
    explainable = ExplainableModel(seeded(network()), layer)
    lowered = lower(explainable, images(2))
    for opset in TRIED[name]:
        compare(export(lowered, tmp_path / "net.onnx", opset=opset), explainable, opset)


def test_other_formats_have_none(tmp_path: Path) -> None:
    explainable = ExplainableModel(seeded(TinyResNet()), "layer2")
    with pytest.raises(InputError, match=r"opset is for onnx; leave it out for net\.ts"):
        export(explainable, tmp_path / "net.ts", images(1), opset=17)
    assert read_metadata(export(explainable, tmp_path / "net.ts", images(1))).opset is None


@pytest.mark.parametrize("opset", [12, NEWEST + 1, 0, "18", True, 17.0])
def test_unknown_opsets(opset: object, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"opset is {opset!r}; expected a number from 13 to {NEWEST}"):
        export(ExplainableModel(seeded(TinyResNet()), "layer2"), tmp_path / "net.onnx", images(1), opset=opset)


def test_an_operator_that_an_opset_lacks_is_named(tmp_path: Path) -> None:
    explainable = ExplainableModel(seeded(Warped()), "conv")
    lowered = lower(explainable, images(2))
    with pytest.raises(
        LoweringError, match=r"Warped cannot be written in opset 15, which has no GridSample\. Export with opset=16 or"
    ):
        export(lowered, tmp_path / "net.onnx", opset=15)
    assert list(tmp_path.iterdir()) == []
    session = load(export(lowered, tmp_path / "net.onnx", opset=20))  # its modes have other names since 20
    assert np.abs(session(images(3, seed=7)).cam - explainable(images(3, seed=7)).cam.numpy()).max() < 1e-4


def test_photos_need_antialiasing(tmp_path: Path) -> None:
    from explainable_model import Preprocess

    explainable = ExplainableModel(seeded(TinyResNet()), "layer2")
    given = {"preprocess": Preprocess(size=(32, 32)), "pixels": "NHWC"}
    with pytest.raises(LoweringError, match=r"opset 17, which has no antialiased resizing.*Export with opset=18"):
        export(explainable, tmp_path / "net.onnx", images(1), opset=17, **given)


def test_in_int8(tmp_path: Path) -> None:
    explainable = ExplainableModel(seeded(TinyResNet()), "layer2")
    given = {"precision": "int8", "calibration": images(8).numpy()}
    check_precise(export(explainable, tmp_path / "net.onnx", images(2), opset=13, **given), 13, "int8")


def check_precise(path: Path, opset: int, precision: str) -> None:
    assert {each.version for each in onnx.load(path).opset_import if not each.domain} == {opset}
    assert (read_metadata(path).opset, read_metadata(path).precision) == (opset, precision)
    check_onnx_file(path)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.onnx"
    precise = "--precision", "float16"
    run = Run(
        capsys, "export", "--model", "tests.support.cli_nets:wide", "-o", path, "--opset", "14", *precise, "--json"
    )
    assert run.code == 0, run.err
    assert run.record["opset"] == 14
    check_precise(path, 14, "float16")
