"""The table of detectors: a row is the whole registration of a family."""

from collections.abc import Mapping
from typing import Any

from explainable_model.detection import one_stage
from explainable_model.detection.family import Family, Thresholds


def _torchvision_levels(network: Any) -> int:
    return len(network.anchor_generator.num_anchors_per_location())


def _torchvision_thresholds(network: Any) -> Thresholds:
    return Thresholds(float(network.score_thresh), float(network.nms_thresh))


ROWS = (
    Family(
        "retinanet", "RetinaNet", ("torchvision.RetinaNet",),
        one_stage.retinanet, _torchvision_levels, _torchvision_thresholds,
    ),
    Family("fcos", "FCOS", ("torchvision.FCOS",), one_stage.fcos, _torchvision_levels, _torchvision_thresholds),
)  # fmt: skip

DETECTORS: Mapping[str, Family] = {row.name: row for row in ROWS}
"""The families of detectors by their names."""
