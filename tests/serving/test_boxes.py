"""A detector behind the service: boxes in pixels of the photo, each with its own map."""

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from explainable_model import ExplainableModel, Preprocess, export, load
from explainable_model.errors import ArtifactError, InputError
from explainable_model.serving import Request, Service, Settings
from tests.serving.test_serving import BAD, ask
from tests.support.detectors import ColoredCells, colored_candidates

NAMES = ("red", "green")
LETTERBOX = Preprocess((64, 96), mean=(0.0,) * 3, std=(1.0,) * 3, resize=None, interpolation="nearest", pad=0.5)
SQUARES = {(32, 16): (230, 25, 0), (96, 48): (30, 220, 0)}  # corner in the photo of 192 x 96, of 32 pixels, and color


def make_photo() -> Image.Image:
    photo = Image.new("RGB", (192, 96), (90, 90, 90))
    for corner, color in SQUARES.items():
        photo.paste(color, (*corner, corner[0] + 32, corner[1] + 32))
    return photo


def encode(photo: Image.Image) -> bytes:
    stream = io.BytesIO()
    photo.save(stream, "PNG")
    return stream.getvalue()


def write(folder: Path, **options: Any) -> Path:
    explainable = ExplainableModel(
        ColoredCells().eval(), "colors", task="detection", candidates=colored_candidates, method="hirescam", top_k=2,
        max_boxes=3, **options,
    )  # fmt: skip
    image = torch.from_numpy(LETTERBOX(make_photo()))
    return export(explainable, folder / "cells.ts", image, preprocess=LETTERBOX, class_names=NAMES, reference=image)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    session = load(write(tmp_path_factory.mktemp("boxes")), threads=1)
    return Service(session, session.metadata)


def score(color: tuple[int, ...]) -> float:
    logit = 8 * abs(color[0] - color[1]) / 255 - 4
    return float(1 / (1 + np.exp(-logit)))


def ask_json(service: Service, **fields: Any) -> dict[str, Any]:
    (response,) = ask(service, Request({"image": encode(make_photo()), **fields}))
    assert (response.status, response.content_type) == (200, "application/json"), response.body
    record: dict[str, Any] = json.loads(response.body)
    return record


def read_map(box: Mapping[str, Any]) -> Any:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(box["heatmap"]))), np.float64) / 255


