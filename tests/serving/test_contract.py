"""Requests that would take too much, or that are no requests: each is refused with a status of its own."""

import io
import json
import random
import string

import numpy as np
import pytest
from PIL import Image

from explainable_model.imaging.window import to_eight_bits
from explainable_model.serving import Request, RequestError, Service, Settings, parse_json_fields
from explainable_model.serving.contract import MAX_SIDE
from tests.serving.test_serving import GOOD, ask, make_photo


def test_the_size_is_checked_before_decoding(service: Service) -> None:
    service = Service(service._run, service.metadata, Settings(max_pixels=100))
    (response,) = ask(service, Request({"image": GOOD["png"]}))
    assert response.status == 413
    assert "expected at most 100" in json.loads(response.body)["message"]


@pytest.mark.parametrize("size", [(1, MAX_SIDE + 1), (MAX_SIDE + 1, 1)])
def test_a_picture_may_not_be_endlessly_long(service: Service, size: tuple[int, int]) -> None:
    small = io.BytesIO()
    Image.new("L", size).save(small, format="PNG")
    (response,) = ask(service, Request({"image": small.getvalue()}))
    assert response.status == 413
    assert "65,535 on a side" in json.loads(response.body)["message"]


def test_a_jpeg_of_many_scans_is_refused_before_decoding(service: Service) -> None:
    progressive = io.BytesIO()
    make_photo().save(progressive, format="JPEG", progressive=True)
    whole = progressive.getvalue()
    last = whole.rindex(b"\xff\xda")
    many = whole[:last] + whole[last:-2] * 300 + whole[-2:]
    fine, refused = ask(service, Request({"image": whole}), Request({"image": many}))
    assert fine.status == 200
    assert refused.status == 413
    assert "scans; expected at most 200" in json.loads(refused.body)["message"]


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"a":' * 100_000, b"{", b"[1]", b"1" * 5000, b"\xff", b"", b"null", b"NaN"]
)
def test_json_that_is_no_request(body: bytes) -> None:
    with pytest.raises(RequestError, match="The body is") as refusal:
        parse_json_fields(body)
    assert refusal.value.status == 400


def test_no_text_in_a_field_is_an_error_of_the_server(service: Service) -> None:
    """Random texts, numbers and bytes in every field: 200 or 400."""
    choose = random.Random(0)
    letters = string.printable + "٣½\u2212\u0000\ud7ff"
    for _ in range(300):
        text = "".join(choose.choices(letters if choose.random() < 0.5 else "0123456789+-,. e", k=choose.randrange(8)))
        value = choose.choice(
            [text, text.encode("utf-16"), choose.uniform(-9, 9), float("nan"), choose.randrange(-9, 9), None]
        )
        fields = {"image": GOOD["one pixel"], choose.choice(["class", "top", "window", "accept", "image"]): value}
        (response,) = ask(service, Request(fields))
        assert response.status in (200, 400, 415), (fields, response.body)


def test_sixteen_bits_are_brought_to_eight_in_strips() -> None:
    """More values than one strip holds, against the formula on the whole."""
    values = np.random.default_rng(0).integers(0, 65536, (1100, 1000), dtype=np.uint16)
    levels = np.asarray(to_eight_bits(Image.fromarray(values)))
    assert np.array_equal(levels, (values / 65535 * 255).round().astype(np.uint8))
    floats = np.where(values > 60_000, np.nan, values / 65535).astype(np.float32)
    levels = np.asarray(to_eight_bits(Image.fromarray(floats)))
    assert np.array_equal(levels, (np.nan_to_num(floats).astype(np.float64) * 255).round().astype(np.uint8))
