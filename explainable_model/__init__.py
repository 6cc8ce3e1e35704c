"""Any trained vision model in, in PyTorch or ONNX, one artifact out: the prediction and its class activation map."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from explainable_model.artifact.metadata import Metadata
    from explainable_model.eager.find_layer import find_layers
    from explainable_model.explainer.explain import explain
    from explainable_model.explainer.grid import grid
    from explainable_model.explainer.photo_detections import PhotoDetections
    from explainable_model.explainer.photo_explanation import PhotoExplanation, PhotoExplanations
    from explainable_model.explainer.volume_explanation import VolumeExplanation
    from explainable_model.explanation import DetectionExplanation, Detections, Explanation
    from explainable_model.exporters import FORMATS
    from explainable_model.exporters.pipeline import export
    from explainable_model.imaging.preprocess import Preprocess
    from explainable_model.imaging.volumes import VolumePreprocess
    from explainable_model.lowering.lowered import LoweredModel
    from explainable_model.lowering.rules import LOWERINGS
    from explainable_model.methods import METHODS
    from explainable_model.model import ExplainableModel, lower
    from explainable_model.networks.named import NamedModel
    from explainable_model.networks.onnx.read import from_onnx
    from explainable_model.runtime import Session, load, read_metadata

# The module of each public name. A name is imported at its first use, so that loading an ONNX artifact does not
# import torch.
_HOMES = {
    "DetectionExplanation": "explanation",
    "Detections": "explanation",
    "ExplainableModel": "model",
    "Explanation": "explanation",
    "FORMATS": "exporters",
    "LOWERINGS": "lowering",
    "LoweredModel": "lowering",
    "METHODS": "methods",
    "Metadata": "artifact.metadata",
    "NamedModel": "networks.named",
    "PhotoDetections": "explainer.photo_detections",
    "PhotoExplanation": "explainer.photo_explanation",
    "PhotoExplanations": "explainer.photo_explanation",
    "Preprocess": "imaging.preprocess",
    "Session": "runtime",
    "VolumeExplanation": "explainer.volume_explanation",
    "VolumePreprocess": "imaging.volumes",
    "explain": "explainer.explain",
    "export": "exporters.pipeline",
    "find_layers": "eager.find_layer",
    "from_onnx": "networks.onnx.read",
    "grid": "explainer.grid",
    "load": "runtime",
    "lower": "model",
    "read_metadata": "runtime",
}

__all__ = [
    "FORMATS", "LOWERINGS", "METHODS", "DetectionExplanation", "Detections", "ExplainableModel", "Explanation",
    "LoweredModel", "Metadata", "NamedModel", "PhotoDetections", "PhotoExplanation", "PhotoExplanations", "Preprocess",
    "Session", "VolumeExplanation", "VolumePreprocess",
    "explain", "export", "find_layers", "from_onnx", "grid", "load", "lower", "read_metadata",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
