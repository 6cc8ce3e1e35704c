"""The comparison of detectors' artifacts: boxes, scores and the map of each box."""

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from explainable_model.explanation import DetectionExplanation, Detections
from explainable_model.verify.detections import check_detections, similar_images
from tests.support.nets import images

Answer = tuple[Any, ...]  # boxes, scores, labels, valid, maps
RANKS = 3  # of which the last has no box


def find_boxes(image: Tensor, ranks: Tensor) -> list[Tensor]:
    """Two boxes of each image, which depend on it, in the order of ``ranks``; no third one."""
    order = torch.where(ranks < 0, torch.arange(ranks.shape[1]), ranks)
    level = image.flatten(1).mean(1).reshape(-1, 1)
    boxes = torch.stack([order + level, order + 1.0, order + 5 + level, order + 6.0], 2)
    scores, labels = 0.9 - order / 10 + level / 100, order.long() + 4
    maps = torch.stack([image.mean(1).roll(5 * rank, -1) for rank in range(RANKS)], 1)
    maps = maps.gather(1, order.long()[:, :, None, None].expand(-1, -1, *maps.shape[2:]))
    valid = order < 2
    place = valid[..., None]
    answer = [boxes * place, scores * valid, torch.where(valid, labels, -1), valid, maps * place[..., None]]
    return [tensor.double() if tensor.is_floating_point() else tensor for tensor in answer]


class Detector:
    """What the comparison asks of a network."""

    def __init__(self, top_k: int | None) -> None:
        self.plan, self.asked = SimpleNamespace(top_k=top_k), []  # type: ignore[var-annotated]

    def __call__(self, image: Tensor, ranks: Tensor | None) -> Any:
        width = self.plan.top_k or 1
        *found, maps = find_boxes(image, torch.full((len(image), width), -1) if ranks is None else ranks)
        return DetectionExplanation(Detections(*found), maps)

    def artifact(self, change: Callable[..., Answer] = lambda *answer: answer) -> Callable[..., Answer]:
        """The same, as an artifact with a fault."""

        def run(image: Any, class_idx: Any) -> Answer:
            self.asked.append(class_idx)
            ranks = torch.from_numpy(class_idx).reshape(len(image), -1)
            return change(*(tensor.numpy() for tensor in find_boxes(torch.from_numpy(image), ranks)))

        return run


def compare(
    detector: Detector, change: Callable[..., Answer] = lambda *answer: answer, batch: int | None = None
) -> Any:
    lowered = SimpleNamespace(example=images(2, (3, 8, 8)), example_inputs=(), precision="float32", photo_io=None)
    metadata: Any = SimpleNamespace(batch=batch, format="torchscript")
    network: Any = detector
    return check_detections(network, lowered, metadata, detector.artifact(change))  # type: ignore[arg-type]


@pytest.mark.parametrize("top_k", [None, 2, RANKS])
def test_a_right_artifact_passes(top_k: int | None) -> None:
    detector = Detector(top_k)
    parity = compare(detector)
    assert (parity.passed, parity.reason, parity.images, parity.batches) == (True, "", 12, [2, 1, 2, 7])
    assert (parity.logits, parity.cam, parity.flipped, parity.classes) == (0, 0, 0, 1)
    assert parity.correlation == pytest.approx(1)
    shapes = [asked.shape for asked in detector.asked]
    assert shapes == [(n,) if top_k is None else (n, top_k) for n in (2, 1, 2, 7)]
    wanted = -np.ones((2, top_k or 1)) if top_k is None else np.tile(np.arange(top_k)[::-1], (2, 1))
    assert np.array_equal(detector.asked[2].reshape(2, -1), wanted), "one batch asks for the boxes in another order"
    assert all((asked == -1).all() for asked in (*detector.asked[:2], detector.asked[3]))


def test_a_fixed_batch_is_kept() -> None:
    assert compare(Detector(2), batch=4).batches == [2, 4, 4]


