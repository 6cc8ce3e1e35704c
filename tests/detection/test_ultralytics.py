"""Networks of ultralytics, which is under the AGPL and no part of the test extra: ``pip install ultralytics``, then
``pytest -m '' tests/detection/test_ultralytics.py``."""

from typing import Any

import pytest
import torch
from torch import Tensor

from explainable_model import ExplainableModel
from tests.support.detectors import photos

pytest.importorskip("ultralytics", reason="ultralytics is under the AGPL and no part of the test extra")

NETWORKS = ("yolov5n", "yolov8n", "yolov9t", "yolov10n", "yolo11n", "yolo12n", "yolo26n", "yolov8n-seg", "yolo11n-pose")
SIZE = (96, 128)


def make_network(name: str) -> Any:
    """A network with random weights, whose class logits differ enough to choose boxes by."""
    from ultralytics.nn.tasks import DetectionModel, PoseModel, SegmentationModel

    torch.manual_seed(0)
    kind = SegmentationModel if "-seg" in name else PoseModel if "-pose" in name else DetectionModel
    network = kind(f"{name}.yaml", verbose=False).eval()
    head = network.model[-1]
    for part in ("cv3", "one2one_cv3"):
        for level in getattr(head, part, None) or ():
            torch.nn.init.normal_(level[-1].weight, 0, 3.0)
            torch.nn.init.normal_(level[-1].bias, -1.0, 0.5)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # random weights let what passes through fade
            module.reset_running_stats()
    network.train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        network(photos(4, SIZE, seed=9))
    return network.eval()


def own_results(network: Any, image: Tensor) -> list[Tensor]:
    """What ultralytics' own suppression keeps, ``(boxes, 6)`` of each image."""
    from ultralytics.utils.nms import non_max_suppression

    with torch.no_grad():
        output = network(image)
    output = output[0][0] if isinstance(output[0], tuple) else output[0]
    head = network.model[-1]
    found: list[Tensor] = non_max_suppression(output, 0.25, 0.7, nc=head.nc, end2end=bool(head.end2end))
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_boxes_are_the_networks_own(name: str) -> None:
    network = make_network(name)
    explainable: Any = ExplainableModel(network, task="detection", top_k=5, method="hirescam")
    for batch in (1, 3):
        image = photos(batch, SIZE, seed=batch)
        (boxes, scores, labels, valid), cam = explainable(image)
        assert cam.shape == (batch, 5, *SIZE)
        for n, own in enumerate(own_results(network, image)):
            count = min(5, len(own))
            assert count > 0
            assert int(valid[n].sum()) == count
            edges = torch.tensor([SIZE[1], SIZE[0], SIZE[1], SIZE[0]])
            torch.testing.assert_close(boxes[n, :count], own[:count, :4].clamp(min=0).minimum(edges), rtol=0, atol=1e-3)
            torch.testing.assert_close(scores[n, :count], own[:count, 4], rtol=0, atol=1e-6)
            assert labels[n, :count].tolist() == own[:count, 5].int().tolist()
            assert (cam[n, :count].flatten(1).amax(1) > 0).all()
