"""Detectors of effdet and ultralytics; ultralytics is AGPL-3.0: it is imported only where a user has it."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from benchmarks.packages.case import Case


def _effdet(*, bench: bool) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from effdet import DetBenchPredict, EfficientDet, get_efficientdet_config

        config = get_efficientdet_config("tf_efficientdet_d0")
        config.image_size = (128, 128)
        config.num_classes = 4
        model = EfficientDet(config, pretrained_backbone=False)
        return DetBenchPredict(model) if bench else model

    return build


def _yolo(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from ultralytics import RTDETR, YOLO

        maker = RTDETR if name.startswith("rtdetr") else YOLO
        return maker(f"{name}.yaml").model.float()

    return build


def best_anchor(output: Any, class_idx: Tensor) -> Tensor:
    """The largest score of a class over all anchors of (N, 4 + classes, anchors)."""
    return output[0][:, 4:].amax(2).gather(1, class_idx[:, None])[:, 0]


def best_cell(output: Any, class_idx: Tensor) -> Tensor:
    """The largest logit over the cells of the finest level."""
    return output[0][0].flatten(1).amax(1)


torch_shape = {"shape": (3, 128, 128)}
CASES = [
    Case("effdet:EfficientDet-d0", _effdet(bench=False), refused="output=", **torch_shape),
    Case("effdet:EfficientDet-d0 for prediction", _effdet(bench=True), refused="boxes|queries|target=", **torch_shape),
    Case(
        "effdet:EfficientDet-d0, best cell",
        _effdet(bench=False),
        ("class_net.bn_rep.2.0",),  # the class head's last map of the finest level
        (16, 16),
        "the largest logit of a level",
        kind="scores",
        arguments={"target": best_cell},
        mixes=True,
        **torch_shape,
    ),
    Case("ultralytics:yolov8n", _yolo("yolov8n"), refused="boxes|output=", **torch_shape),
    Case("ultralytics:yolo11n", _yolo("yolo11n"), refused="boxes|output=", **torch_shape),
    Case(
        "ultralytics:yolov8n, best anchor",
        _yolo("yolov8n"),
        ("model.22.cv3.2.1",),  # the class head's last map of the coarsest level, whose anchor may win or not
        (4, 4),
        "the largest score of a class",
        kind="scores",
        arguments={"target": best_anchor},
        **torch_shape,
    ),
    Case(
        "ultralytics:yolov8n-cls",
        _yolo("yolov8n-cls"),
        ("model.9.conv",),  # the head's convolution before the pooling
        (4, 4),
        "one of 1000 classes",
        kind="softmax",
        arguments={"output": 0},
        scores_at="model.9.linear",
        **torch_shape,
    ),
    Case("ultralytics:yolov8n-cls, not chosen", _yolo("yolov8n-cls"), refused="output=", **torch_shape),
    Case("ultralytics:yolov8n-seg", _yolo("yolov8n-seg"), refused="boxes|output=", **torch_shape),
    Case("ultralytics:yolov8n-pose", _yolo("yolov8n-pose"), refused="boxes|output=", **torch_shape),
    Case("ultralytics:rtdetr-l", _yolo("rtdetr-l"), refused="boxes|output=", **torch_shape),
]
