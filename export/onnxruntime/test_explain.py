"""``explain.py`` where torch cannot be imported, against the eager network."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn

from explainable_model import ExplainableModel, Preprocess, export, load
from explainable_model.explainer.answers import probabilities
from explainable_model.imaging.preprocess import open_photo

KIT = Path(__file__).parent
sys.path.insert(0, str(KIT))
import explain  # noqa: E402 - the file of the kit


@pytest.fixture
def lite0(artifact: Callable[[str, str], Path]) -> Path:
    return artifact("onnxruntime", ".onnx")


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The program in a Python that has neither torch nor this project."""
    for absent in ("torch", "explainable_model", "onnx", "matplotlib"):
        (tmp_path / f"{absent}.py").write_text(f"raise ImportError('{absent} is not installed')\n")

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        command = [sys.executable, KIT / "explain.py", *map(str, arguments), "--threads", "1"]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)

    return call


def test_a_photo_gets_eagers_answer(lite0: Path, photos: list[Path], eager, run, tmp_path: Path) -> None:
    for photo, wanted in ((photos[0], -1), (photos[1], -1), (photos[0], 282)):
        done = run(photo, lite0, "--class", wanted, "--npy", tmp_path / "cam.npy", "-o", tmp_path / "overlay.png")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        logits, explained, cam = eager(photo, wanted)
        assert found["class_idx"] == explained[0]
        assert found["probability"] == pytest.approx(probabilities(logits)[explained[0]], abs=1e-5)
        assert np.abs(np.load(tmp_path / "cam.npy") - cam[0]).max() < 1e-5
        with Image.open(tmp_path / "overlay.png") as overlay, Image.open(photo) as original:
            assert overlay.size == original.size
            assert np.abs(np.asarray(overlay).astype(int) - np.asarray(original)).mean() > 10
    assert found["class_name"] == "tiger cat"


def test_mistakes_are_told(lite0: Path, photos: list[Path], run, tmp_path: Path) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("this is no photo")
    for arguments, message in (
        ((text, lite0), "cannot identify image file"),
        ((tmp_path / "none.jpg", lite0), "No such file"),
        ((photos[0], text), "error: "),
        ((photos[0], lite0, "--class", 1000), "class 1000 is out of range; expected 0 to 999"),
    ):
        done = run(*arguments)
        assert done.returncode == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("resize", [None, 48, 30])
@pytest.mark.parametrize("size", [(40, 40), (30, 64)])
def test_the_preprocessing_is_the_projects(resize: int | None, size: tuple[int, int], photos: list[Path]) -> None:
    preprocess = Preprocess(size, (0.4,), (0.3,), resize=resize, interpolation="bicubic")
    record = json.loads(json.dumps(preprocess.__dict__))
    photo = open_photo(photos[1])
    box = explain.seen_box(*photo.size, record)
    assert box == pytest.approx(preprocess.box(*photo.size))
    assert np.abs(explain.to_image(photo, box, record) - preprocess(photo)).max() < 1.01 / 255 / 0.3  # one grey level


@pytest.mark.parametrize("pixels", ["NCHW", "NHWC"])
def test_an_artifact_that_prepares_photos(pixels: str, photos: list[Path], run, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    )
    path, image = tmp_path / "photos.onnx", torch.zeros(1, 3, 40, 40)
    export(
        ExplainableModel(network.eval(), "1"), path, image, preprocess=Preprocess((40, 40), resize=48), pixels=pixels
    )
    done = run(photos[1], path, "--npy", tmp_path / "cam.npy", "-o", tmp_path / "overlay.png")
    assert done.returncode == 0, done.stderr
    session, photo = load(path, threads=1), open_photo(photos[1])
    _, explained, cam = session(session.metadata.preparation(photo))
    assert json.loads(done.stdout)["class_idx"] == explained[0]
    assert np.array_equal(np.load(tmp_path / "cam.npy"), cam[0])
    with Image.open(tmp_path / "overlay.png") as drawn:
        assert drawn.size == photo.size


def test_the_readmes_binding_runs(lite0: Path, photos: list[Path]) -> None:
    session, record = explain.open_session(str(lite0), 1)
    photo = open_photo(photos[0])
    image = explain.to_image(photo, explain.seen_box(*photo.size, record["preprocess"]), record["preprocess"])
    code = (KIT / "README.md").read_text().split("```python\n")[1].split("```")[0]
    on_the_cpu = code.replace('"cuda"', '"cpu"')
    assert on_the_cpu != code
    names = {"onnxruntime": onnxruntime, "session": session, "image": image, "class_idx": np.array([-1])}
    exec(on_the_cpu, names)
    _, _, cam, _ = explain.explain(photo, session, record)
    assert np.array_equal(names["cam"][0], cam)
