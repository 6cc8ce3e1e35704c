"""Preparation, overlay and the page's code of ``run_onnxruntime.py``, against the project itself."""

import json
from pathlib import Path
from types import SimpleNamespace

import edge
import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn

from explainable_model import ExplainableModel, Preprocess, export, load
from explainable_model.imaging.preprocess import open_photo

KIT = Path(__file__).parent


def test_the_overlay_covers_the_photo(folder: Path, photos: list[Path], run, tmp_path: Path) -> None:
    done = run(".onnx", folder / "explained.onnx", photos[0], "-o", tmp_path / "overlay.png")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "overlay.png") as overlay, Image.open(photos[0]) as photo:
        assert overlay.size == photo.size
        assert np.abs(np.asarray(overlay).astype(int) - np.asarray(photo)).mean() > 10


def test_a_diverging_overlay_is_green_at_zero() -> None:
    cam = np.array([[0.0, -2.0], [0.0, 2.0]], np.float32).repeat(8, 0).repeat(8, 1)
    photo = Image.new("RGB", (16, 16))
    drawn = np.asarray(edge.draw_overlay(photo, edge.Answer(0, None, cam, (0, 0, 16, 16)), diverging=True)).astype(int)
    assert (drawn[8, 2].argmax(), drawn[1, 14].argmax(), drawn[14, 14].argmax()) == (1, 2, 0)  # zero, against, for
    assert np.asarray(photo).max() == 0, "the photo itself stays as it is"


@pytest.mark.parametrize("resize", [None, 48, 30])
@pytest.mark.parametrize("size", [(40, 40), (30, 64)])
def test_the_preprocessing_is_the_projects(resize: int | None, size: tuple[int, int], photos: list[Path]) -> None:
    preprocess = Preprocess(size, (0.4,), (0.3,), resize=resize, interpolation="bicubic")
    record = {"preprocess": json.loads(json.dumps(preprocess.__dict__)), "dtype": "float32"}
    photo = open_photo(photos[1])
    image, box = edge.prepare_image(photo, record)
    assert box == pytest.approx(preprocess.box(*photo.size))
    assert np.abs(image - preprocess(photo)).max() < 1.01 / 255 / 0.3  # one gray level


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
    done = run(".onnx", path, photos[1], "--npy", tmp_path / "cam.npy", "-o", tmp_path / "overlay.png")
    assert done.returncode == 0, done.stderr
    session, photo = load(path, threads=1), open_photo(photos[1])
    _, explained, cam = session(session.metadata.preparation(photo))
    assert json.loads(done.stdout)["class_idx"] == explained[0]
    assert np.array_equal(np.load(tmp_path / "cam.npy"), cam[0])
    with Image.open(tmp_path / "overlay.png") as drawn:
        assert drawn.size == photo.size


def test_sixteen_bits_are_the_projects(tmp_path: Path) -> None:
    levels = np.arange(240, dtype=np.uint16).reshape(12, 20)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "deep.png"
    for values, window in ((levels * 257, None), (levels * 16, (0, 4080))):
        Image.fromarray(values).save(path, exif=exif)
        assert np.array_equal(edge.open_photo(path, window), open_photo(path, window))
    with pytest.warns(UserWarning, match="nearly black"):
        edge.open_photo(path)


def test_an_artifact_of_gray_photos_is_refused() -> None:
    record = {"schema_version": edge.SCHEMA_VERSION, "pixels": "NHW", "pixel_dtype": "uint16", "extra_inputs": []}
    with pytest.raises(ValueError, match=r"takes gray photos \(NHW\); this program takes RGB"):
        edge.read_record(SimpleNamespace(record=json.dumps(record)), "films.onnx")


@pytest.mark.parametrize(
    ("kind", "logits", "classes", "wanted"),
    [
        ("logits", [0.0, np.log(3)], 2, 0.75),
        ("softmax", [0.2, 0.8], 2, 0.8),
        ("sigmoid", [0.971, 0.953], 2, 0.953),
        ("sigmoid_logits", [0.0, np.log(3)], 2, 0.75),
        ("binary", [0.034], 2, 0.034),  # both sides of one output can be explained
        ("scores", [0.2, 0.8], 2, None),
        (None, [0.2, 0.8], 2, None),
    ],
)
def test_the_kind_of_output_says_what_the_probabilities_are(
    kind: str | None, logits: list[float], classes: int, wanted: float | None
) -> None:
    record = {"output_kind": kind, "classes": classes, "class_names": None}
    answer = edge.Answer(1, np.array(logits, np.float32), np.eye(2), (0, 0, 2, 2))
    described = edge.describe_answer(answer, record)
    assert described.get("probability") == (None if wanted is None else pytest.approx(wanted, rel=1e-6))
    assert described["score"] == pytest.approx(logits[-1], rel=1e-6)
    binary = edge.describe_answer(answer._replace(class_idx=0, logits=np.array([0.25])), {**record, "classes": 1})
    assert binary.get("probability") == (
        0.25 if kind in ("softmax", "sigmoid", "binary") else binary.get("probability")
    )


def test_the_readmes_binding_runs(folder: Path, photos: list[Path]) -> None:
    session = onnxruntime.InferenceSession(folder / "explained.onnx", providers=["CPUExecutionProvider"])
    record = json.loads(session.get_modelmeta().custom_metadata_map[edge.KEY])
    image, class_idx = edge.make_inputs(edge.prepare_image(open_photo(photos[0]), record)[0], -1, record)
    blocks = [part.split("```")[0] for part in (KIT / "README.md").read_text().split("```python\n")[1:]]
    (code,) = (block for block in blocks if '"cuda"' in block)
    on_the_cpu = code.replace('"cuda"', '"cpu"')
    assert on_the_cpu != code
    names = {"onnxruntime": onnxruntime, "session": session, "image": image, "class_idx": class_idx}
    exec(on_the_cpu, names)
    _, _, cam = session.run(None, {"image": image, "class_idx": class_idx})
    assert np.array_equal(names["cam"], cam)
