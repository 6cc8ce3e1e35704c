"""The HTTP contract without a server: requests against the network itself, in batches with broken ones."""

import base64
import io
import json
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from explainable_model import ExplainableModel, export, load
from explainable_model.explainer.answers import probabilities
from explainable_model.imaging.overlay import overlay, palette
from explainable_model.imaging.preprocess import open_photo
from explainable_model.serving import Request, Response, Service, Settings
from explainable_model.serving.contract import PNG, wants_picture
from tests.support.cli_nets import CLASS_NAMES, PREPROCESS, named

PICTURES = runpy.run_path(str(Path(__file__).parents[2] / "export" / "http" / "pictures.py"))


def make_photo() -> Image.Image:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    return coarse.resize((120, 90), Image.Resampling.BICUBIC)


GOOD: dict[str, bytes] = PICTURES["make_good"](make_photo())
BAD: dict[str, tuple[bytes, int]] = PICTURES["make_bad"](make_photo())


def ask(service: Service, *requests: Request) -> list[Response]:
    responses, durations = service.answer(requests)
    assert len(responses) == len(requests)
    assert min(durations.decode, durations.explain, durations.encode) >= 0
    return responses


def heatmap_of(record: dict[str, Any]) -> NDArray[np.float64]:
    low, high = record["range"]
    with Image.open(io.BytesIO(base64.b64decode(record["heatmap"]))) as picture:
        assert picture.mode == "L"
        return low + np.asarray(picture, np.float64) / 255 * (high - low)


def eagerly(image: bytes, class_idx: int, tmp_path: Path) -> tuple[NDArray[Any], int, NDArray[Any]]:
    (tmp_path / "photo").write_bytes(image)
    pixels = torch.from_numpy(PREPROCESS(open_photo(tmp_path / "photo")))
    logits, explained, cam = ExplainableModel(named().model)(pixels, torch.tensor([class_idx]))
    return logits.numpy(), int(explained), cam.numpy()[0]


@pytest.mark.parametrize("kind", GOOD)
def test_every_good_picture_is_answered_as_by_the_network(service: Service, kind: str, tmp_path: Path) -> None:
    (response,) = ask(service, Request({"image": GOOD[kind], "class": "espresso", "top": "2"}))
    assert response.status == 200
    assert response.content_type == "application/json"
    record = json.loads(response.body)
    logits, class_idx, cam = eagerly(GOOD[kind], CLASS_NAMES.index("espresso"), tmp_path)
    odds = probabilities(logits, "logits")
    assert odds is not None
    assert record["class_idx"] == class_idx
    assert record["class_name"] == "espresso"
    assert record["probability"] == pytest.approx(odds[class_idx], rel=1e-4)
    assert record["score"] == pytest.approx(logits[0, class_idx], rel=1e-4, abs=1e-5)
    assert [entry["class_idx"] for entry in record["top"]] == list(np.argsort(-odds)[:2])
    assert np.abs(heatmap_of(record) - cam).max() <= 0.5 / 255 + 1e-3
    size = open_photo(tmp_path / "photo").size
    assert record["size"] == list(size)
    assert record["box"] == list(PREPROCESS.box(*size))


def test_a_picture_of_twelve_bits(service: Service) -> None:
    levels = np.asarray(make_photo().convert("L"))
    deep, plain = io.BytesIO(), io.BytesIO()
    Image.fromarray(levels.astype(np.uint16) * 16).save(deep, format="PNG")
    Image.fromarray(levels).save(plain, format="PNG")
    dark, windowed, wanted, wrong = ask(
        service,
        Request({"image": deep.getvalue()}),
        Request({"image": deep.getvalue(), "window": "0,4080"}),
        Request({"image": plain.getvalue()}),
        Request({"image": deep.getvalue(), "window": "4080"}),
    )
    assert "nearly black" in json.loads(dark.body)["warnings"][0]
    score = pytest.approx(json.loads(wanted.body)["score"], rel=1e-5)
    assert json.loads(windowed.body)["score"] == score
    assert "warnings" not in json.loads(windowed.body)
    assert wrong.status == 400
    assert "BLACK,WHITE" in json.loads(wrong.body)["message"]
    window = Service(service._run, replace(service.metadata, preprocess=replace(PREPROCESS, window=(0, 4080))))
    (recorded,) = ask(window, Request({"image": deep.getvalue()}))
    assert json.loads(recorded.body)["score"] == score
    assert json.loads(dark.body)["score"] != score


def test_a_broken_picture_fails_alone(service: Service) -> None:
    """All bad ones and all good ones in one batch: each gets the answer that it gets alone."""
    pictures = [picture for pair in zip(BAD.values(), GOOD.values(), strict=False) for picture in (pair[0][0], pair[1])]
    responses = ask(service, *(Request({"image": picture}) for picture in pictures))
    assert [int(response.status) for response in responses[::2]] == [status for _, status in BAD.values()]
    assert {int(response.status) for response in responses[1::2]} == {200}
    for picture, response in zip(pictures[1::2], responses[1::2], strict=True):
        (alone,) = ask(service, Request({"image": picture}))
        both = [json.loads(each.body) for each in (alone, response)]
        maps = [heatmap_of(record) for record in both]
        assert both[0]["class_idx"] == both[1]["class_idx"]
        assert np.abs(maps[0] - maps[1]).max() <= 1.01 / 255


