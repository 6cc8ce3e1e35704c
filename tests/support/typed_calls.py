"""What editors and mypy know of the public calls: ``mypy`` checks every ``assert_type``; nothing here is run."""

from pathlib import Path
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

import explainable_model as xm


def calls(network: nn.Module, image: Tensor, array: NDArray[np.float32]) -> None:
    """The wrapper, the lowered graph and the session."""
    explainable = xm.ExplainableModel(network)
    assert_type(explainable(image), xm.Explanation[Tensor])
    assert_type(explainable(image, class_idx=281).cam, Tensor)
    assert_type(explainable.forward(image).class_idx, Tensor)
    assert_type(xm.lower(explainable, image)(image).cam, Tensor)
    session = xm.load("resnet50.onnx")
    assert_type(session, xm.Session)
    assert_type(session(array).cam, NDArray[Any])
    assert_type(session(array).logits, NDArray[Any])
    (boxes, _, _, _), cam = explainable.detect(image)
    assert_type(boxes, Tensor)
    assert_type(cam, Tensor)
    assert_type(xm.lower(explainable, image).detect(image).detections.labels, Tensor)
    assert_type(session.detect(array, [[0, 1]]).detections.valid, NDArray[Any])


def answers(network: nn.Module, picture: Image.Image) -> None:
    """``explain``, by what it is asked for."""
    assert_type(xm.explain("cat.jpg", network), xm.PhotoExplanation)
    assert_type(xm.explain(Path("cat.jpg"), network, "tabby", preprocess=224), xm.PhotoExplanation)
    assert_type(xm.explain(picture, network, method="layercam", target_layer="layer4"), xm.PhotoExplanation)
    assert_type(xm.explain(picture, network, [281, "tabby"]), xm.PhotoExplanations)
    assert_type(xm.explain(picture, network, method=["gradcam", "layercam"]), xm.PhotoExplanations)
    assert_type(xm.explain("street.jpg", network, task="detection", top_k=5), xm.PhotoDetections)
    assert_type(xm.explain("cat.jpg", network).cam, NDArray[Any])
    assert_type(xm.explain("cat.jpg", network).class_name, str | None)
