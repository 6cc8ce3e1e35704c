"""Detectors of transformers: the boxes are those of its own post-processing."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from explainable_model import ExplainableModel
from tests.support.detectors import photos
from tests.support.transformers_detectors import TRANSFORMERS, make_detr

SIZE = (96, 128)
THRESHOLD = 0.15


def own_results(name: str, network: Any, image: Tensor, threshold: float) -> list[dict[str, Tensor]]:
    """What the image processor of transformers keeps, the best first."""
    import transformers

    words = {"rt_detr": "RTDetr"}.get(name, "".join(word.capitalize() for word in name.split("_")))
    process = getattr(transformers, f"{words}ImageProcessor").post_process_object_detection
    with torch.no_grad():
        output = network(pixel_values=image)
    found = process(None, output, threshold=threshold, target_sizes=[SIZE] * len(image))
    orders = [rows["scores"].argsort(descending=True) for rows in found]
    return [{key: values[order] for key, values in rows.items()} for rows, order in zip(found, orders, strict=True)]


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_boxes_are_those_of_the_post_processing(name: str) -> None:
    network = make_detr(name)
    explainable: Any = ExplainableModel(
        network, task="detection", top_k=4, score_threshold=THRESHOLD, method="hirescam"
    )
    for batch in (1, 3):
        image = photos(batch, SIZE, seed=batch)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (boxes, scores, labels, valid), cam = explainable(image)
        assert cam.shape == (batch, 4, *SIZE)
        for n, own in enumerate(own_results(name, network, image, THRESHOLD)):
            count = min(4, len(own["scores"]))
            assert count > 1
            assert int(valid[n].sum()) == count
            torch.testing.assert_close(boxes[n, :count], own["boxes"][:count], rtol=1e-5, atol=1e-4)
            torch.testing.assert_close(scores[n, :count], own["scores"][:count], rtol=1e-5, atol=1e-6)
            assert labels[n, :count].tolist() == own["labels"][:count].tolist()
            assert (cam[n, :count].flatten(1).amax(1) > 0).any()
