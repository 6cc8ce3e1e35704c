"""torchvision's detectors: the boxes are those of the network itself, and the maps those of plain autograd."""

from typing import Any

import pytest
import torch
from torch import Tensor

from explainable_model import ExplainableModel
from tests.support.detectors import SIZE, TORCHVISION, photos

OTHER_SIZE = (100, 70)


def own_results(network: Any, image: Tensor, k: int) -> list[dict[str, Tensor]]:
    """What the network's own post-processing keeps first."""
    with torch.no_grad():
        return [{name: values[:k] for name, values in found.items()} for found in network(list(image))]


@pytest.mark.parametrize("family", TORCHVISION)
@pytest.mark.parametrize(("batch", "size"), [(1, SIZE), (3, SIZE), (2, OTHER_SIZE)])
def test_boxes_are_the_networks_own(family: str, batch: int, size: tuple[int, int]) -> None:
    network = TORCHVISION[family]()
    image = photos(batch, size, seed=batch)
    (boxes, scores, labels, valid), cam = ExplainableModel(network, task="detection", top_k=5)(image)
    assert cam.shape == (batch, 5, *size)
    for n, own in enumerate(own_results(network, image, 5)):
        count = len(own["scores"])
        assert count > 2
        assert valid[n].tolist() == [True] * count + [False] * (5 - count)
        torch.testing.assert_close(boxes[n, :count], own["boxes"], rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(scores[n, :count], own["scores"], rtol=1e-5, atol=1e-6)
        assert labels[n, :count].tolist() == own["labels"].tolist()
        assert (boxes[n, count:] == 0).all()
        assert (labels[n, count:] == -1).all()


def test_a_backbone_with_fewer_maps_than_the_pooler_names() -> None:
    from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

    torch.manual_seed(0)
    options: Any = {"weights": None, "weights_backbone": None, "num_classes": 4, "min_size": 96, "max_size": 128}
    network = fasterrcnn_mobilenet_v3_large_320_fpn(**options).eval()
    explainable: Any = ExplainableModel(network, task="detection", top_k=2, score_threshold=0.0, method="hirescam")
    assert explainable(photos(1)).detections.valid.all()
    assert explainable.target_layers == ("levels.0", "levels.1")
