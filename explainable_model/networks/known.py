"""What a network of a known library says about its own photos and classes."""

import importlib
from collections.abc import Mapping
from typing import Any

from torch import nn

from explainable_model.errors import MissingRuntimeError, ModelError
from explainable_model.imaging.preprocess import Preprocess
from explainable_model.networks.transformers import read_class_names
from explainable_model.networks.transforms import timm_preprocess, torchvision_preprocess
from explainable_model.spelling import suggest

ULTRALYTICS_SIZE, ULTRALYTICS_PAD = 640, 114 / 255  # of its networks, unless their training says otherwise


def find_preprocess(model: nn.Module) -> Preprocess | None:
    """Find the preparation that a network was trained with; ``None`` for networks that do not say it.

    Networks of timm say it, and detectors of torchvision and ultralytics.
    """
    found = _read_detector(model)
    if found is not None:
        return found
    settings: Any = getattr(model, "pretrained_cfg", None)
    if not isinstance(settings, Mapping) or "input_size" not in settings:
        return None
    timm_data: Any = importlib.import_module("timm.data")
    return timm_preprocess(timm_data.resolve_model_data_config(model))


def _read_detector(model: nn.Module) -> Preprocess | None:
    """Read what a detector does to an image of any size: normalization and its own resizing are in the network.

    A photo keeps its shape where the network does. The border is what torchvision fills with zeros after it normalized.
    """
    own = getattr(model, "network", model)  # of a wrapped detector
    transform = getattr(own, "transform", None)
    if type(transform).__name__ == "GeneralizedRCNNTransform":
        settings: Any = transform
        bare: Any = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
        if settings.fixed_size is not None:
            return Preprocess((settings.fixed_size[1], settings.fixed_size[0]), **bare)
        gray = min(max(sum(settings.image_mean) / len(settings.image_mean), 0.0), 1.0)
        return Preprocess((settings.min_size[-1], max(settings.min_size[-1], settings.max_size)), **bare, pad=gray)
    yolo = _find_yolo(own)
    if yolo is not None:
        said = getattr(yolo, "args", None)
        size = said.get("imgsz") if isinstance(said, Mapping) else getattr(said, "imgsz", None)
        side = size if isinstance(size, int) else ULTRALYTICS_SIZE
        return Preprocess((side, side), (0.0,) * 3, (1.0,) * 3, pad=ULTRALYTICS_PAD)
    return None


def _find_yolo(model: nn.Module) -> nn.Module | None:
    """Find ultralytics' detector, which may be inside of its ``YOLO``; that package is not imported."""
    for network in (model, getattr(model, "model", None)):
        names = {f"{kind.__module__}.{kind.__name__}" for kind in type(network).__mro__}
        if "ultralytics.nn.tasks.DetectionModel" in names and "ultralytics.nn.tasks.RTDETRDetectionModel" not in names:
            return network if isinstance(network, nn.Module) else None
    return None


def preprocess_of(name: str) -> Preprocess:
    """Find the preparation that the weights of a network of torchvision or timm were trained with; loads no weights.

    Args:
        name: ``torchvision:resnet50`` or ``timm:tf_efficientnet_lite0``.

    Raises:
        ModelError: no such network, or one without a preparation of a fixed size.
        MissingRuntimeError: timm is not installed.
    """
    library, _, network = name.partition(":")
    if library not in READERS or not network:
        raise ModelError(
            f"The preparation is named {name!r}; expected torchvision:NAME or timm:NAME, for example "
            "torchvision:resnet50."
        )
    found = READERS[library](network)
    if found is None:
        raise ModelError(f"{name} does not say how a photo becomes an image of a fixed size.")
    return found


def _read_torchvision(network: str) -> Preprocess | None:
    import torchvision

    known = torchvision.models.list_models()
    if network not in known:
        raise ModelError(f"torchvision has no {network!r}.{suggest(network, known)}")
    weights = getattr(torchvision.models.get_model_weights(network), "DEFAULT", None)
    return None if weights is None else torchvision_preprocess(weights.transforms())


def _read_timm(network: str) -> Preprocess | None:
    try:
        import timm
    except ImportError as error:
        raise MissingRuntimeError(f"timm:{network} needs timm: pip install 'explainable-model[timm]'.") from error
    settings: Any = timm.get_pretrained_cfg(network) if timm.is_model(network) else None
    if settings is None:
        raise ModelError(f"timm has no preparation for {network!r}.{suggest(network, timm.list_models())}")
    timm_data: Any = importlib.import_module("timm.data")
    return timm_preprocess(timm_data.resolve_data_config({}, pretrained_cfg=settings.to_dict()))


READERS = {"torchvision": _read_torchvision, "timm": _read_timm}


def find_class_names(model: nn.Module) -> tuple[str, ...] | None:
    """Find the labels of a network of transformers or ultralytics; ``None`` for networks that do not say them."""
    names = getattr(_find_yolo(getattr(model, "network", model)), "names", None)
    if isinstance(names, Mapping):
        return tuple(str(names[number]) for number in sorted(names))
    labels = getattr(getattr(model, "config", None), "id2label", None)
    return read_class_names(model) if isinstance(labels, Mapping) and labels else None
