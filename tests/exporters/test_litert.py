"""LiteRT models: those of a file of the tests, which need the interpreter alone, and exports, which need the converter.

The converter pins versions of other packages, so that the exports have an environment of their own:
``pip install -e '.[litert]' pytest`` and ``pytest -p no:anyio -m '' tests/exporters/test_litert.py``.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel, export, load, lower, read_metadata
from explainable_model.artifact.metadata import Profile
from explainable_model.errors import InputError, LoweringError, MissingRuntimeError
from tests.support.hostile import GOOD
from tests.support.nets import TinyResNet, images, seeded

pytestmark = pytest.mark.filterwarnings("ignore")  # of the converter and of the packages that it imports
BEFORE = GOOD / "before.tflite"
needs_interpreter = pytest.mark.skipif(find_spec("ai_edge_litert") is None, reason="needs ai_edge_litert")
needs_converter = pytest.mark.skipif(
    find_spec("litert_torch") is None, reason="litert_torch has an environment of its own"
)


class Head(nn.Module):
    """A classifier that holds most of the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 32, 3, 4), nn.Linear(32, 2000)

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(torch.relu(self.conv(image)).mean((2, 3)))


class Scaled(nn.Module):
    """Takes a whole number besides the image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, image: Tensor, times: Tensor) -> Tensor:
        return self.fc(torch.relu(self.conv(image)).mean((2, 3)) * times[:, None])


@needs_interpreter
def test_a_file_answers_as_when_it_was_made() -> None:
    answer = np.load(GOOD / "before.npz")
    for options in ({"check": True, "threads": 1}, {"trusted": True}):
        session = load(BEFORE, **options)
        for number, image in enumerate(answer["image"]):
            for class_idx in (None, [int(answer["class_idx"][number])]):
                got = session(image[None], class_idx)
                assert got.class_idx.dtype == np.int64
                assert got.class_idx.tolist() == [answer["class_idx"][number]]
                assert np.abs(got.logits[0] - answer["logits"][number]).max() < 1e-5
                assert np.abs(got.cam[0] - answer["cam"][number]).max() < 1e-5
    with pytest.raises(InputError, match=r"before\.tflite expects \(1, 3, 16, 16\)"):
        session(answer["image"])


def test_the_record_says_that_classes_are_int32() -> None:
    record = read_metadata(BEFORE).to_dict()
    assert record["inputs"]["class_idx"]["dtype"] == record["outputs"]["explained_class_idx"]["dtype"] == "int32"
    assert record["inputs"]["image"]["shape"] == [1, 3, 16, 16]


@needs_interpreter
def test_threads_share_a_session() -> None:
    session, asked = load(BEFORE, threads=1), [images(1, (3, 16, 16), seed=n).numpy() for n in range(16)]
    alone = [session(image).cam for image in asked]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(session, asked))
    assert all(np.array_equal(got.cam, cam) for got, cam in zip(found, alone, strict=True))


def test_without_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    with pytest.raises(MissingRuntimeError, match=r"before\.tflite needs LiteRT: pip install .*\[litert\]"):
        load(BEFORE)
    with pytest.raises(MissingRuntimeError, match=r"Exporting net\.tflite needs LiteRT"):
        export(ExplainableModel(seeded(TinyResNet()), "layer2"), tmp_path / "net.tflite", images(1))
    assert list(tmp_path.iterdir()) == []


@needs_converter
@pytest.mark.parametrize(("layer", "profile"), [("layer2", "full"), ("stem", "portable")])
def test_exports(layer: str, profile: Profile, tmp_path: Path) -> None:
    explainable = ExplainableModel(seeded(TinyResNet()), layer)
    path = export(explainable, tmp_path / "net.tflite", images(2), profile=profile)
    session = load(path, threads=1, check=True)
    for seed in range(3):
        image, asked = images(2, seed=seed), torch.tensor([-1, 3])
        want, got = explainable(image, asked), session(image, asked)
        assert got.class_idx.tolist() == want.class_idx.tolist()
        assert np.abs(got.logits - want.logits.numpy()).max() < 1e-4 * max(1.0, float(want.logits.abs().max()))
        assert np.abs(got.cam - want.cam.numpy()).max() < 1e-4
        assert want.cam.max() > 0.5, "a map of zeros would prove nothing"
    assert {"ai_edge_litert", "litert_torch"} <= set(session.metadata.versions)


@needs_converter
def test_the_classifier_is_stored_once(tmp_path: Path) -> None:
    explainable = ExplainableModel(seeded(Head()), "conv")
    path = export(explainable, tmp_path / "net.tflite", images(1))
    weights = sum(4 * parameter.numel() for parameter in explainable.model.parameters())
    assert path.stat().st_size < 1.3 * weights


@needs_converter
def test_what_is_refused(tmp_path: Path) -> None:
    explainable = ExplainableModel(seeded(TinyResNet()), "layer2")
    with pytest.raises(InputError, match=r"LiteRT plans its memory for one image size.*net\.tflite"):
        export(explainable, tmp_path / "net.tflite", images(1), dynamic_size=True)
    with pytest.raises(InputError, match=r"for any batch size; lower it with dynamic_batch=False"):
        export(lower(explainable, images(1)), tmp_path / "net.tflite")
    wide = ExplainableModel(seeded(TinyResNet()).double(), "layer2")
    with pytest.raises(LoweringError, match=r"LiteRT computes in float32 and int32; TinyResNet computes in float64"):
        export(wide, tmp_path / "net.tflite", images(1).double())
    with pytest.raises(LoweringError, match=r"TinyResNet cannot be translated to LiteRT: .*Try profile='portable'"):
        export(ExplainableModel(seeded(TinyResNet()), "stem"), tmp_path / "net.tflite", images(1))
    with pytest.raises(LoweringError, match=r"Scaled takes int64"):
        export(ExplainableModel(seeded(Scaled()), "conv"), tmp_path / "net.tflite", images(1), torch.tensor([2]))
    assert list(tmp_path.iterdir()) == []
