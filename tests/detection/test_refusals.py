"""What a user may get wrong with a detector, and answers that hold no box."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from explainable_model import ExplainableModel, export
from explainable_model.errors import ExplainableModelError, InputError, ModelError
from tests.support.detectors import SIZE, one_class_retinanet, photos, tiny_faster_rcnn, tiny_fcos, tiny_retinanet


def classifier() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()


def test_a_classifier_is_no_detector() -> None:
    with pytest.raises(ModelError, match="leave out task='detection'.*candidates=lambda network, image"):
        ExplainableModel(classifier(), task="detection")


@pytest.mark.parametrize("make", [tiny_fcos, tiny_faster_rcnn])
def test_a_detector_without_the_task_is_told_what_to_add(make: Any) -> None:
    with pytest.raises(ExplainableModelError, match="task='detection'"):
        ExplainableModel(make())(photos(1))


def test_a_list_of_dictionaries_names_the_task() -> None:
    class Lists(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Conv2d(3, 4, 3)

        def forward(self, image: torch.Tensor) -> list[dict[str, torch.Tensor]]:
            return [{"boxes": self.body(one).flatten()[:4].reshape(1, 4)} for one in image]

    with pytest.raises(ModelError, match="task='detection'"):
        ExplainableModel(Lists().eval())(photos(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k is 0"),
        ({"top_k": 3, "max_boxes": 2}, "max_boxes is 2"),
        ({"score_threshold": 2}, "score_threshold is 2"),
        ({"iou_threshold": "high"}, "iou_threshold is 'high'"),
        ({"box_score": "mask"}, "box_score is 'mask'"),
        ({"region": "circle"}, "region is 'circle'"),
        ({"method": "scorecam"}, "does not explain boxes"),
        ({"augment": True}, "augment"),
        ({"target": lambda output, class_idx: output}, "target="),
        ({"task": "boxes"}, "task is 'boxes'"),
        ({"task": None, "score_threshold": 0.5}, "add task='detection'"),
        ({"candidates": "yolo"}, "candidates is 'yolo'"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, InputError, ModelError), match=message):
        ExplainableModel(tiny_fcos(), **{"task": "detection", **options})


def test_training_mode_names_the_detector() -> None:
    with pytest.raises(ModelError, match="FCOS is in training mode"):
        ExplainableModel(tiny_fcos().train(), task="detection")


def test_one_class_is_enough() -> None:
    explainable: Any = ExplainableModel(one_class_retinanet(), task="detection", top_k=2)
    (boxes, _, labels, valid), cam = explainable(photos(1))
    assert valid.all()
    assert not labels.any()
    assert boxes.isfinite().all()
    assert cam.isfinite().all()


def test_no_more_boxes_than_the_network_returns() -> None:
    explainable: Any = ExplainableModel(tiny_fcos(detections_per_img=2), task="detection", top_k=4)
    assert explainable(photos(2)).detections.valid.tolist() == [[True, True, False, False]] * 2


def test_queries_are_not_suppressed() -> None:
    from tests.support.transformers_detectors import make_detr

    with pytest.raises(InputError, match="DetrForObjectDetection does not do"):
        ExplainableModel(make_detr("detr"), task="detection", iou_threshold=0.5)


def test_more_boxes_than_candidates() -> None:
    explainable: Any = ExplainableModel(tiny_fcos(topk_candidates=4), task="detection", top_k=20)
    with pytest.raises(InputError, match="asks for 20 boxes; the detector has 12 candidates"):
        explainable(photos(1))


def test_a_rank_out_of_range() -> None:
    explainable: Any = ExplainableModel(tiny_fcos(), task="detection", top_k=2)
    for rank in (2, -2):
        with pytest.raises(InputError, match=f"class_idx {rank} is out of range.*rank of a box, 0 to 1.*max_boxes"):
            explainable(photos(1), torch.tensor([[0, rank]]))


def test_an_objectness_that_is_not_there() -> None:
    explainable: Any = ExplainableModel(tiny_retinanet(), task="detection", box_score="objectness")
    with pytest.raises(ModelError, match="objectness.*this detector has: class, x1"):
        explainable(photos(1))


def test_an_image_without_boxes() -> None:
    explainable: Any = ExplainableModel(tiny_fcos(), task="detection", top_k=3, score_threshold=0.999)
    detections, cam = explainable(photos(2))
    assert not detections.valid.any()
    assert not detections.boxes.any()
    assert not detections.scores.any()
    assert (detections.labels == -1).all()
    assert not cam.any()


def test_a_network_of_ones_own() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=8, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 1)).eval()

    def candidates(network: nn.Module, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        grid = network(image).flatten(2)
        boxes = grid[:, 2:].mT.cumsum(2).abs() * 20
        scores, labels = grid[:, :2].max(1)
        return scores, boxes, labels

    image = photos(2)
    options: Any = {"candidates": candidates, "top_k": 4, "score_threshold": 0.0, "method": "hirescam"}
    explainable: Any = ExplainableModel(network, "1", task="detection", **options)
    (_, scores, _, valid), cam = explainable(image)
    assert valid.all()
    assert (scores[:, :-1] >= scores[:, 1:]).all()
    assert cam.shape == (2, 4, *SIZE)
    found: Any = ExplainableModel(network, task="detection", **options)
    assert found(image).cam.shape == (2, 4, *SIZE)
    assert found.target_layer == "network.1"


def test_candidates_of_a_wrong_shape() -> None:
    def candidates(network: nn.Module, image: torch.Tensor) -> Any:
        return torch.rand(1, 5), torch.rand(1, 5, 5), torch.zeros(1, 5, dtype=torch.int64)

    explainable: Any = ExplainableModel(classifier(), "0", task="detection", candidates=candidates)
    with pytest.raises(ModelError, match=r"candidates returned .*expected scores \(N, M\)"):
        explainable(photos(1))


def test_float16_finds_boxes() -> None:
    explainable: Any = ExplainableModel(tiny_retinanet().half(), task="detection", top_k=2, method="hirescam")
    detections, cam = explainable(photos(1).half())
    assert detections.valid.all()
    assert cam.isfinite().all()
    assert cam.dtype == torch.float16


@pytest.mark.parametrize(
    ("options", "message"),
    [({"dynamic_size": True}, "dynamic_size"), ({"pixels": "NHWC"}, "pixels"), ({"format": "openvino"}, "onnx")],
)
def test_what_artifacts_do_not_have_yet(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    explainable = ExplainableModel(tiny_fcos(), task="detection", top_k=2)
    with pytest.raises(InputError, match=message):
        export(explainable, tmp_path / "network.onnx", photos(1), **options)
