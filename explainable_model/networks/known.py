"""What a network of a known library says about its own photos and classes."""

import importlib
from collections.abc import Mapping
from typing import Any

from torch import nn

from explainable_model.imaging.preprocess import Preprocess
from explainable_model.networks.transformers import read_class_names
from explainable_model.networks.transforms import timm_preprocess


def find_preprocess(model: nn.Module) -> Preprocess | None:
    """Find the preparation that a network of timm was trained with; ``None`` for networks that do not say it."""
    settings: Any = getattr(model, "pretrained_cfg", None)
    if not isinstance(settings, Mapping) or "input_size" not in settings:
        return None
    timm_data: Any = importlib.import_module("timm.data")
    return timm_preprocess(timm_data.resolve_model_data_config(model))


def find_class_names(model: nn.Module) -> tuple[str, ...] | None:
    """Find the labels of a network of transformers; ``None`` for networks that do not say them."""
    labels = getattr(getattr(model, "config", None), "id2label", None)
    return read_class_names(model) if isinstance(labels, Mapping) and labels else None
