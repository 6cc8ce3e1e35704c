"""TorchServe's handler without TorchServe: a detector, whose archive needs no palette."""

import io
import json
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.serving.test_boxes import encode, make_photo, write

HANDLER = Path(__file__).parents[2] / "export" / "torchserve" / "handler.py"


class Context:
    """What the handler asks of TorchServe's context, and what it told it."""

    def __init__(self, artifact: Path, headers: list[dict[str, str]]) -> None:
        self.system_properties = {"model_dir": str(artifact.parent)}
        self.manifest = {"model": {"serializedFile": artifact.name}}
        self.model_yaml_config = {"handler": {"threads": 1, "overlay_side": 96}}
        self.metrics = SimpleNamespace(add_time=lambda *_, **__: None, add_counter=lambda *_: None)
        self.headers = headers
        self.statuses: dict[int, int] = {}
        self.types: dict[int, str] = {}

    def get_all_request_header(self, index: int) -> dict[str, str]:
        return self.headers[index]

    def set_response_status(self, status: int, phrase: str, index: int) -> None:
        self.statuses[index] = status

    def set_response_content_type(self, index: int, content_type: str) -> None:
        self.types[index] = content_type

    def set_response_header(self, index: int, name: str, value: str) -> None:
        pass


def test_a_detector_behind_the_handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", sys.path.copy())
    metrics = SimpleNamespace(MetricTypes=SimpleNamespace(HISTOGRAM="histogram"))
    for name in ("ts", "ts.metrics", "ts.metrics.metric_type_enum"):
        monkeypatch.setitem(sys.modules, name, metrics)
    tf32 = torch.backends.cudnn.allow_tf32
    handler: Any = runpy.run_path(str(HANDLER))["ExplainHandler"]()
    context = Context(write(tmp_path), [{}, {"Accept": "image/png"}, {}])
    try:
        handler.initialize(context)
    finally:
        torch.backends.cudnn.allow_tf32 = tf32
    image = encode(make_photo())
    listed, drawn, refused = handler.handle(
        [{"body": image}, {"body": image}, {"data": image, "class": "red"}], context
    )
    assert context.statuses == {0: 200, 1: 200, 2: 400}
    assert [box["class_name"] for box in json.loads(listed)["boxes"]] == ["red", "green"]
    assert "by its rank" in json.loads(refused)["message"]
    assert context.types[1] == "image/png"
    pixels = np.asarray(Image.open(io.BytesIO(drawn)).convert("RGB"), int)
    red = pixels[12:20, 20:28].mean((0, 1))
    assert red[0] > red[1:].max() + 60, "the color of the first box"
