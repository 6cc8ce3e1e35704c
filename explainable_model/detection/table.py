"""The table of detectors: a row is the whole registration of a family."""

from collections.abc import Mapping
from typing import Any

from explainable_model.detection import detr, one_stage, two_stage, yolo
from explainable_model.detection.family import Family, Thresholds


def _torchvision_levels(network: Any) -> int:
    return len(network.anchor_generator.num_anchors_per_location())


def _torchvision_thresholds(network: Any) -> Thresholds:
    return Thresholds(float(network.score_thresh), float(network.nms_thresh), int(network.detections_per_img))


def _one(network: Any) -> int:
    return 1


def _transformers(*names: str) -> tuple[str, ...]:
    return tuple(f"transformers.{name}ForObjectDetection" for name in names)


ROWS = (
    Family(
        "retinanet", "RetinaNet", ("torchvision.RetinaNet",),
        one_stage.retinanet, _torchvision_levels, _torchvision_thresholds,
    ),
    Family("fcos", "FCOS", ("torchvision.FCOS",), one_stage.fcos, _torchvision_levels, _torchvision_thresholds),
    Family(
        "ssd", "SSD, SSDlite", ("torchvision.SSD",), one_stage.ssd, _torchvision_levels, _torchvision_thresholds,
    ),
    Family(
        "faster_rcnn", "Faster R-CNN, Mask R-CNN, Keypoint R-CNN", ("torchvision.FasterRCNN",),
        two_stage.faster_rcnn, two_stage.count_levels, two_stage.thresholds,
    ),
    Family(
        "yolo", "YOLOv5u, v8, v9, v10, 11, 12, 26", ("ultralytics.DetectionModel",),
        yolo.yolo, yolo.count_levels, yolo.thresholds,
    ),
    Family(
        "detr", "DETR, Conditional DETR, Table Transformer",
        _transformers("Detr", "ConditionalDetr", "TableTransformer"), detr.detr, _one, detr.thresholds,
    ),
    Family(
        "deformable_detr", "Deformable DETR",
        _transformers("DeformableDetr"), detr.deformable_detr, detr.count_projections, detr.thresholds,
    ),
    Family(
        "rt_detr", "RT-DETR, RT-DETRv2",
        _transformers("RTDetr", "RTDetrV2"), detr.rt_detr, detr.count_projections, detr.thresholds,
    ),
    Family("yolos", "YOLOS", _transformers("Yolos"), detr.yolos, _one, detr.thresholds),
)  # fmt: skip

DETECTORS: Mapping[str, Family] = {row.name: row for row in ROWS}
"""The families of detectors by their names."""
