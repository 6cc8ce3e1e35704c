"""Networks that torch.export cannot follow: the error says why and in which layer; what it can follow is right."""

import operator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel, export, load, lower
from explainable_model.artifact.tolerances import TOLERANCES
from explainable_model.errors import LoweringError, TraceError, UntrustedArtifactWarning
from tests.support.nets import QUICK_FORMATS, images, seeded


class Host(nn.Module):
    """Convolutions around a layer of the test's choice, which is two levels deep."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.blocks = nn.Sequential(nn.Identity(), nn.ModuleDict({"gate": middle})["gate"])
        self.last = nn.Conv2d(4, 4, 3)
        self.fc = nn.Linear(4, 3)

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(torch.tanh(self.last(self.blocks(self.stem(image)))).mean((2, 3)))


class If(nn.Module):
    def forward(self, activations: Tensor) -> Tensor:
        if activations.max() > 0:
            activations = activations * 2
        return activations


class Loop(nn.Module):
    def forward(self, activations: Tensor) -> Tensor:
        while activations.abs().max() > 1:
            activations = activations / 2
        return activations


class ByCount(nn.Module):
    def forward(self, activations: Tensor) -> Tensor:
        count = int(activations.abs().max().item()) + 1
        return activations / operator.add(count, 1) if count > 2 else activations


class Numpy(nn.Module):
    def forward(self, activations: Tensor) -> Tensor:
        return torch.from_numpy(np.tanh(activations.detach().numpy()))


class Failing(nn.Module):
    def forward(self, activations: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            raise NotImplementedError("not while compiling")
        return activations


WHY = "depends on the values in the image"


@pytest.mark.parametrize(
    ("middle", "line", "reason"),
    [
        (If(), "if activations.max() > 0:", WHY),
        (Loop(), "while activations.abs().max() > 1:", WHY),
        (ByCount(), "count = int(activations.abs().max().item()) + 1", WHY),
        (Numpy(), "return torch.from_numpy(np.tanh(activations.detach().numpy()))", "numpy() is not supported"),
        (Failing(), 'raise NotImplementedError("not while compiling")', "not while compiling"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_the_error_names_reason_layer_and_line(
    middle: nn.Module, line: str, reason: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    explainable = ExplainableModel(seeded(Host(middle)), "last")
    assert explainable(images(2)).cam.max() > 0, "it can be explained eagerly"
    with pytest.raises(TraceError) as caught:
        export(explainable, tmp_path / "net.onnx", images(2))
    message = str(caught.value)
    assert message.startswith("Host cannot be traced by torch.export, so it cannot be lowered")
    assert f"The reason, in layer 'blocks.1' ({type(middle).__name__}) at `{line}`: " in message
    assert reason in message
    assert "\n" not in message
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == "", "no pages of graphs"


class OwnForward(Host):
    def forward(self, image: Tensor) -> Tensor:
        activations = self.last(self.stem(image))
        if activations.sum() > 0:
            return self.fc(activations.mean((2, 3)))
        return self.fc(activations.amax((2, 3)))


def test_the_networks_own_forward_is_named() -> None:
    with pytest.raises(LoweringError, match=r"in its own forward at `if activations.sum\(\) > 0:`"):
        lower(ExplainableModel(seeded(OwnForward(nn.Identity())), "last"), images(2))


# Values read into Python and out again: torch.export follows these


class Item(nn.Module):
    def forward(self, activations: Tensor) -> Tensor:
        return torch.tanh(activations) * activations.mean().item()


class ToList(nn.Module):
    def forward(self, activations: Tensor) -> Tensor:
        means = activations.mean((0, 2, 3)).tolist()
        return torch.tanh(activations) * torch.tensor(means).reshape(1, -1, 1, 1)


class Selected(nn.Module):
    def forward(self, activations: Tensor) -> Tensor:
        return torch.tanh(activations) + activations[activations > 0].mean()


@pytest.mark.parametrize("middle", [Item(), ToList(), Selected()], ids=lambda middle: type(middle).__name__)
def test_values_that_pass_through_python(middle: nn.Module, tmp_path: Path) -> None:
    explainable = ExplainableModel(seeded(Host(middle)), "stem")
    lowered = lower(explainable, images(2))
    image = images(3, seed=8)
    want = explainable(image)
    assert want.cam.max() > 0.5
    for fmt in QUICK_FORMATS:
        path = tmp_path / f"net{fmt.suffixes[0]}"
        # A number of the image, or how many of its values are selected, could decide about a size.
        is_unknown = fmt.name != "onnx" or isinstance(middle, Selected)
        with pytest.warns(UntrustedArtifactWarning, match="nothing tells how") if is_unknown else nullcontext():
            export(lowered, path)
        got = load(path, trusted=is_unknown)(image)
        assert np.abs(got.cam - want.cam.numpy()).max() <= TOLERANCES["float32"].cam
