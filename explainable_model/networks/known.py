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


def find_preprocess(model: nn.Module) -> Preprocess | None:
    """Find the preparation that a network of timm was trained with; ``None`` for networks that do not say it."""
    settings: Any = getattr(model, "pretrained_cfg", None)
    if not isinstance(settings, Mapping) or "input_size" not in settings:
        return None
    timm_data: Any = importlib.import_module("timm.data")
    return timm_preprocess(timm_data.resolve_model_data_config(model))


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
    """Find the labels of a network of transformers; ``None`` for networks that do not say them."""
    labels = getattr(getattr(model, "config", None), "id2label", None)
    return read_class_names(model) if isinstance(labels, Mapping) and labels else None
