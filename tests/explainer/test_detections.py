"""Boxes of photos: places in the photo's own pixels, names, pictures, ranks, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import explainable_model as xm
from explainable_model import NamedModel, Preprocess
from explainable_model.errors import InputError
from explainable_model.explainer.detector import open_detector
from explainable_model.explainer.explainer import wrapper_explainer
from explainable_model.explainer.photo_detections import PhotoDetections
from explainable_model.imaging.tiles import SIDE as TILE
from tests.support.detectors import CLASSES, SIZE, photos, tiny_fcos

NAMES = tuple("abcd")[:CLASSES]
PLAIN = Preprocess(SIZE, mean=(0.0,) * 3, std=(1.0,) * 3, resize=None)
BOXED = Preprocess(SIZE, mean=(0.0,) * 3, std=(1.0,) * 3, pad=0.447)
PHOTO_SIZE = (144, 160)  # width, height


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    pixels = photos(1, PHOTO_SIZE[::-1])[0].permute(1, 2, 0).mul(255).round().to(torch.uint8)
    return Image.fromarray(pixels.numpy())


@pytest.fixture(scope="module")
def named() -> NamedModel:
    return NamedModel(tiny_fcos(), PLAIN, NAMES)


@pytest.fixture(scope="module")
def found(named: NamedModel, photo: Image.Image) -> PhotoDetections:
    answer: PhotoDetections = xm.explain(photo, named, task="detection", top_k=3)
    return answer


def test_boxes_lie_in_pixels_of_the_photo(named: NamedModel, photo: Image.Image, found: PhotoDetections) -> None:
    with torch.no_grad():
        (own,) = named.model(list(torch.from_numpy(PLAIN(photo))))
    scale = np.array([PHOTO_SIZE[0] / SIZE[1], PHOTO_SIZE[1] / SIZE[0]] * 2)
    np.testing.assert_allclose(found.boxes, own["boxes"][:3].numpy() * scale, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found.scores, own["scores"][:3].numpy(), rtol=1e-4)
    assert found.labels.tolist() == own["labels"][:3].tolist()
    assert found.class_names == tuple(NAMES[label] for label in found.labels)


def test_maps_and_boxes_of_an_image_with_a_border(named: NamedModel, photo: Image.Image) -> None:
    """The border is cut from the maps; 72 of the 96 columns show the photo, which is enlarged by two."""
    answer = xm.explain(photo, named, task="detection", top_k=3, preprocess=BOXED)
    explainable = xm.ExplainableModel(named.model, task="detection", top_k=3, method="hirescam", upsample="bicubic")
    (boxes, _, _, valid), cam = explainable(torch.from_numpy(BOXED(photo)))
    assert valid.all()
    np.testing.assert_allclose(answer.cam, cam[0, :, :, 12:84].numpy(), atol=1e-6)
    expected = (boxes[0].numpy() - np.array([12, 0, 12, 0])) * 2
    np.testing.assert_allclose(answer.boxes, expected.clip(0, np.array([*PHOTO_SIZE] * 2)), rtol=1e-4, atol=1e-3)
    assert answer.box == (0, 0, *PHOTO_SIZE)
    assert answer.overlay().size == photo.size


def test_a_box_describes_itself(found: PhotoDetections) -> None:
    record = json.loads(found.to_json())
    assert (record["task"], record["method"], len(record["boxes"])) == ("detection", "hirescam", 3)
    for number, box in enumerate(record["boxes"]):
        assert box["class_name"] == found.class_names[number]
        assert box["score"] == found.scores[number]
        row, column = np.unravel_index(found.cam[number].argmax(), found.cam[number].shape)
        place = [(int(column) + 0.5) * PHOTO_SIZE[0] / SIZE[1], (int(row) + 0.5) * PHOTO_SIZE[1] / SIZE[0]]
        assert box["hottest"] == pytest.approx(place)
    assert found.texts[0] == f"{found.class_names[0]} {found.scores[0]:.0%}"
    assert found.label in repr(found)
    assert "hirescam at the inputs of the head" in repr(found)
    assert found.layers == ("levels.0", "levels.1", "levels.2")


def test_pictures(found: PhotoDetections, tmp_path: Path, photo: Image.Image) -> None:
    assert found.overlay().size == photo.size
    assert found.panel().width > 3 * TILE
    with Image.open(found.save(tmp_path / "boxes.jpg")) as sheet:
        assert sheet.format == "JPEG"
    with Image.open(found.save(tmp_path / "all.png", "overlay", colormap="viridis")) as picture:
        assert picture.size == photo.size
    assert found._repr_html_().startswith("<img")
    with pytest.raises(InputError, match="picture is 'heatmap'; expected one of panel, overlay"):
        found.save(tmp_path / "x.png", "heatmap")


def test_a_rank_is_explained_alone(named: NamedModel, photo: Image.Image, found: PhotoDetections) -> None:
    explainer = open_detector(named, top_k=3, max_boxes=3)
    (alone,) = xm.explain([photo], explainer, 2)
    assert len(alone) == 1
    np.testing.assert_allclose(alone.boxes[0], found.boxes[2], rtol=1e-5)
    np.testing.assert_allclose(alone.cam[0], found.cam[2], atol=1e-6)
    pair = xm.explain(photo, explainer, [1, 0])
    np.testing.assert_allclose(pair.scores, found.scores[[1, 0]], rtol=1e-5)
    with pytest.raises(InputError, match="4 boxes were asked for; this detector explains 3 at once"):
        xm.explain(photo, explainer, [0, 1, 2, 1])


def test_a_wrapper_is_a_detector_by_itself(named: NamedModel, photo: Image.Image, found: PhotoDetections) -> None:
    explainable = xm.ExplainableModel(named.model, task="detection", method="hirescam", upsample="bicubic")
    answer = xm.explain(photo, explainable, preprocess=PLAIN)
    assert isinstance(answer, PhotoDetections)
    assert answer.class_names == (f"class {found.labels[0]}",)
    assert answer.to_dict()["boxes"][0]["class_name"] is None
    np.testing.assert_allclose(answer.cam[0], found.cam[0], atol=1e-6)


def test_a_photo_without_boxes(named: NamedModel, photo: Image.Image) -> None:
    answer = xm.explain(photo, named, task="detection", score_threshold=0.999)
    assert (len(answer), answer.label, answer.hottest, answer.to_dict()["boxes"]) == (0, "no box", (), [])
    assert answer.overlay().size == photo.size
    assert answer.panel().width > TILE


def test_what_reads_one_class_takes_no_detector(named: NamedModel, photo: Image.Image) -> None:
    explainable = xm.ExplainableModel(named.model, task="detection")
    with pytest.raises(
        InputError, match="FCOS finds boxes, each with a map, which explain.* expected a classifier here"
    ):
        wrapper_explainer(explainable, named)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_idx": "cup"}, "class_idx is 'cup'; for a detector it is the rank of a box"),
        ({"method": ["gradcam", "layercam"]}, "expected one method for the boxes of a detector"),
        ({"output_kind": "logits"}, "output_kind reads the output of a classifier"),
        ({"class_names": ["a"]}, "there are 1 class names. Expected one for each class as the detector counts"),
        ({"task": "segmentation"}, "task is 'segmentation'; expected 'detection'"),
        ({"task": None, "top_k": 2, "max_boxes": 2}, "max_boxes= is of detectors; add task='detection'"),
        ({"preprocess": BOXED, "upsample": "none"}, "an image with a border has maps of its own size"),
    ],
)
def test_refusals(named: NamedModel, photo: Image.Image, options: dict[str, Any], message: str) -> None:
    arguments = {"task": "detection", **options}
    with pytest.raises(InputError) as caught:
        xm.explain(photo, named, **arguments).panel()
    assert message in str(caught.value)
