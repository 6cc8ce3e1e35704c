"""Translates transforms of torchvision and timm into ``Preprocess``."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from explainable_model.errors import InputError
from explainable_model.imaging.preprocess import Preprocess

IGNORED = ("Identity", "MaybePILToTensor", "PILToTensor", "RGB", "ToImage", "ToPureTensor")
"""Transforms that change neither the size nor the values."""


def as_preprocess(transform: Any) -> Preprocess | None:
    """Translate the evaluation transform of a network; a ``Preprocess`` and ``None`` stay as they are.

    Args:
        transform: a ``Compose`` of torchvision (version 1 or 2) or timm, a preset of torchvision's weights, a data
            config of timm, an image processor of transformers, or the size of a square input with ImageNet's mean and
            standard deviation.

    Raises:
        InputError: a transform that ``Preprocess`` cannot do, such as a random one, or a photo whose values are not
            brought to [0, 1].
    """
    if transform is None or isinstance(transform, Preprocess):
        return transform
    if isinstance(transform, int):
        return Preprocess((transform, transform))
    if type(transform).__name__ == "ImageClassification":
        return torchvision_preprocess(transform)
    if isinstance(transform, Mapping):
        return _translate_config(transform)
    if hasattr(transform, "image_mean") and hasattr(transform, "to_dict"):
        return _translate_processor(transform)
    steps = getattr(transform, "transforms", None)
    if not isinstance(steps, Iterable):
        steps = [transform]
    return _Translation().translate(list(steps))


def _translate_config(config: Mapping[str, Any]) -> Preprocess:
    """Translate a data config of timm, or the settings of an image processor of transformers."""
    from explainable_model.networks.transformers import translate_processor

    if "input_size" in config:
        complete = {"crop_mode": "center", "crop_pct": 0.875, "interpolation": "bilinear", **config}
        translated = timm_preprocess(complete)
    else:
        translated = translate_processor(config)
    if translated is None:
        raise _refuse(f"settings that Preprocess cannot do ({', '.join(sorted(config))})")
    return translated


def _translate_processor(processor: Any) -> Preprocess:
    """Translate an image processor of transformers."""
    from explainable_model.networks.transformers import translate_processor

    translated = translate_processor(processor.to_dict())
    if translated is None:
        raise _refuse(f"settings of {type(processor).__name__} that Preprocess cannot do")
    return translated


def torchvision_preprocess(preset: Any) -> Preprocess | None:
    """Translate an ``ImageClassification`` preset into ``Preprocess``; ``None`` for presets without a fixed size."""
    if type(preset).__name__ != "ImageClassification":
        return None
    crop, shorter = tuple(preset.crop_size), tuple(preset.resize_size)
    return Preprocess(
        size=(crop[0], crop[-1]),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        resize=shorter[0],
        interpolation=str(preset.interpolation.value),
    )


def timm_preprocess(config: Mapping[str, Any]) -> Preprocess | None:
    """Translate timm's evaluation transform into ``Preprocess``.

    ``crop_pct`` is the share of the resized photo's shorter side that the crop keeps, so that side
    is ``floor(size / crop_pct)``. ``None`` where the photo is padded (``crop_mode`` border), which ``Preprocess``
    cannot do.

    Args:
        config: from ``timm.data.resolve_model_data_config``.
    """
    _, height, width = config["input_size"]
    if config["crop_mode"] == "border":
        return None
    resize = None if config["crop_mode"] == "squash" else math.floor(min(height, width) / config["crop_pct"])
    return Preprocess(
        size=(height, width),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        resize=resize,
        interpolation=config["interpolation"],
    )


class _Translation:
    """The state of a translation: what the steps so far do."""

    def __init__(self) -> None:
        self.resize: tuple[int, ...] | None = None
        self.crop: tuple[int, int] | None = None
        self.interpolation = "bilinear"
        self.channels = 3
        self.in_unit = False
        self.mean: tuple[float, ...] = (0.0,)
        self.std: tuple[float, ...] = (1.0,)

    def translate(self, steps: Sequence[Any]) -> Preprocess:
        """Translate the steps in their order."""
        for step in steps:
            self._add(step)
        if not self.in_unit:
            raise _refuse("no ToTensor, which brings the values to [0, 1]")
        resize, crop = self.resize, self.crop
        if resize is None or (len(resize) == 1 and crop is None):
            raise _refuse("no fixed size of its result")
        if crop is not None and max(crop) > min(resize):
            raise _refuse(f"a crop to {crop} that is larger than the photo resized to {resize}")
        if crop is not None and len(resize) == 2 and crop != resize:
            raise _refuse(f"a crop to {crop} of a photo squashed to {resize}")
        squashed = len(resize) == 2
        size = (resize[0], resize[1]) if squashed else crop
        assert size is not None
        mean, std = (values * (self.channels if len(values) == 1 else 1) for values in (self.mean, self.std))
        return Preprocess(size, mean, std, None if squashed else resize[0], self.interpolation)

    def _add(self, step: Any) -> None:
        kind = type(step).__name__
        if kind == "Resize" and self.resize is None and self.crop is None and not getattr(step, "max_size", None):
            self.resize = _integers(step.size)
            self.interpolation = str(getattr(step.interpolation, "value", step.interpolation))
        elif kind == "CenterCrop" and self.crop is None:
            height, *width = _integers(step.size)
            self.crop = (height, width[0] if width else height)
        elif kind == "Grayscale":
            self.channels = step.num_output_channels
        elif kind == "Normalize" and self.in_unit:
            self.mean, self.std = _floats(step.mean), _floats(step.std)
        elif kind in ("ToTensor", "MaybeToTensor", "ConvertImageDtype") or (kind == "ToDtype" and step.scale):
            self.in_unit = True
        elif kind not in IGNORED:
            raise _refuse(kind if kind not in ("Resize", "Normalize") else f"{step}")


def _integers(size: Any) -> tuple[int, ...]:
    return (int(size),) if isinstance(size, int) else tuple(map(int, size))


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(map(float, values if isinstance(values, Iterable) else (values,)))


def _refuse(problem: str) -> InputError:
    return InputError(
        f"preprocess has {problem}; expected Resize, CenterCrop, ToTensor and Normalize, in this order, or a "
        "Preprocess: Preprocess((224, 224), mean=..., std=..., resize=256)."
    )
