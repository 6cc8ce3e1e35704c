"""The scripts of this folder, where neither torch nor this project can be imported, against the eager network."""

import ast
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from explainable_model import load
from explainable_model.imaging.preprocess import open_photo

KIT = Path(__file__).parent
SUFFIXES = (".onnx", ".xml", ".pte")
FILES = ("edge.py", "bench.py", "files.py", "program.py", "run_onnxruntime.py", "run_openvino.py", "run_litert.py")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("file", FILES)
def test_the_files_for_the_device_are_python_3_8(file: str) -> None:
    ast.parse((KIT / file).read_text(), feature_version=(3, 8))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_photo_gets_eagers_answer(suffix: str, folder: Path, photos, eager, run: Run, tmp_path: Path) -> None:
    for photo, wanted in ((photos[0], -1), (photos[1], 282)):
        done = run(suffix, folder / f"explained{suffix}", photo, "--class", wanted, "--npy", tmp_path / "cam.npy")
        assert done.returncode == 0, done.stderr
        found, (logits, explained, cam) = json.loads(done.stdout), eager(photo, wanted)
        odds = np.exp(logits[0] - logits[0].max())
        assert found["class_idx"] == explained[0]
        assert found["probability"] == pytest.approx(odds[explained[0]] / odds.sum(), abs=1e-5)
        assert np.abs(np.load(tmp_path / "cam.npy") - cam[0]).max() < 1e-4
        assert found["parity"]["within_tolerance"]
    assert found["class_name"] == "tiger cat"


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_batches_of_photos_get_eagers_answers(suffix: str, folder: Path, photos, network, eager) -> None:
    session = load(folder / f"explained{suffix}", threads=1)
    images = np.concatenate([network.preprocess(open_photo(photo)) for photo in photos])
    wanted = np.concatenate([eager(photo).cam for photo in photos])
    for order in ([0, 1], [1, 0, 1]):
        assert np.abs(session(images[order]).cam - wanted[order]).max() < 1e-4


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_figures(suffix: str, folder: Path, photos: list[Path], run: Run, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    plain = ("--plain", folder / f"plain{suffix}", "--seconds", 0, "--bench", file)
    done = run(suffix, folder / f"explained{suffix}", photos[0], *plain)
    assert done.returncode == 0, done.stderr
    figures = json.loads(file.read_text())
    assert (figures["emulated"], figures["watts"], figures["minutes"]) == (False, None, None)
    assert figures["parity"]["correlation"] > 0.999
    assert figures["parity"]["top1_agreement"] == 1
    assert figures["explained"]["target_layer"] == "bn2"
    for network in (figures["explained"], figures["plain"]):
        assert 0 < network["wall_ms"]["p50"] <= network["wall_ms"]["p90"] <= network["wall_ms"]["p99"]
        assert min(network["load_ms"], network["first_call_ms"], network["cpu_ms"], network["peak_memory_mb"]) > 0
        assert 16e6 < network["bytes"] < 24e6
    assert set(figures["explained"]["images_per_second"]) == ({"1"} if suffix == ".pte" else {"1", "2", "4", "8"})
    ratio = figures["ratio"]
    assert ratio["low"] <= ratio["median"] <= ratio["high"]


def test_an_emulated_device_is_not_timed(folder: Path, photos: list[Path], run: Run, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    plain = ("--plain", folder / "plain.onnx", "--emulated", "--watts", 3, "--bench", file)
    assert run(".onnx", folder / "explained.onnx", photos[0], *plain).returncode == 0
    figures = json.loads(file.read_text())
    assert figures["emulated"]
    assert figures["parity"]["within_tolerance"]
    assert (figures["ratio"], figures["watts"]) == (None, None)
    assert not {"load_ms", "wall_ms", "cpu_ms", "images_per_second"} & {*figures["explained"], *figures["plain"]}


def test_mistakes_are_told(folder: Path, photos: list[Path], run: Run, tmp_path: Path) -> None:
    text, artifact = tmp_path / "text.jpg", folder / "explained.onnx"
    text.write_text("this is no photo")
    for arguments, message in (
        ((artifact, text), "cannot identify image file"),
        ((text, photos[0]), "error: "),
        ((folder / "plain.onnx", photos[0]), "was not exported by explainable_model"),
        ((artifact, KIT / "none.jpg"), "No such file"),
        ((artifact, photos[0], "--class", 1000), "class 1000 is out of range; expected 0 to 999"),
    ):
        done = run(".onnx", *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_another_networks_answer_is_noticed(folder: Path, photos: list[Path], run: Run, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(folder / "explained.onnx")
    (classifier,) = [weight for weight in model.graph.initializer if tuple(weight.dims) == (1000, 1280)]
    classifier.CopyFrom(
        onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(classifier)[::-1].copy(), classifier.name)
    )
    onnx.save(model, tmp_path / "changed.onnx")
    done = run(".onnx", tmp_path / "changed.onnx", photos[0])
    assert done.returncode == 1
    assert "does not give its recorded answer" in done.stderr
