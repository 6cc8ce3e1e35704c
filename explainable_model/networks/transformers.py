"""Loads image classifiers of Hugging Face transformers from folders that ``save_pretrained`` wrote."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from explainable_model.errors import MissingRuntimeError, ModelError, first_line
from explainable_model.imaging.preprocess import Preprocess

CONFIG, WEIGHTS, PROCESSOR = "config.json", "*.safetensors", "preprocessor_config.json"
INTERPOLATIONS = ("nearest", "lanczos", "bilinear", "bicubic")  # in the order of Pillow's numbers
CONVNEXT_CROPPED_BELOW = 384  # its processor resizes whole photos to this size and larger ones


def load_classifier(folder: Path) -> nn.Module:
    """Load a network with all its weights. Reads only the folder, and runs none of its code.

    Raises:
        ModelError: no such folder, no classifier, code in the folder, no safetensors, or weights that do not fit.
        MissingRuntimeError: transformers is not installed.
    """
    if not (folder / CONFIG).is_file() or not any(folder.glob(WEIGHTS)):
        raise ModelError(
            f"{folder} is not a folder with {CONFIG} and {WEIGHTS}; expected what save_pretrained(folder) writes. "
            "Pickled weights are not read, and nothing is downloaded."
        )
    try:
        import transformers
    except ImportError as error:
        raise MissingRuntimeError(
            f"transformers:{folder} needs transformers: pip install 'explainable-model[transformers]'."
        ) from error
    try:
        model, loading = transformers.AutoModelForImageClassification.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{folder} is not an image classifier of transformers: {first_line(error)}") from error
    wrong = [*sorted(loading["missing_keys"]), *map(str, loading["mismatched_keys"])]
    if wrong:
        raise ModelError(f"{folder} lacks weights of its {type(model).__name__}: {', '.join(wrong[:3])}.")
    assert isinstance(model, nn.Module)
    return model


def read_class_names(model: Any) -> tuple[str, ...] | None:
    """Read the labels in the network's configuration, unless they are mere numbers."""
    labels: Mapping[int, str] = model.config.id2label
    names = tuple(str(labels[index]) for index in sorted(labels))
    return None if all(name.startswith("LABEL_") for name in names) else names


def read_preprocess(folder: Path) -> Preprocess | None:
    """Translate the folder's image processor into ``Preprocess``; ``None`` where it cannot, or there is no processor.

    Raises:
        ModelError: the file is not JSON, or holds values of other types.
    """
    path = folder / PROCESSOR
    if not path.is_file():
        return None
    try:
        settings = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON: {error}.") from error
    try:
        return translate_processor(settings)
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
        raise ModelError(f"{path} does not describe an image processor: {first_line(error)}.") from error


def translate_processor(settings: Mapping[str, Any]) -> Preprocess | None:
    """Translate the settings of an image processor; ``None`` where ``Preprocess`` cannot do what it does."""
    geometry = _read_geometry(settings)
    plain = settings.get("do_resize", True) and settings.get("do_rescale", True) and settings.get("do_normalize", True)
    if geometry is None or not plain or abs(settings.get("rescale_factor", 1 / 255) - 1 / 255) > 1e-9:
        return None
    size, resize = geometry
    mean, std = settings.get("image_mean") or [0.5] * 3, settings.get("image_std") or [0.5] * 3
    return Preprocess(size, tuple(mean), tuple(std), resize, INTERPOLATIONS[int(settings.get("resample", 2))])


def _read_geometry(settings: Mapping[str, Any]) -> tuple[tuple[int, int], int | None] | None:
    """Read the size of the input, and the shorter side before the crop (``None``: the whole photo)."""
    size, crop = settings.get("size"), _read_pair(settings.get("crop_size"))
    if isinstance(size, int):
        size = {"height": size, "width": size}
    if not isinstance(size, Mapping):
        return None
    whole = _read_pair(size)
    if whole is not None:
        return None if settings.get("do_center_crop") else (whole, None)
    shorter = size.get("shortest_edge")
    if not isinstance(shorter, int):
        return None
    if "crop_pct" in settings:  # ConvNeXt's
        square = (shorter, shorter)
        return (square, None if shorter >= CONVNEXT_CROPPED_BELOW else int(shorter / settings["crop_pct"]))
    return (crop, shorter) if crop is not None and settings.get("do_center_crop", True) else None


def _read_pair(size: Any) -> tuple[int, int] | None:
    if isinstance(size, int):
        return size, size
    if isinstance(size, Mapping) and "height" in size and "width" in size:
        return int(size["height"]), int(size["width"])
    return None
