"""What ``evaluate`` cannot use: it says so, names it and measures the rest."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from explainable_model.errors import InputError
from explainable_model.evaluation import compare, evaluate
from explainable_model.networks.named import NamedModel
from tests.evaluation.conftest import run_without_torch


def test_what_cannot_be_used_is_named_and_left_out(artifact: Path, photos: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    masks = {"photo0": np.zeros((48, 64)), "photo1": np.ones((3, 3)), "photo2": np.ones((48, 64))}
    found = evaluate(artifact, [broken, *photos[:4]], measures=["iou"], masks=masks)
    assert [row["photo"] for row in found.rows if row["candidate"] == "gradcam"] == ["photo2.png"]
    errors = list(found.errors.values())
    assert "not a picture" in errors[0]
    assert "empty" in errors[1]
    assert "shape (3, 3); expected (48, 64)" in errors[2]
    assert "no mask for photo3.png" in errors[3]
    assert "4 left out" in str(found)


def test_no_photo_at_all(artifact: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"No photo could be measured: .*broken\.png is not a picture"):
        evaluate(artifact, [broken])


@pytest.mark.parametrize(
    ("measures", "message"),
    [
        (["faithfulness"], "no measure 'faithfulness'; expected some of insertion, deletion"),
        ([], "measures is \\[\\]; expected a list"),
        ("insertion", "measures is 'insertion'; expected a list"),
        (["iou"], "iou compare maps with masks; pass masks="),
        (["randomization"], r"randomization changes the weights.*net\.onnx.*Measures for any model: insertion"),
    ],
)
def test_measures_that_do_not_fit(measures: list[str], message: str, artifact: Path, photos: list[Path]) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(artifact, photos, measures=measures)


def test_mosaics_need_four_photos(artifact: Path, photos: list[Path]) -> None:
    with pytest.raises(InputError, match="join 4 photos of different classes; got 2"):
        evaluate(artifact, photos[:2], measures=["grid_pointing"])


def test_a_measure_of_networks_is_refused_without_torch(artifact: Path, photos: list[Path]) -> None:
    done = run_without_torch(
        f"evaluate({str(artifact)!r}, {str(photos[0])!r}, measures=['insertion', 'randomization'])"
    )
    assert "InputError: randomization changes the weights of a network" in done.stderr


def test_one_photo_has_no_interval(artifact: Path, photos: list[Path]) -> None:
    found = evaluate(artifact, photos[0], measures=["complexity", "grid_pointing"])
    assert " to " not in str(found).split("Values")[0]
    assert "No value of grid_pointing: no 4 photos of different classes to join." in str(found)
    assert "Values of one photo, no intervals." in str(found)
    assert "95 %" in str(evaluate(artifact, photos[:2], measures=["complexity"]))
    assert "1 photo (1 left out): the same class in 100.0%" in str(compare(artifact, artifact, [photos[0], "none.png"]))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((48, 64, 3)), r"shape \(48, 64, 3\); expected \(48, 64\)"),
        (np.full((48, 64), np.nan), "holds values that are not finite; expected numbers, zero outside"),
        ("a text", "holds <U6; expected numbers"),
    ],
)
def test_masks_that_are_none(mask: Any, message: str, artifact: Path, photos: list[Path]) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(artifact, photos[:1], measures=["iou"], masks={"photo0": mask})


def test_what_holds_no_masks(artifact: Path, photos: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no folder .*nowhere; expected a folder of masks"):
        evaluate(artifact, photos[:1], measures=["iou"], masks=tmp_path / "nowhere")
    given: Any = [np.ones((48, 64))]
    with pytest.raises(InputError, match="masks is list; expected a folder, a dictionary or a function"):
        evaluate(artifact, photos[:1], measures=["iou"], masks=given)


@pytest.mark.parametrize("ending", ["jpg", "webp"])
def test_the_noise_of_a_lossy_mask_is_not_inside(
    artifact: Path, photos: list[Path], tmp_path: Path, ending: str
) -> None:
    with Image.open(photos[0].parent / "masks" / "photo0.png") as opened:
        mask = opened.convert("L")
    mask.save(tmp_path / f"photo0.{ending}", quality=40)
    with Image.open(tmp_path / f"photo0.{ending}") as noisy:
        assert (np.asarray(noisy.convert("L")) != 0).sum() > 1.1 * (np.asarray(mask) != 0).sum()
    sharp, lossy = (
        evaluate(artifact, photos[:1], measures=["energy_in_mask"], masks=folder).rows[0]["values"]["energy_in_mask"]
        for folder in (photos[0].parent / "masks", tmp_path)
    )
    assert lossy == pytest.approx(sharp, rel=0.02)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"methods": "layercam"}, "methods is 'layercam'; expected a list"),
        ({"methods": []}, r"methods is \[\]; expected a list"),
        ({"layers": "layer2"}, "layers is 'layer2'; expected a list"),
        ({"seed": -1}, "seed is -1; expected an integer of at least 0"),
        ({"seed": 0.5}, "seed is 0.5; expected an integer of at least 0"),
    ],
)
def test_arguments(given: dict[str, Any], message: str, named: NamedModel, photos: list[Path]) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(named, photos[:1], measures=["complexity"], **given)


def test_the_name_of_the_layer(named: NamedModel, photos: list[Path]) -> None:
    with pytest.raises(TypeError, match="no argument 'layer'. Did you mean 'target_layer'"):
        evaluate(named, photos[:1], measures=["complexity"], layer="layer2")