NAMES = ("boxes", "scores", "labels", "valid", "maps")


def stays(*answer: Any, **changed: Any) -> Answer:
    return tuple({**dict(zip(NAMES, answer, strict=True)), **changed}.values())


WRONG: dict[str, tuple[Callable[..., Answer], str]] = {
    "maps": (lambda *answer: stays(*answer, maps=answer[4][..., ::-1].copy()), "the map of box 0 differs"),
    "second map": (lambda *answer: stays(*answer, maps=answer[4][:, [0, 0, 2]]), "the map of box 1 differs"),
    "map without a box": (lambda *answer: stays(*answer, maps=answer[4] + 1e-3), "there is no box 2, and its map"),
    "scores": (lambda *answer: stays(*answer, scores=answer[1] + 2e-4), "scores differ by 2.0e-04, allowed 1e-04"),
    "boxes": (lambda *answer: stays(*answer, boxes=answer[0] + 0.08), "it finds other boxes in 12 of 12 images"),
    "labels": (lambda *answer: stays(*answer, labels=answer[2] + 1), "it finds other boxes in 12 of 12 images"),
    "valid": (lambda *answer: stays(*answer, valid=~answer[3]), "it finds other boxes in 12 of 12 images"),
    "one order": (lambda *answer: stays(*answer, **in_order(answer)), "scores differ by"),
    "shape": (lambda *answer: stays(*answer, maps=answer[4][:, :1]), "output 4 has shape"),
    "nan": (lambda *answer: stays(*answer, scores=answer[1] * np.nan), "output 1 has shape .* or is not finite"),
}


def in_order(answer: Answer) -> dict[str, Any]:
    """The boxes from the best to the worst, whatever is asked for."""
    order = np.argsort(-answer[1], 1)
    return {
        name: np.stack([one[at] for one, at in zip(value, order, strict=True)])
        for name, value in zip(NAMES, answer, strict=True)
    }


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_artifact_is_noticed(name: str) -> None:
    change, reason = WRONG[name]
    parity = compare(Detector(RANKS), change)
    assert not parity.passed
    assert re.search(reason, parity.reason), parity.reason


def test_an_output_of_another_shape_agrees_in_nothing() -> None:
    parity = compare(Detector(2), WRONG["shape"][0])
    assert (parity.logits, parity.cam, parity.correlation, parity.classes) == (np.inf, np.inf, 0, 0)
    assert parity.images == 4, "each batch is one row"


def test_rounding_is_forgiven() -> None:
    def rounded(*answer: Any) -> Answer:
        return stays(*answer, boxes=answer[0] + 0.04, scores=answer[1] + 5e-5, maps=answer[4] * (1 + 1e-5))

    parity = compare(Detector(2), rounded)
    assert parity.passed
    assert (parity.flipped, parity.logits) == (0, pytest.approx(5e-5))


@pytest.mark.parametrize(("count", "passes"), [(3, True), (4, False)])
def test_few_boxes_whose_scores_tie_may_change_places(count: int, passes: bool) -> None:
    def swapped(*answer: Any) -> Answer:
        labels = answer[2].copy()
        labels[:count] += len(labels) == 7  # in the batch of seven
        return stays(*answer, labels=labels)

    parity = compare(Detector(2), swapped)
    assert (parity.passed, parity.flipped) == (passes, count)


def test_similar_images_are_those_of_the_example_mirrored_and_with_little_noise() -> None:
    example = images(3, (3, 8, 8))
    got = similar_images(example, 5, seed=1)
    wanted = torch.stack([example[n % 3] if n % 2 else example[n % 3].flip(-1) for n in range(1, 6)])
    noise = (got - wanted).flatten(1)
    assert bool(((noise.std(1) / example.std() - 0.02).abs() < 0.004).all())
    assert len(noise.unique(dim=0)) == 5, "each with noise of its own"
