"""Maps become small, and what a row says of them."""

from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch.nn import functional

from explainable_model import Preprocess
from explainable_model.batch.box_rows import MOST_VALUES, count_together, find_extent
from explainable_model.batch.map_measures import compute_entropy, compute_hottest_tenth, describe_map
from explainable_model.batch.small_maps import SmallMaps, find_small_maps


class Record(NamedTuple):
    """What ``find_small_maps`` reads of an artifact's metadata."""

    upsample: str = "bilinear"
    precision: str = "float32"
    pixels: str | None = None
    classes: int = 10
    example_shape: tuple[int, ...] = (3, 224, 160)
    network_shape: tuple[int, ...] = (3, 224, 160)
    array_dtype: str = "float32"


def resize(maps: np.ndarray[Any, Any], size: tuple[int, int], mode: str = "bilinear") -> np.ndarray[Any, Any]:
    options = {} if mode == "nearest-exact" else {"align_corners": False}
    resized = functional.interpolate(torch.from_numpy(maps).unsqueeze(1).float(), size=size, mode=mode, **options)
    return resized.squeeze(1).numpy()


@pytest.mark.parametrize("grid", [(7, 5), (14, 10), (1, 3), (16, 20), (28, 20)])
def test_bilinear_resizing_is_inverted(grid: tuple[int, int]) -> None:
    small = np.random.default_rng(0).random((8, *grid))
    found = find_small_maps(Record(), lambda images, classes: resize(small, (224, 160)))
    assert found == SmallMaps(f"bilinear resizing inverted: {grid[0]} x {grid[1]} from maps of 224 x 160", grid, True)
    assert found.reduce(resize(small, (224, 160)), [None] * 8) == pytest.approx(small, abs=1e-4)


def test_maps_of_the_predicted_class_may_be_zero() -> None:
    small = np.random.default_rng(0).random((8, 7, 5))
    asked: list[int] = []

    def run(images: Any, classes: Any) -> Any:
        asked.extend(classes)
        return resize(small, (224, 160)) * (classes > 0)[:, None, None]

    assert find_small_maps(Record(), run).grid == (7, 5)
    assert asked == [-1, -1, -1, -1, 0, 3, 6, 9]


@pytest.mark.parametrize("kind", ["image", "zero", "nearest", "bicubic"])
def test_other_maps_are_averaged(kind: str) -> None:
    rng = np.random.default_rng(0)
    maps = {
        "image": rng.random((8, 224, 160)),
        "zero": np.zeros((8, 224, 160)),
        "nearest": resize(rng.random((8, 14, 10)), (224, 160), "nearest-exact"),
        "bicubic": resize(rng.random((8, 7, 5)), (224, 160), "bicubic"),
    }[kind]
    mode = kind if kind in ("nearest", "bicubic") else "bilinear"
    found = find_small_maps(Record(upsample=mode), lambda images, classes: maps)
    assert found == SmallMaps("means over 14 x 10 cells of maps of 224 x 160", (14, 10))
    means = maps.reshape(8, 14, 16, 10, 16).mean((2, 4))
    assert found.reduce(maps, [None] * 8) == pytest.approx(means, abs=1e-5)


