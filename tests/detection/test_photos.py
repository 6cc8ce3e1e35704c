"""Artifacts of detectors that take photos of any size: boxes and maps in the photo's own pixels."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from explainable_model import ExplainableModel, NamedModel, Preprocess, explain, export, load
from explainable_model.artifact.shapes import spatial
from explainable_model.imaging.letterbox import find_place
from explainable_model.imaging.overlay import resize_map
from explainable_model.lowering.example_photos import make_photos_like, photo_sizes
from explainable_model.lowering.imaging import PhotoIO
from explainable_model.serving import Request, Service
from tests.serving.test_boxes import encode, make_photo
from tests.support.detectors import ColoredCells, colored_candidates

NAMES = ("red", "green")
PREPARATIONS = {
    "letterbox": Preprocess((64, 96), mean=(0.0,) * 3, std=(1.0,) * 3, resize=None, pad=0.5),
    "squashed": Preprocess((64, 96), mean=(0.1,) * 3, std=(0.8,) * 3, resize=None),
    "cropped": Preprocess((64, 96), mean=(0.0,) * 3, std=(1.0,) * 3, resize=100),
}
OPTIONS: Any = {
    "task": "detection", "candidates": colored_candidates, "method": "hirescam", "top_k": 3, "upsample": "bicubic",
}  # fmt: skip


def photos() -> list[Image.Image]:
    whole = make_photo()
    return [whole, whole.resize((96, 48)), whole.transpose(Image.Transpose.ROTATE_90).resize((300, 500))]


@pytest.mark.parametrize(("name", "suffix"), [("letterbox", "onnx"), ("cropped", "ts")])
def test_boxes_are_those_of_a_photo_prepared_outside(name: str, suffix: str, tmp_path: Path) -> None:
    preprocess = PREPARATIONS[name]
    network = ColoredCells().eval()
    image = torch.from_numpy(preprocess(make_photo()))
    path = export(
        ExplainableModel(network, "colors", **OPTIONS), tmp_path / f"cells.{suffix}", image, preprocess=preprocess,
        class_names=NAMES, pixels="NHWC", reference=image,
    )  # fmt: skip
    named = NamedModel(network, preprocess, NAMES)
    found = 0
    for photo in photos():
        got: Any = explain(photo, path)
        want: Any = explain(photo, named, target_layer="colors", **OPTIONS)
        assert got.class_names == want.class_names
        np.testing.assert_allclose(got.boxes, want.boxes, atol=0.02)
        np.testing.assert_allclose(got.scores, want.scores, atol=5e-3)
        assert got.box == (0, 0, *photo.size)
        left, top, right, bottom = (round(edge) for edge in want.box)
        for cam, expected in zip(got.cam, want.cam, strict=True):
            large = resize_map(expected, (left, top, right, bottom))
            seen = cam[max(top, 0) : bottom, max(left, 0) : right]
            assert np.corrcoef(seen.ravel(), large.ravel())[0, 1] > 0.98
        found += len(got)
    assert found > 2
    session = load(path, threads=1)
    (response,) = Service(session, session.metadata).answer([Request({"image": encode(make_photo())})])[0]
    assert response.status == 200, response.body


def test_a_box_is_given_in_pixels_of_the_photo(tmp_path: Path) -> None:
    """Half of the photo's size, and beside a border: the candidate under the given box is explained."""
    preprocess = PREPARATIONS["letterbox"]
    options: Any = {**OPTIONS, "top_k": None, "by_box": True}
    image = torch.from_numpy(preprocess(make_photo()))
    example = torch.tensor([[16.0, 16.0, 32.0, 32.0]])
    path = export(
        ExplainableModel(ColoredCells().eval(), "colors", **options), tmp_path / "cells.ts", image, example,
        preprocess=preprocess, pixels="NHWC",
    )  # fmt: skip
    levels = np.zeros((1, 96, 48, 3), np.uint8)
    levels[:, 24:48, :24] = (255, 0, 0)  # two thirds of the size, from column 32: the cell at (32, 16)
    levels[:, 72:, 24:] = (0, 255, 0)  # the cell at (48, 48)
    given = np.array([[20.0, 70.0, 46.0, 98.0]], np.float32)
    (boxes, scores, labels, valid), cam = load(path).detect(levels, None, given)
    np.testing.assert_allclose(boxes, [[[24, 72, 48, 96]]], atol=1e-3)
    assert valid.all()
    assert labels.tolist() == [[1]]
    assert scores[0, 0] > 0.95
    assert cam.shape == (1, 1, 96, 48)
    assert cam[0, 0, 74:, 26:].min() > 0.5 > cam[0, 0, :70, :].max()


@pytest.mark.parametrize("name", PREPARATIONS)
@pytest.mark.parametrize(
    ("pixels", "dtype"), [("NHWC", "uint8"), ("NCHW", "uint8"), ("NHW", "uint8"), ("NHW", "uint16")]
)
def test_photos_are_made_that_show_an_image(name: str, pixels: str, dtype: str) -> None:
    window = (1000, 5000) if dtype == "uint16" else None
    preprocess = replace(PREPARATIONS[name], window=window)
    image = torch.from_numpy(preprocess(make_photo()))
    if pixels == "NHW":  # gray
        image = image.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    photo_io = PhotoIO(preprocess, pixels, pixel_dtype=dtype)
    torch.testing.assert_close(photo_io.image(make_photos_like(image, photo_io)), image, atol=1 / 255 / 0.8, rtol=0)
    for size in photo_sizes(photo_io)[:2]:
        photo = make_photos_like(image, photo_io, size)
        assert spatial(photo.shape, pixels) == list(size)
        if name != "letterbox":
            assert (photo_io.image(photo) - image).abs().mean() < 0.05


def test_boxes_of_half_precision_are_placed_in_large_photos() -> None:
    photo_io = PhotoIO(Preprocess((640, 640), pad=0.5), dtype=torch.float16)
    boxes = torch.tensor([[320.0, 320.0, 640.0, 400.0]], dtype=torch.float16)
    photo = torch.empty(1, 3, 3000, 6000, dtype=torch.uint8)
    placed = photo_io.boxes(boxes, photo)
    assert placed.tolist() == [[3000, 1500, 6000, 2250]]
    assert photo_io.given_boxes(placed, photo).tolist() == boxes.tolist()


def test_the_place_in_a_letterbox_is_that_of_exact_numbers() -> None:
    """A half goes to the even neighbor; the photo never leaves the image."""
    assert find_place((64, 96), 192, 96) == (0, 8, 96, 48)
    assert find_place((10, 10), 4, 1) == (0, 4, 10, 2)  # 2.5 rows
    assert find_place((10, 10), 20, 7) == (0, 3, 10, 4)  # 3.5 rows
    assert find_place((10, 10), 1, 1000) == (4, 0, 1, 10)
    generator = np.random.default_rng(0)
    for _ in range(200):
        width, height = (int(n) for n in generator.integers(1, 3000, 2))
        left, top, columns, rows = find_place((64, 96), width, height)
        assert 0 <= left <= left + columns <= 96
        assert 0 <= top <= top + rows <= 64
        assert columns == 96 or rows == 64
