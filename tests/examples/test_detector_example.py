"""The detector of the demo: what it finds in scenes and photos that it has not seen, and where its maps lie."""

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import explainable_model as xm
from explainable_model.demo.detector import CLASSES, WEIGHTS, load_detector
from explainable_model.demo.files import find_in_package
from explainable_model.imaging.regions import compute_share_inside

FOLDER = Path(__file__).parents[2] / "examples" / "detector"
FACE = (170, 10, 280, 180)  # of the astronaut, read off the photo
COINS = ((18, 233, 75, 288), (143, 236, 201, 288), (315, 156, 381, 218), (189, 170, 237, 217))  # of rows that only test


@pytest.fixture(autouse=True)
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Makes the example's modules importable, and forgets them afterwards: another example has some of these names."""
    monkeypatch.syspath_prepend(FOLDER)
    torch.set_num_threads(1)
    yield
    for path in FOLDER.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.fixture(scope="module")
def named() -> xm.NamedModel:
    return load_detector()


def test_the_weights_are_small() -> None:
    assert WEIGHTS.stat().st_size < 5_000_000


def test_scenes_say_what_lies_where() -> None:
    scenes = __import__("scenes")
    made = list(islice(scenes.SceneMaker("train", 3), 6))
    assert sum(len(scene.labels) for scene in made) >= 6
    for scene in made:
        assert (scene.boxes[:, 2:] > scene.boxes[:, :2]).all()
        assert (scene.boxes >= 0).all()
        assert (scene.boxes <= scenes.SIDE).all()
    again = scenes.SceneMaker("train", 3).make()
    assert np.array_equal(again.picture, made[0].picture)
    assert not np.array_equal(scenes.SceneMaker("test", 3).make().picture, made[0].picture)


def test_scores_of_detections_by_hand() -> None:
    scenes, scoring = __import__("scenes"), __import__("scoring")
    boxes = np.array([[0, 0, 10, 10], [20, 0, 30, 10]], np.float32)
    scene = scenes.Scene(None, boxes, np.array([0, 0]))
    found = scoring.Found(
        np.array([[0, 0, 10, 9], [0, 0, 10, 10], [20, 0, 30, 10], [20, 0, 30, 10]], np.float32),
        np.array([0, 0, 0, 1]),
        np.array([0.9, 0.8, 0.7, 0.6], np.float32),
    )
    assert scoring.match(found, scene) == [True, False, True, False]  # once found, twice, found, another class
    scores = scoring.score_detections([(found, scene)], 2)
    assert scores.average_precision == pytest.approx((0.5 * 1 + 0.5 * 2 / 3, 0))
    assert (scores.precision, scores.recall) == (0.5, 1.0)


def test_the_trained_detector_finds_what_lies_in_new_scenes(named: xm.NamedModel) -> None:
    scenes, scoring, train = (__import__(name) for name in ("scenes", "scoring", "train"))
    made = list(islice(scenes.SceneMaker("test", 5), 40))
    pairs = [(train.detect(named.model, scene), scene) for scene in made]
    scores = scoring.score_detections(pairs, len(CLASSES))
    assert scores.mean > 0.85
    assert min(scores.precision, scores.recall) > 0.8


@pytest.mark.parametrize("method", ["hirescam", "layercam"])
def test_maps_lie_in_their_boxes(named: xm.NamedModel, method: str) -> None:
    """Chance is the share of the image that the box covers; the maps of boxes that lie apart do not go together."""
    scenes, measure = __import__("scenes"), __import__("measure")
    made = list(islice(scenes.SceneMaker("test", 6), 6))
    row = measure.measure(method, measure.explain_by(named.model, method), named.model, made)
    assert row.boxes >= 8
    assert row.energy > row.chance + 0.5
    assert row.pointing > 0.9
    assert row.correlation < 0.3
    by_chance = measure.measure("random", measure.explain_by_chance, named.model, made)
    assert abs(by_chance.energy - by_chance.chance) < 0.03
    assert by_chance.pointing < 0.5


def test_drise_points_at_the_boxes_too(named: xm.NamedModel) -> None:
    scenes, measure = __import__("scenes"), __import__("measure")
    made = list(islice(scenes.SceneMaker("test", 2), 1))  # a scene of three objects
    row = measure.measure("D-RISE", measure.explain_by_copies(named.model, 120), named.model, made)
    assert row.boxes == 3
    assert row.energy > row.chance
    assert row.pointing >= 0.5


def test_a_face_and_coins_that_it_has_not_seen(named: xm.NamedModel) -> None:
    def explain(name: str, **options: Any) -> Any:
        return xm.explain(find_in_package("skimage", "data", name), named, task="detection", **options)

    people = explain("astronaut.png", top_k=2)
    number = people.class_names.index("face")
    assert overlap(people.boxes[number], FACE) > 0.5
    column, row = people.hottest[number]
    assert FACE[0] < column < FACE[2]
    assert FACE[1] < row < FACE[3]
    coins = explain("coins.png", top_k=20)
    for coin in COINS:
        near = [number for number, box in enumerate(coins.boxes) if overlap(box, coin) > 0.5]
        assert near, f"no box on the coin {coin}"
        assert coins.class_names[near[0]] == "coin"
        assert share(coins, near[0]) > 0.5


def overlap(box: Any, other: Any) -> float:
    scoring = __import__("scoring")
    return float(scoring.intersection_over_union(np.asarray(box), np.asarray([other], float))[0])


def share(answer: Any, number: int) -> float:
    """How much of the map of a box lies inside it."""
    left, top, right, bottom = answer.boxes[number] * (192 / np.array([*answer.photo.size] * 2))
    rows, columns = np.mgrid[:192, :192]
    inside = (columns >= left) & (columns < right) & (rows >= top) & (rows < bottom)
    return compute_share_inside(answer.cam[number], inside) or 0.0
