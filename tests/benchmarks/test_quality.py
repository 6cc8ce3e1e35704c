"""The benchmark of the quality of maps: its composites, and its table."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks import quality
from benchmarks.quality_photos import SIZE, write_composites
from benchmarks.suites import measures
from explainable_model import METHODS
from explainable_model.evaluation import MEASURES

RED, BLUE = (255, 0, 0, 255), (0, 0, 255, 255)


@pytest.fixture
def stamps(tmp_path: Path) -> Path:
    """Two disks that are recognized, one that is not, an empty stamp and a cartoon."""
    rows, columns = np.mgrid[:40, :40]
    disk = (rows - 20) ** 2 + (columns - 20) ** 2 < 300
    for name, color in {"red": RED, "blue": BLUE, "gray": (127, 127, 127, 255), "empty": (0, 0, 0, 0)}.items():
        pixels = np.zeros((60, 50, 4), np.uint8)
        pixels[10:50, 5:45][disk] = color
        (tmp_path / "stamps" / "cartoon").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "stamps" / f"{name}.png")
    Image.fromarray(pixels).save(tmp_path / "stamps" / "cartoon" / "red.png")
    return tmp_path / "stamps"


def predict(pictures: Sequence[Image.Image]) -> NDArray[np.float64]:
    """Class 0 for something red, 1 for something blue; undecided otherwise."""
    means = [np.asarray(picture, np.float64).mean((0, 1)) for picture in pictures]
    signs = np.array([np.sign(np.round(mean[0] - mean[2])) for mean in means])
    return np.stack([0.2 + 0.6 * (signs > 0), 0.2 + 0.6 * (signs < 0)], 1)


def test_composites_show_the_object_where_the_mask_says(stamps: Path, tmp_path: Path) -> None:
    found = write_composites(stamps, tmp_path / "out", predict)
    assert sorted(path.stem.split("-")[1] for path in found) == ["blue", "red"]
    for path in found:
        color = RED if "red" in path.name else BLUE
        pixels = np.asarray(Image.open(path)).astype(int)
        mask = np.asarray(Image.open(tmp_path / "out" / "masks" / path.name)) > 0
        assert pixels.shape == (SIZE, SIZE, 3)
        inside = (np.abs(pixels - color[:3]).sum(2) < 150) == mask
        assert inside.mean() > 0.99
        rows = np.nonzero(mask)[0]
        assert 95 <= rows.max() - rows.min() + 1 <= 140
        assert np.ptp(pixels[~mask].mean(1)) > 50, "the background is a photo"
    again = write_composites(stamps / "gone", tmp_path / "out", predict)
    assert again == found, "what is there stays"


def test_no_stamps(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="apt-get install tuxpaint-stamps-default"):
        write_composites(tmp_path, tmp_path / "out", predict)


def test_stages_ask_for_what_there_is() -> None:
    for stage in quality.STAGES.values():
        assert set(stage.methods) <= set(METHODS)
        assert set(stage.measures) <= set(MEASURES)
        assert stage.photos <= quality.PART
    asked = {name for stage in quality.STAGES.values() for name in stage.measures}
    assert asked == set(MEASURES), "every measure is measured somewhere"
    fit = {name for name, method in METHODS.items() if not method.needs_tokens}
    assert fit - {name for stage in quality.STAGES.values() for name in stage.methods} == {"iscam", "sscam"}


def test_results_join_the_parts(tmp_path: Path) -> None:
    rows = [
        {"photo": "a", "candidate": "gradcam at bn2", "class_idx": 1, "values": {"iou": 0.25, "increase": 1.0}},
        {"photo": "b", "candidate": "gradcam at bn2", "class_idx": 2, "values": {"iou": 0.75, "increase": None}},
    ]
    for part, row in enumerate(rows):
        (tmp_path / f"layers-{part}.jsonl").write_text("{}\n" + json.dumps(row) + "\n")
    later = {**rows[0], "values": {"insertion": 0.5}}
    (tmp_path / "layers-curves-0.jsonl").write_text("{}\n" + json.dumps(later) + "\n" + '{"photo": "cut')
    found = quality.write_results(tmp_path, tmp_path / "out")
    assert found["rows"]["gradcam at bn2"]["iou"] == {"mean": 0.5, "low": 0.25, "high": 0.75, "photos": 2}
    assert found["rows"]["gradcam at bn2"]["increase"]["photos"] == 1
    assert json.loads((tmp_path / "out" / "quality.json").read_text()) == found
    page = (tmp_path / "out" / "quality.md").read_text()
    assert "| gradcam at bn2 | 0.50 (0.25 to 0.75) | 2 |" in page
    assert "pointing_game" not in page, "no empty column"
    assert "| gradcam at bn2 | 0.50 (0.50 to 0.50) |" in page
    assert "Without a figure: `gradcam++`, " in page


def test_the_cost_of_a_measure_stands_beside_the_least() -> None:
    page = measures.to_markdown(
        {
            "explainable_model, ONNX Runtime": {"seconds": 0.4, "area": 0.5},
            "Quantus, PyTorch": {"seconds": 6.0, "area": 0.504, "version": "0.6.0"},
            "explainable_model, PyTorch": {"failed": "broken"},
        }
    )
    assert "| explainable_model, ONNX Runtime | 0.40 | 1.0 | 0.500 |" in page
    assert "| Quantus, PyTorch | 6.00 | 15.0 | 0.504 |" in page
    assert "- explainable_model, PyTorch: broken" in page
