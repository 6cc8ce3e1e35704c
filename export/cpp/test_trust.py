"""Hostile TorchScript files in the libtorch kit: each is refused, and leaves no trace."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from kits import Kit
from torch import nn

from explainable_model import ExplainableModel, Preprocess, export

METADATA_KEY = "explainable_model.json"


class Saver(nn.Module):
    """Writes a file while it is loaded."""

    def __init__(self, trace: str) -> None:
        super().__init__()
        self.trace = trace

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.trace, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.trace = state[0]
        self.training = state[1]
        torch.save(torch.ones(1), self.trace)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image


class Program:
    """A pickle that calls a function of the system."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pickle.loads, ("hostile",)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    ).eval()
    path = tmp_path_factory.mktemp("small") / "small.ts"
    image = torch.rand(1, 3, 24, 32)
    return export(ExplainableModel(network, "0"), path, image, preprocess=Preprocess((24, 32)))


def change(source: Path, target: Path, edit: Callable[[str, bytes], bytes]) -> Path:
    """Copy an artifact with at least one entry changed."""
    changed = False
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, edit(name, content))
            changed |= edit(name, content) != content
    assert changed
    return target


def code(old: str, new: str) -> Callable[[str, bytes], bytes]:
    """Replace a part of the code."""
    return lambda name, content: content.replace(old.encode(), new.encode(), 1) if name.endswith(".py") else content


def entry(ending: str, edit: Callable[[bytes], bytes]) -> Callable[[str, bytes], bytes]:
    """Change one entry."""
    return lambda name, content: edit(content) if name.endswith(ending) else content


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_method_that_runs_while_the_file_is_loaded(built, small: Path, photos: list[Path], tmp_path: Path) -> None:
    kit: Kit = built("libtorch")
    trace, path = tmp_path / "it-ran", tmp_path / "saver.ts"
    with zipfile.ZipFile(small) as archive:
        record = archive.read(next(n for n in archive.namelist() if n.endswith(METADATA_KEY))).decode()
    torch.jit.save(torch.jit.script(Saver(str(trace)).eval()), path, _extra_files={METADATA_KEY: record})
    assert "cannot be shown to be harmless: its code has the method __getstate__" in kit.refuses(photos[0], path)
    assert not trace.exists()
    kit.run("explain", photos[0], path, "--trusted")
    assert trace.exists(), "the attack is none"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (code("torch.conv2d(", "torch.from_file("), "its code calls torch.from_file"),
        (code("torch.conv2d(", "ops.image.read_file("), "its code calls ops.image.read_file"),
        (code("for i in range(torch.len(image_shape0)):", "while True:"), "its code has the word while"),
        (code("range(torch.len(image_shape0))", "range(999999999)"), "its code repeats"),
        (code("def ready(", "def __setstate__("), "its code has the method __setstate__"),
        (entry("/data.pkl", lambda content: pickle.dumps(Program(), 2)), "pickle loads"),
        (entry("/data.pkl", lambda content: b"\x80\x02)r\xff\xff\xff\x7f."), "would fill the memory"),
        (entry("/data.pkl", lambda content: content[:100]), "its list of weights has no end"),
        (entry("/data/0", lambda content: b""), "the entry 0 of its weights has 0 bytes"),
        (entry("/data/0", lambda content: content[:8]), "the entry 0 of its weights has 8 bytes"),
    ],
)
def test_what_the_exporter_does_not_write(
    built, small: Path, photos: list[Path], tmp_path: Path, edit: Callable[[str, bytes], bytes], message: str
) -> None:
    path = change(small, tmp_path / "small.ts", edit)
    said = built("libtorch").refuses(photos[0], path)
    assert "cannot be shown to be harmless: " in said
    assert message in said