def test_the_part_that_the_network_sees_is_averaged() -> None:
    found = find_small_maps(Record(pixels="NHWC", network_shape=(3, 32, 32)), lambda images, classes: images)
    assert found.grid == (7, 7)
    photo = np.zeros((1, 100, 300))
    photo[0, :, 200:] = (np.arange(100) // 50 + 1)[:, None]
    assert SmallMaps("", (2, 2)).reduce(photo, [(200.0, 0.0, 300.0, 100.0)]).tolist() == [[[1, 1], [2, 2]]]


def test_maps_of_layer_resolution_stay() -> None:
    maps = np.random.default_rng(0).random((8, 7, 7))
    found = find_small_maps(Record(upsample="none"), lambda images, classes: maps)
    assert found == SmallMaps("the layer's own resolution")
    assert (found.reduce(maps, [None] * 8) == maps).all()
    rng = np.random.default_rng(0)
    maps = rng.random((8, 128, 80))
    large = find_small_maps(Record(upsample="none"), lambda images, classes: maps)
    assert large == SmallMaps("means over 64 x 40 cells of maps of 128 x 80", (64, 40))
    assert large.reduce(maps, [None] * 8) == pytest.approx(maps.reshape(8, 64, 2, 40, 2).mean((2, 4)))


def test_measures_of_known_maps() -> None:
    assert compute_entropy(np.full((7, 7), 0.3)) == pytest.approx(1)
    assert compute_entropy(np.eye(1, 49).reshape(7, 7)) == 0
    assert compute_entropy(np.array([[2.0, 2.0], [-5.0, 0.0]])) == pytest.approx(0.5)
    assert compute_entropy(np.ones((1, 1))) == 0
    assert compute_hottest_tenth(np.full((10, 10), 0.3)) == pytest.approx(0.1)
    assert compute_hottest_tenth(np.arange(20.0).reshape(4, 5)) == pytest.approx((19 + 18) / 190)
    assert compute_hottest_tenth(np.array([[1.0, -1.0], [0.0, 3.0]])) == 0.75
    assert compute_entropy(np.zeros((7, 7))) is compute_hottest_tenth(-np.ones((7, 7))) is None


def test_a_zero_map_has_no_measures() -> None:
    row = describe_map(np.zeros((2, 2)), (0, 0, 20, 20), signed=False)
    assert row["entropy"] is row["hottest_tenth"] is row["half_max_box"] is None
    assert row["cam"] == bytes(4)


def test_a_signed_map_keeps_what_speaks_against_the_class() -> None:
    row = describe_map(np.array([[0.5, -1.0], [0.0, 0.0]]), (10, 0, 30, 20), signed=True)
    assert row["cam_zero"] == 128
    assert list(row["cam"]) == [192, 1, 128, 128]
    assert (row["peak_x"], row["peak_y"]) == (15, 5)
    assert row["half_max_box"] == [10, 0, 20, 10]
    assert row["hottest_tenth"] == 1


@pytest.mark.parametrize(
    ("pixels", "shape"),
    [(None, (8, 3, 1024, 640)), ("NCHW", (8, 3, 1024, 640)), ("NHWC", (8, 1024, 640, 3)), ("NHW", (8, 1024, 640))],
)
def test_maps_of_boxes_in_memory_are_bounded(pixels: str | None, shape: tuple[int, ...]) -> None:
    def count(top_k: int | None, *sides: int) -> int:
        metadata: Any = SimpleNamespace(pixels=pixels, top_k=top_k)
        return count_together(metadata, sides)

    assert count(10, *shape) == MOST_VALUES // (10 * 1024 * 640) == 5
    assert count(None, *shape) == 51
    assert count(100, *(8 * side for side in shape[:1]), *shape[1:]) == 1, "one photo at least"


@pytest.mark.parametrize(
    ("options", "extent"),
    [
        ({"resize": None, "pad": 0.5}, (480, 640)),
        ({"resize": None}, (640, 640)),
        ({"resize": 640}, (640, 853)),
    ],
)
def test_the_extent_of_a_map_of_the_photo_size(options: dict[str, Any], extent: tuple[int, int]) -> None:
    """Of a photo of 4000 x 3000: in a letterbox without the border, squeezed, and beyond a crop."""
    preprocess = Preprocess((640, 640), mean=(0.0,) * 3, std=(1.0,) * 3, **options)
    metadata: Any = SimpleNamespace(pixels="NHWC", preprocess=preprocess, network_shape=[3, 640, 640])
    assert find_extent(metadata, (3000, 4000), (4000, 3000)) == extent
    metadata.pixels = None
    assert find_extent(metadata, (480, 640), (4000, 3000)) == (480, 640)
