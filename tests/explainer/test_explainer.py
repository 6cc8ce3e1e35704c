"""``explain``: pictures and numbers against the network itself."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from explainable_model import ExplainableModel
from explainable_model.cli.main import main
from explainable_model.errors import InputError
from explainable_model.explainer.answers import label_class, probabilities, resolve_class
from explainable_model.explainer.pictures import choose_stems
from explainable_model.imaging.overlay import overlay
from tests.support import cli_nets
from tests.support.cli_run import NAMED, Run
from tests.support.nets import TinyResNet, seeded


def expected(
    path: Path, class_idx: int | None = None, upsample: str = "bicubic"
) -> tuple[NDArray[Any], int, NDArray[Any]]:
    """Probabilities, class and map of a photo, without the command line."""
    with Image.open(path) as photo:
        image = torch.from_numpy(cli_nets.PREPROCESS(photo))
    network = seeded(TinyResNet(5))
    classes = None if class_idx is None else torch.tensor([class_idx])
    logits, explained, cam = ExplainableModel(network, "layer2", upsample=upsample)(image, classes)
    return logits.double().softmax(1)[0].numpy(), int(explained), cam[0].numpy()


@pytest.mark.parametrize("source", ["eager", "ts", "onnx", "pt2"])
def test_explain(
    capsys: pytest.CaptureFixture[str], artifacts: dict[str, Path], photos: list[Path], tmp_path: Path, source: str
) -> None:
    which = ["--model", NAMED] if source == "eager" else ["--artifact", artifacts[source]]
    run = Run(capsys, "explain", *photos, *which, "--out", tmp_path / "out", "--json", "--alpha", "0.75")
    assert run.code == 0
    assert run.record["errors"] == []
    assert [Path(found["photo"]) for found in run.record["photos"]] == photos
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "cat-2-overlay.png",
        "cat-2-panel.png",
        "cat-overlay.png",
        "cat-panel.png",
    ]
    for path, found in zip(photos, run.record["photos"], strict=True):
        odds, class_idx, cam = expected(path, upsample="bicubic" if source == "eager" else "bilinear")
        assert (found["class_idx"], found["class_name"]) == (class_idx, cli_nets.CLASS_NAMES[class_idx])
        assert found["probability"] == pytest.approx(odds[class_idx], abs=1e-5)
        assert [top["class_idx"] for top in found["top"]] == np.argsort(-odds).tolist()
        assert [top["probability"] for top in found["top"]] == pytest.approx(sorted(odds, reverse=True), abs=1e-5)
        assert found["box"] == pytest.approx([64 / 2 - 64 / 3, 48 / 2 - 64 / 3, 64 / 2 + 64 / 3, 48 / 2 + 64 / 3])
        with Image.open(path) as photo, Image.open(found["overlay"]) as written:
            box = cli_nets.PREPROCESS.box(*photo.size)
            wanted = np.asarray(overlay(photo, cam, alpha=0.75, box=box)).astype(int)
            assert np.abs(np.asarray(written).astype(int) - wanted).max() <= 2
        row, column = np.unravel_index(cam.argmax(), cam.shape)
        assert found["hottest"] == pytest.approx(
            [box[0] + (column + 0.5) * 128 / 96, box[1] + (row + 0.5) * 128 / 96], abs=1.5
        )


def test_explain_another_class(capsys: pytest.CaptureFixture[str], photos: list[Path], tmp_path: Path) -> None:
    overlays = {}
    for wanted, class_idx in (("tiger cat", 1), ("3", 3), ("TABBY", 0)):
        arguments = ("explain", photos[0], "--model", NAMED, "--out", tmp_path / wanted, "--class", wanted, "--json")
        found = Run(capsys, *arguments).record["photos"][0]
        odds, _, cam = expected(photos[0], class_idx)
        assert found["class_idx"] == class_idx
        assert found["probability"] == pytest.approx(odds[class_idx], abs=1e-6)
        assert found["top"][0]["class_idx"] == int(odds.argmax()), "the best classes stay the network's"
        overlays[class_idx] = np.asarray(Image.open(found["overlay"])).astype(int)
        with Image.open(photos[0]) as photo:
            box = cli_nets.PREPROCESS.box(*photo.size)
            assert np.abs(overlays[class_idx] - np.asarray(overlay(photo, cam, box=box)).astype(int)).max() <= 1
    assert np.abs(overlays[1] - overlays[3]).max() > 20


def test_explain_says_it_in_words(
    capsys: pytest.CaptureFixture[str], artifacts: dict[str, Path], photos: list[Path], tmp_path: Path
) -> None:
    run = Run(capsys, "explain", photos[0], "--artifact", artifacts["onnx"], "--out", tmp_path)
    odds, class_idx, _ = expected(photos[0])
    words = f"{cli_nets.CLASS_NAMES[class_idx]}, {odds[class_idx]:.0%}"
    assert run.out == f"{photos[0]}: {words} -> {tmp_path / 'cat-panel.png'}\n"
    assert run.err == ""


def test_bad_photos_do_not_stop_the_others(
    capsys: pytest.CaptureFixture[str], artifacts: dict[str, Path], photos: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "note.png").write_text("not a picture")
    (tmp_path / "cut.png").write_bytes(photos[0].read_bytes()[:300])
    bad = [tmp_path / name for name in ("note.png", "cut.png", "missing.png")]
    paths = [bad[0], photos[0], bad[1], bad[2], photos[1]]
    run = Run(capsys, "explain", *paths, "--artifact", artifacts["onnx"], "--out", tmp_path / "out", "--json")
    assert run.code == 1
    assert [found["photo"] for found in run.record["photos"]] == [str(path) for path in photos]
    assert [failed["photo"] for failed in run.record["errors"]] == [str(path) for path in bad]
    lines = run.err.splitlines()
    assert len(lines) == 3
    for line, path in zip(lines, bad, strict=True):
        assert line.startswith("explainable-model: error: ")
        assert path.name in line
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_explain_never_overwrites_a_photo(capsys: pytest.CaptureFixture[str], photos: list[Path]) -> None:
    folder = photos[0].parent
    twin = folder / "cat-overlay.png"
    shutil.copy(photos[1], twin)
    (folder / "other.txt").write_text("mine")
    before = {path: path.read_bytes() for path in (photos[0], twin)}
    run = Run(capsys, "explain", photos[0], twin, "--model", NAMED, "--out", folder)
    assert run.code == 0
    assert {path: path.read_bytes() for path in before} == before
    assert (folder / "other.txt").read_text() == "mine"
    assert (folder / "cat-2-overlay.png").exists()
    assert (folder / "cat-overlay-panel.png").exists()


def test_stems_are_free(tmp_path: Path) -> None:
    paths = [Path("a/cat.jpg"), Path("b/Cat.png"), Path("cat-2.png"), Path("dog.png"), Path("dog.png")]
    stems = choose_stems(paths, tmp_path)
    assert stems == ["cat", "Cat-2", "cat-2-2", "dog", "dog-2"]


def test_a_photo_of_unknown_preparation(capsys: pytest.CaptureFixture[str], photos: list[Path], tmp_path: Path) -> None:
    bare = Run(capsys, "explain", photos[0], "--model", "tests.support.cli_nets:bare", "--out", tmp_path / "out")
    assert bare.code == 2
    assert "NamedModel(model, Preprocess(...), class_names)" in bare.err
    target = tmp_path / "bare.onnx"
    assert main(["export", "--model", "tests.support.cli_nets:bare", "-o", str(target), "--size", "32x32"]) == 0
    artifact = Run(capsys, "explain", photos[0], "--artifact", target, "--out", tmp_path / "out")
    assert artifact.code == 2
    assert "does not say how a photo becomes its input" in artifact.err
    assert not (tmp_path / "out").exists()


def test_explain_a_segmentation_network(capsys: pytest.CaptureFixture[str], photos: list[Path], tmp_path: Path) -> None:
    run = Run(
        capsys, "explain", photos[0], "--model", "tests.support.cli_nets:segmenter", "--out", tmp_path, "--class", "1"
    )
    assert (run.code, run.err) == (0, "")
    assert re.match(rf"{re.escape(str(photos[0]))}: class 1, score \S+ ->", run.out)


def test_explain_a_photo_of_twelve_bits(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint16)
    deep, plain = tmp_path / "deep.png", tmp_path / "plain.png"
    Image.fromarray(levels * 16).save(deep)
    Image.fromarray(levels.astype(np.uint8)).save(plain)
    dark = Run(capsys, "explain", deep, "--model", NAMED, "--out", tmp_path / "out", "--json")
    assert re.search(rf"explainable-model: warning: {re.escape(str(deep))} has values .*\n$", dark.err)
    arguments = ("--model", NAMED, "--out", tmp_path / "out", "--json", "--overwrite", "--window", "0,4080")
    (windowed,), (wanted,) = (Run(capsys, "explain", path, *arguments).record["photos"] for path in (deep, plain))
    assert windowed["score"] == wanted["score"]
    wrong = Run(capsys, "explain", deep, *arguments[:-1], "0-4080")
    assert (wrong.code, "BLACK,WHITE" in wrong.err) == (2, True)


# Classes and probabilities


def test_probabilities() -> None:
    odds = probabilities(np.array([[1000.0, 1001.0, 0.0]], np.float32), "logits")
    assert odds == pytest.approx([1 / (1 + np.e), np.e / (1 + np.e), 0])
    shares = np.array([[0.25, 0.5, 0.25]])
    assert probabilities(shares, "softmax") == pytest.approx([0.25, 0.5, 0.25]), "already probabilities"
    assert probabilities(shares, None) is None, "a sum of one is no proof"
    assert probabilities(shares, "scores") is None
    assert probabilities(np.array([[0.971, 0.953]]), "sigmoid") == pytest.approx([0.971, 0.953])
    assert probabilities(np.array([[np.log(3), -1000.0]]), "sigmoid_logits") == pytest.approx([0.75, 0.0])
    assert probabilities(np.array([0.034]), "binary") == pytest.approx([0.034])
    assert probabilities(np.array([[[[np.log(3)]]]]), "binary_logits") == pytest.approx([0.75])
    assert probabilities(np.zeros((1, 3, 4, 4)), "logits") is None


def test_labels() -> None:
    record = {"output_kind": "logits", "class_name": "cat", "class_idx": 2, "probability": 0.876, "score": 7.3149}
    assert label_class(record) == "cat, 88%"
    assert label_class(record | {"probability": 0.001}) == "cat, below 1%"
    assert label_class(record | {"probability": None}) == "cat, score 7.31"
    assert label_class(record | {"class_name": None, "probability": None, "score": None}) == "class 2"
    binary = {
        "output_kind": "binary",
        "class_name": "pneumonia",
        "class_idx": 0,
        "probability": 0.034,
        "present": False,
    }
    assert label_class(binary) == "no pneumonia, 3%"
    assert label_class(binary | {"probability": 0.5, "present": True}) == "pneumonia, 50%"
    assert label_class(binary | {"output_kind": "sigmoid"}) == "pneumonia, 3%"


def test_resolve_class() -> None:
    names = cli_nets.CLASS_NAMES
    assert resolve_class(None, names) is None
    assert resolve_class("4", names) == 4
    assert resolve_class("7", None) == 7
    assert resolve_class("Tabby Cat", names) == 0
    assert resolve_class("crane, machine", names) == 3
    assert resolve_class("bird", names) == 2
    for wanted, known, message in (
        ("crane", names, "classes 2, 3 are all named 'crane'"),
        ("expresso", names, r"no class 'expresso' among 5\. Nearest: espresso \(4\)"),
        ("-2", names, "expected 0 to 4"),
        ("-2", None, "expected 0 or more"),
        ("cat", None, "no class names are known"),
    ):
        with pytest.raises(InputError, match=message):
            resolve_class(wanted, known)