def test_boxes_are_in_pixels_of_the_photo_and_each_has_its_map(service: Service) -> None:
    """The photo becomes 96 x 48 pixels under a border of 8 rows: each square of 32 pixels is one cell of 16."""
    record = ask_json(service)
    assert record["task"] == "detection"
    assert record["size"] == [192, 96]
    assert record["seen"] == [0, 0, 192, 96]
    boxes = record["boxes"]
    assert [box["class_name"] for box in boxes] == ["red", "green"]
    assert [box["class_idx"] for box in boxes] == [0, 1]
    for box, (corner, color) in zip(boxes, SQUARES.items(), strict=True):
        left, top = corner[0], corner[1]
        np.testing.assert_allclose(box["box"], [left, top, left + 32, top + 32], atol=1e-3)
        assert box["score"] == pytest.approx(score(color), abs=1e-3)
        assert box["range"] == [0, 1]
        cam = read_map(box)
        assert cam.shape == (48, 96)
        column, row = box["hottest"]
        assert left < column < left + 32
        assert top < row < top + 32
        outside = np.ones(cam.shape, bool)
        outside[top // 2 : top // 2 + 16, left // 2 : left // 2 + 16] = False
        assert cam[~outside].max() == 1
        assert cam[outside].max() == 0, color


def test_one_box_by_its_rank_and_fewer_boxes(service: Service) -> None:
    whole = ask_json(service)["boxes"]
    (second,) = ask_json(service, box=1)["boxes"]
    assert second == whole[1]
    assert ask_json(service, top="1")["boxes"] == whole[:1]
    assert ask_json(service, box="-1")["boxes"] == whole
    assert ask_json(service, box="2")["boxes"] == []  # the third rank of the photo's two boxes


def test_a_picture_of_all_boxes(service: Service) -> None:
    service = Service(service._run, service.metadata, Settings(overlay_side=96))
    (response,) = ask(service, Request({"image": encode(make_photo())}, "image/png"))
    record = json.loads(response.headers["X-Explanation"])
    assert [box["class_name"] for box in record["boxes"]] == ["red", "green"]
    assert "heatmap" not in record["boxes"][0]
    with Image.open(io.BytesIO(response.body)) as picture:
        assert picture.size == (96, 48)
        pixels = np.asarray(picture.convert("RGB"), int)
    red_square, bare = pixels[12:20, 20:28].mean((0, 1)), pixels[30:44, 5:12].mean((0, 1))
    assert np.ptp(bare) < 1  # gray
    assert red_square[0] > red_square[1:].max() + 60  # the color of the first box


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"class": "red"}, "ask for one of them by its rank"),
        ({"box": "3"}, "0 to 2"),
        ({"box": "cup"}, "expected the rank of a box"),
        ({"box": [1]}, "of type list"),
        ({"top": "3"}, "from 0 to 2"),
        ({"box": "9" * 900}, "expected the rank of a box"),
    ],
)
def test_what_a_detector_does_not_have(service: Service, fields: dict[str, Any], message: str) -> None:
    broken = next(iter(BAD.values()))[0]
    refused, fine, bad = ask(
        service,
        Request({"image": encode(make_photo()), **fields}),
        Request({"image": encode(make_photo())}),
        Request({"image": broken}),
    )
    assert (refused.status, fine.status, bad.status) == (400, 200, 400)
    assert message in json.loads(refused.body)["message"]


def test_an_empty_photo_has_no_boxes(service: Service) -> None:
    (response,) = ask(service, Request({"image": encode(Image.new("RGB", (192, 96), (90, 90, 90)))}))
    assert json.loads(response.body)["boxes"] == []
    (drawn,) = ask(service, Request({"image": encode(Image.new("RGB", (192, 96), (90, 90, 90)))}, "image/png"))
    assert drawn.content_type == "image/png"


def test_other_boxes_or_maps_than_recorded_are_not_served(service: Service) -> None:
    run, metadata = service._run, service.metadata
    assert metadata.reference is not None
    assert metadata.reference.photo is not None
    assert metadata.reference.class_idx == [[0, 1], [0, 1]]

    def shifted(image: Any, ranks: Any) -> Any:
        (boxes, *others), cam = run(image, ranks)
        return [boxes + 3, *others, cam]

    def renamed(image: Any, ranks: Any) -> Any:
        (boxes, scores, labels, valid), cam = run(image, ranks)
        return [boxes, scores, 1 - labels, valid, cam]

    def blurred(image: Any, ranks: Any) -> Any:
        detections, cam = run(image, ranks)
        return [*detections, cam * 0.5]

    for wrong, message in (
        (shifted, "boxes and scores differ"),
        (renamed, "boxes of the classes"),
        (blurred, "the map"),
    ):
        with pytest.raises(ArtifactError, match=message):
            Service(wrong, metadata)
    with pytest.raises(ArtifactError, match="no recorded answer"):
        Service(run, replace(metadata, reference=None))


def test_a_photo_without_boxes_is_no_reference(tmp_path: Path) -> None:
    explainable = ExplainableModel(
        ColoredCells().eval(), "colors", task="detection", candidates=colored_candidates, method="hirescam"
    )
    image = torch.from_numpy(LETTERBOX(make_photo()))
    with pytest.raises(InputError, match="finds no box in the photo of reference="):
        export(explainable, tmp_path / "cells.ts", image, reference=torch.full_like(image, 0.3))
    with pytest.raises(InputError, match="expected one image like the example"):
        export(explainable, tmp_path / "cells.ts", image, reference=image[..., 1:])
