"""The example of chest films: what it draws, how it scores, and what its trained weights are worth."""

import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

import explainable_model as xm

FOLDER = Path(__file__).parents[2] / "examples" / "xray"


@pytest.fixture(autouse=True)
def _own_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Makes the example's modules importable, as for its scripts, and forgets them afterwards."""
    monkeypatch.syspath_prepend(FOLDER)
    yield
    for name in ("xray_network", "xray_films", "train", "explain"):
        sys.modules.pop(name, None)


@pytest.fixture
def films() -> ModuleType:
    return __import__("xray_films")


def test_films_are_the_same_every_time(films: ModuleType) -> None:
    first, second = (next(films.iterate_cases("test", 3, None, chests=1)) for _ in range(2))
    np.testing.assert_array_equal(np.asarray(first.film), np.asarray(second.film))
    assert first.film.size == (256, 256)
    assert first.origin == "generated"


def test_an_opacity_brightens_its_mask_alone(films: ModuleType) -> None:
    film = np.full((256, 256), 0.3, np.float32)
    brighter, mask = films.add_opacity(film, np.random.default_rng(0))
    assert (brighter - film)[mask].min() > 0.05
    assert np.abs(brighter - film)[~mask].mean() < 0.01
    assert 600 < mask.sum() < 7000


def test_training_learns_from_a_few_films(films: ModuleType, tmp_path: Path) -> None:
    """Six steps on the same four films, on a very narrow network: the loss falls, and the weights can be stored."""
    train, network = __import__("train"), __import__("xray_network")
    torch.manual_seed(0)
    pool = list(islice(films.iterate_cases("train", 0, None, chests=1), 4))
    narrow = network.XrayNetwork(width=2)
    losses = train.train(narrow, iter(pool * 4 * 6), steps=6)
    assert len(losses) == 6
    assert np.isfinite(losses).all()
    assert not narrow.training
    train.save(narrow, tmp_path / "narrow.safetensors")
    assert (tmp_path / "narrow.safetensors").stat().st_size < 100_000


def test_the_trained_network_tells_films_apart(films: ModuleType) -> None:
    """On generated films that it has not seen; chance is one half, and 88 % of 94 films were right."""
    network = __import__("xray_network")
    named = network.load_classifier()
    cases = list(islice(films.iterate_cases("test", 11, None, chests=6), 40))
    with torch.no_grad():
        images = torch.from_numpy(np.concatenate([named.preprocess(case.film) for case in cases]))
        right = (named.model(images).flatten() > 0.5).numpy() == np.array([case.is_opaque for case in cases])
    assert right.mean() >= 0.75


def test_the_maps_beat_what_knows_nothing(films: ModuleType) -> None:
    explain = __import__("explain")
    found = explain.compare_with_masks(films.iterate_cases("test", 12, None, chests=6), 12)
    means = {name: {measure: row[measure].mean for measure in row} for name, row in found.summary.items()}
    for baseline in ("random map", "center map"):
        assert means["gradcam"]["pointing_game"] > means[baseline]["pointing_game"] + 0.3
        assert means["gradcam"]["energy_in_mask"] > 2 * means[baseline]["energy_in_mask"]


def test_words(films: ModuleType) -> None:
    network = __import__("xray_network")
    cases = list(islice(films.iterate_cases("test", 13, None, chests=3), 12))
    named = network.load_classifier()
    for case in cases:
        answer = xm.explain(case.film, named, target_layer=network.LAYER)
        assert answer.label.startswith("no simulated opacity" if answer.probability < 0.5 else "simulated opacity")


def test_the_whole_script(tmp_path: Path) -> None:
    """With the real radiograph where pydicom-data is installed."""
    command = [sys.executable, FOLDER / "explain.py", "--out", tmp_path / "out", "--films", "2", "--formats", ".onnx"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert sum("a simulated opacity" in line and "film: " in line for line in lines) == 4
    assert any(line.startswith("a batch of four differs from four calls by") for line in lines)
    (line,) = (line for line in lines if line.startswith("xray.onnx: "))
    assert "map off by" in line
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        assert sheet.width > 900
    explained = tmp_path / "out" / "radiograph-explained.dcm"
    if explained.exists():
        pydicom = pytest.importorskip("pydicom")
        assert pydicom.dcmread(explained).PatientName == ""