@pytest.mark.parametrize("kind", BAD)
def test_errors_say_what_was_expected(service: Service, kind: str) -> None:
    image, status = BAD[kind]
    (response,) = ask(service, Request({"image": image}))
    record = json.loads(response.body)
    assert response.content_type == "application/json"
    assert record["code"] == int(response.status) == status
    assert record["message"].endswith((".", "?"))
    assert "picture" in record["message"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "There is no picture; send its bytes as the body with the header Content-Type: image/jpeg"),
        ({"image": "not base64!"}, "image is not base64"),
        ({"image": 3}, "There is no picture"),
        ({"image": GOOD["png"], "class": "crane"}, "are all named 'crane'"),
        ({"image": GOOD["png"], "class": "a dog"}, "There is no class 'a dog' among 5"),
        ({"image": GOOD["png"], "class": "5"}, "expected 0 to 4"),
        ({"image": GOOD["png"], "class": b"-2"}, "expected 0 to 4"),
        ({"image": GOOD["png"], "top": "-1"}, "expected a number from 0 to 5"),
        ({"image": GOOD["png"], "top": "many"}, "expected a number from 0 to 5"),
        ({"image": GOOD["png"], "class": "+-5"}, "There is no class '+-5'"),
        ({"image": GOOD["png"], "class": "9" * 900}, "a number of 900 characters"),
        ({"image": GOOD["png"], "class": "9" * 5000}, "class has 5,000 characters"),
        ({"image": GOOD["png"], "class": "x" * 5000}, "class has 5,000 characters"),
        ({"image": GOOD["png"], "class": [1]}, "class is of type list"),
        ({"image": GOOD["png"], "class": {}}, "class is of type dict"),
        ({"image": GOOD["png"], "class": "٣-"}, "There is no class"),
        ({"image": GOOD["png"], "top": "9" * 900}, "expected a number from 0 to 5"),
        ({"image": GOOD["png"], "top": "٣"}, "expected a number from 0 to 5"),
        ({"image": GOOD["png"], "window": "1e400,1"}, "window is"),
        ({"image": GOOD["png"], "accept": ["image/png"]}, "accept is of type list"),
    ],
)
def test_wrong_fields(service: Service, fields: dict[str, Any], message: str) -> None:
    (response, fine) = ask(service, Request(fields), Request({"image": GOOD["png"]}))
    assert response.status == 400
    assert message in json.loads(response.body)["message"]
    assert fine.status == 200


def test_base64_form_text_and_json_numbers_mean_the_same(service: Service) -> None:
    raw = GOOD["png"]
    ways = [
        {"image": raw, "class": b"tiger cat"},
        {"image": bytearray(raw), "class": "1"},
        {"image": base64.b64encode(raw).decode(), "class": 1},
    ]
    bodies = {response.body for response in ask(service, *(Request(fields) for fields in ways))}
    assert len(bodies) == 1
    assert json.loads(bodies.pop())["class_idx"] == 1


def test_overlay_is_the_library_s_own(service: Service) -> None:
    settings = Settings(overlay_side=64, colormap=palette("jet"), alpha=0.25)
    service = Service(service._run, service.metadata, settings)
    (json_answer, picture_answer) = ask(
        service, Request({"image": GOOD["png"]}), Request({"image": GOOD["png"]}, accept="image/png")
    )
    assert picture_answer.content_type == "image/png"
    record, explanation = json.loads(json_answer.body), json.loads(picture_answer.headers["X-Explanation"])
    assert explanation == {
        key: record[key] for key in ("output_kind", "class_idx", "class_name", "probability", "score")
    }
    photo = Image.open(io.BytesIO(GOOD["png"])).convert("RGB")
    photo.thumbnail((64, 64))
    expected = overlay(photo, heatmap_of(record), colormap="jet", alpha=0.25, box=PREPROCESS.box(*photo.size))
    got = Image.open(io.BytesIO(picture_answer.body))
    assert got.size == photo.size
    assert np.abs(np.asarray(got, np.int16) - np.asarray(expected, np.int16)).max() <= 3


def test_signed_maps_are_drawn_around_zero(tmp_path: Path) -> None:
    explainable = ExplainableModel(named().model, "layer1", signed=True)
    path = export(explainable, tmp_path / "signed.onnx", torch.zeros(1, 3, 32, 32), preprocess=PREPROCESS)
    session = load(path, threads=1)
    service = Service(session, session.metadata)
    json_answer, picture = ask(service, Request({"image": GOOD["png"]}), Request({"image": GOOD["png"]}, accept=PNG))
    record = json.loads(json_answer.body)
    cam = heatmap_of(record)
    assert record["range"] == [-1, 1]
    assert cam.min() < -0.1
    photo = Image.open(io.BytesIO(GOOD["png"])).convert("RGB")
    box = PREPROCESS.box(*photo.size)
    expected = overlay(photo, cam, colormap="RdBu_r", box=box, signed=True)
    got = np.asarray(Image.open(io.BytesIO(picture.body)), np.int16)
    assert np.abs(got - np.asarray(expected, np.int16)).max() <= 3
    assert np.abs(got - np.asarray(overlay(photo, cam.clip(0), box=box), np.int16)).max() > 50


@pytest.mark.parametrize(
    ("accept", "picture"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("image/png", True),
        ("IMAGE/PNG; q=0.9", True),
        ("image/avif,image/webp,image/*,*/*;q=0.8", True),
        ("application/json, image/png", False),
        ("text/html", False),
    ],
)
def test_accept(accept: str, picture: bool) -> None:
    assert wants_picture(accept) is picture


@pytest.mark.parametrize("box", ["0", "-1", "abc"])
def test_a_classifier_has_no_boxes(service: Service, box: str) -> None:
    refused, fine = ask(service, Request({"image": GOOD["png"], "box": box}), Request({"image": GOOD["png"]}))
    assert (refused.status, fine.status) == (400, 200)
    assert "box is of detectors" in json.loads(refused.body)["message"]
