"""Networks that take one batch size only: lowered for the example's, and said so everywhere."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.layers.bottleneck_attn import BottleneckAttn
from torch import Tensor, nn

from explainable_model import ExplainableModel, export, load, lower, read_metadata
from explainable_model.artifact.tolerances import TOLERANCES
from explainable_model.errors import InputError, LoweringError, StaticBatchWarning
from explainable_model.exporters.torchscript import quiet_torchscript, script
from tests.support.cli_run import Run
from tests.support.nets import QUICK_FORMATS, images, seeded


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, 3)

    def classify(self, activations: Tensor) -> Tensor:
        return self.fc(torch.tanh(activations).mean((2, 3)))

    def forward(self, image: Tensor) -> Tensor:
        return self.classify(self.conv(image))


class AnotherPathForMany(Plain):
    def forward(self, image: Tensor) -> Tensor:
        activations = self.conv(image)
        if image.shape[0] > 3:
            activations = activations * 2
        return self.classify(activations)


class BakedBatch(Plain):
    def forward(self, image: Tensor) -> Tensor:
        return self.classify(self.conv(image).view(5, -1).view(5, 4, 30, 30))


class Loop(Plain):
    def forward(self, image: Tensor) -> Tensor:
        activations = self.conv(image)
        return torch.cat([self.classify(activations[n : n + 1]) for n in range(int(image.shape[0]))])


class OneOnly(Plain):
    def forward(self, image: Tensor) -> Tensor:
        if image.shape[0] != 1:
            raise ValueError("one image at a time")
        return self.classify(self.conv(image))


class OneWithoutBatch(Plain):
    """Loses the batch on its way, and puts it back."""

    def forward(self, image: Tensor) -> Tensor:
        activations = self.conv(image).squeeze(0)
        return self.fc(torch.tanh(activations).mean((1, 2))).unsqueeze(0)


CASES = [(AnotherPathForMany, 5), (BakedBatch, 5), (Loop, 3), (OneOnly, 1), (OneWithoutBatch, 1)]


@pytest.mark.parametrize(("kind", "batch"), CASES)
def test_the_examples_batch_in_every_format(kind: type[nn.Module], batch: int, tmp_path: Path) -> None:
    explainable = ExplainableModel(seeded(kind()), "conv")
    with pytest.warns(StaticBatchWarning, match=rf"{kind.__name__} refuses an open batch.*a batch of exactly {batch}"):
        lowered = lower(explainable, images(batch))
    assert not lowered.dynamic_batch
    fresh, classes = images(batch, seed=9), torch.arange(batch) % 3
    want = explainable(fresh, classes)
    assert want.cam.max() > 0.5, "a map of zeros would prove nothing"
    assert (lowered(fresh, classes).cam - want.cam).abs().max() <= TOLERANCES["float32"].cam
    with pytest.raises(InputError, match=rf"shape \(8, 3, 32, 32\); the network was lowered for.*\({batch}, 3, 32, 32"):
        lowered(images(8))
    for fmt in QUICK_FORMATS:
        path = export(lowered, tmp_path / f"net{fmt.suffixes[0]}")
        metadata = read_metadata(path)
        assert metadata.batch == metadata.image_shape[0] == metadata.logits_shape[0] == metadata.cam_shape[0] == batch
        assert metadata.to_dict()["batch_rule"] == f"exactly {batch}"
        session = load(path)
        got = session(fresh, classes)
        assert np.abs(got.cam - want.cam.numpy()).max() <= TOLERANCES["float32"].cam
        assert np.abs(got.logits - want.logits.numpy()).max() <= TOLERANCES["float32"].logits * want.logits.abs().max()
        with pytest.raises(InputError, match=rf"expects \({batch}, 3, 32, 32\)"):
            session(images(batch + 1))


def test_torchscript_itself_refuses_another_batch() -> None:
    with pytest.warns(StaticBatchWarning):
        scripted = script(lower(ExplainableModel(seeded(Loop()), "conv"), images(3)))
    with (
        quiet_torchscript(),
        pytest.raises(torch.jit.Error, match=r"image has shape \[2, 3, 32, 32\]; expected \[3, 3"),
    ):
        scripted(images(2))


def test_export_in_one_call_warns_and_compares_with_the_examples_batch(tmp_path: Path) -> None:
    with pytest.warns(StaticBatchWarning, match="The reason: .*specialized it to be a constant"):
        path = export(ExplainableModel(seeded(Loop()), "conv"), tmp_path / "net.onnx", images(3))
    assert load(path)(images(3, seed=4)).cam.shape == (3, 32, 32)


def test_an_open_batch_does_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert lower(ExplainableModel(seeded(Plain()), "conv"), images(1)).dynamic_batch


class RelativePositions(Plain):
    """Attention with images and heads in one dimension, whose positions are shifted by reshaping."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 8, 8)
        self.attention = BottleneckAttn(8, feat_size=(4, 4), num_heads=4)
        self.fc = nn.Linear(8, 3)

    def forward(self, image: Tensor) -> Tensor:
        return self.classify(self.attention(self.conv(image)))


def test_batch_sizes_of_image_and_class_idx_cancel(tmp_path: Path) -> None:
    explainable = ExplainableModel(seeded(RelativePositions()), "conv", normalize=False)
    session = load(export(lower(explainable, images(2)), tmp_path / "net.pt2"))
    for batch in (1, 2, 4, 5):
        fresh, classes = images(batch, seed=9), torch.arange(batch) % 3
        want = explainable(fresh, classes).cam
        assert want.max() > 0
        assert np.abs(session(fresh, classes).cam - want.numpy()).max() <= TOLERANCES["float32"].cam * want.max().item()


class Branching(Plain):
    def forward(self, image: Tensor) -> Tensor:
        activations = self.conv(image)
        return self.classify(activations * 2 if activations.sum() > 0 else activations)


def test_what_fails_for_every_batch_is_an_error_not_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(LoweringError, match="Branching cannot be traced"):
            lower(ExplainableModel(seeded(Branching()), "conv"), images(2))


def one_only() -> nn.Module:
    """For the command line."""
    return seeded(OneOnly())


def test_the_command_line_says_it_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = Run(
        capsys, "export", "--model", f"{__name__}:one_only", "--size", "32x32", "-o", tmp_path / "net.ts", "--json"
    )
    assert (run.code, run.record["batch_rule"]) == (0, "exactly 1")
    lines = run.err.splitlines()
    assert len(lines) == 2
    assert "will take prepared images, and no photos" in lines[0]
    assert "warning: OneOnly refuses an open batch size" in lines[1]
    run = Run(capsys, "verify", tmp_path / "net.ts", "--model", f"{__name__}:one_only")
    assert run.code == 0
    assert "It agrees with" in run.out
    assert len(run.err.splitlines()) == 1
