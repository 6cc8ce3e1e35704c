"""What an ONNX file says about its photos and classes; nothing is guessed where it says nothing."""

import ast
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from explainable_model.errors import ModelError
from explainable_model.imaging.preprocess import Preprocess
from explainable_model.networks.onnx.check import make_inputs
from explainable_model.networks.onnx.read import Keep, read
from explainable_model.networks.onnx.reading import Read

NAME_KEYS = ("names", "class_names", "classes", "labels", "categories", "id2label", "label_names")
"""Metadata keys under which programs store the names of classes; ultralytics has ``names``."""

LINES_KEYS = ("character",)  # Paddle: one name a line
WORDS_KEYS = ("model_info labels", "model_info/labels")  # OpenVINO's Model API: separated by spaces
CONFIG_KEYS = ("pretrained_cfg", "timm_config", "config")
MEAN_KEYS, SCALE_KEYS = (tuple(f"model_info{by}{name}_values" for by in (" ", "/")) for name in ("mean", "scale"))
LONGEST = 1_000_000  # characters that are parsed
WHITE = 255


def read_named(path: str | Path, keep_graph: Keep = None) -> dict[str, Any]:
    """The network of a file with the names of its classes and the preparation of its photos, where the file has them.

    A quantized file is read without the rounding of its activations, which formats compute differently, unless its
    nodes are kept.

    Raises:
        ModelError, MissingRuntimeError: as ``from_onnx``.
    """
    found = read(path, rounds=keep_graph not in (None, False), keep_graph=keep_graph)
    metadata, size = found.network.metadata, found.image_shape[1:]
    return {
        "model": found.network,
        "class_names": find_names(metadata, _count_classes(found)),
        "preprocess": find_preparation(metadata, size) if len(size) == 2 else None,
        "image_shape": found.image_shape,
    }


def _count_classes(found: Read) -> int | None:
    """The classes of the only output, or of the only one that is ``(N, classes)``."""
    batch = found.network.inputs[0].shape[0] or 1
    with torch.no_grad():
        output = found.network(*make_inputs(found.network, found.image_shape, batch))
    values = list(output.values()) if isinstance(output, dict) else [output]
    tables = [value.shape[1] for value in values if value.ndim == 2 and value.is_floating_point()]
    return tables[0] if len(tables) == 1 else None


def find_names(metadata: Mapping[str, str], classes: int | None) -> tuple[str, ...] | None:
    """The names of the classes, where there are as many as classes."""
    return next((names for names in list_names(metadata) if len(names) == classes), None)


def list_names(metadata: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Every list of names in the metadata that may be that of the classes."""
    candidates = [_parse_names(metadata[key]) for key in NAME_KEYS if key in metadata]
    candidates += [tuple(metadata[key].splitlines()) for key in LINES_KEYS if key in metadata]
    candidates += [tuple(metadata[key].split()) for key in WORDS_KEYS if key in metadata]
    return [names for names in candidates if names]


def _parse(text: str) -> Any:
    """A literal of Python or JSON, or ``None``."""
    if len(text) > LONGEST:
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return None


def _parse_names(text: str) -> tuple[str, ...] | None:
    value = _parse(text)
    if isinstance(value, Mapping):
        try:
            numbered = {int(key): str(name) for key, name in value.items()}
        except (TypeError, ValueError, OverflowError):
            return None
        return tuple(numbered[i] for i in range(len(numbered))) if set(numbered) == set(range(len(numbered))) else None
    if isinstance(value, (list, tuple)):
        return tuple(map(str, value))
    return tuple(part.strip() for part in text.replace("\n", ",").split(",") if part.strip()) if value is None else None


def find_preparation(metadata: Mapping[str, str], size: Sequence[int]) -> Preprocess | None:
    """From timm's configuration, or from the mean and scale of OpenVINO's Model API."""
    for key in CONFIG_KEYS:
        config = _parse(metadata[key]) if key in metadata else None
        if isinstance(config, Mapping) and {"mean", "std", "input_size"} <= set(config):
            return _translate(config)
    mean, scale = (
        next((_numbers(metadata[key]) for key in keys if key in metadata), None) for keys in (MEAN_KEYS, SCALE_KEYS)
    )
    if mean is None or scale is None or len(mean) != len(scale):
        return None
    shares = [tuple(value / WHITE for value in values) for values in (mean, scale)]
    return Preprocess((size[0], size[1]), shares[0], shares[1])


def _translate(config: Mapping[str, Any]) -> Preprocess | None:
    from explainable_model.networks.transforms import timm_preprocess

    try:
        complete = {"crop_mode": "center", "crop_pct": 0.875, "interpolation": "bilinear", **config}
        return timm_preprocess(complete)
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f"The file's description of its photos cannot be read: {error}.") from error


def _numbers(text: str) -> tuple[float, ...] | None:
    try:
        return tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError:
        return None
