"""segmentation_models_pytorch: decoders over a small encoder."""

from collections.abc import Callable
from typing import Any

from torch import nn

from benchmarks.packages.case import Case

ENCODER = {"encoder_name": "resnet18", "encoder_weights": None}


def _smp(name: str, layer: str | tuple[str, ...], side: int, classes: int = 4, **rest: Any) -> Case:
    options = {key: rest.pop(key) for key in list(rest) if key in ("activation", "aux_params", "encoder_name")}

    def build() -> nn.Module:
        import segmentation_models_pytorch as smp

        return getattr(smp, name)(**{**ENCODER, **options}, classes=classes)

    form = "".join(f", {key}" for key in options)
    meaning = "one of 4 classes, summed over all pixels" if classes == 4 else "the foreground, summed over all pixels"
    return Case(f"segmentation_models_pytorch:{name}{form}", build, layer, (side, side), meaning, **rest)


_Builder = Callable[[], nn.Module]
CASES = [
    _smp("Unet", "decoder", 64),
    _smp("UnetPlusPlus", "decoder", 64),
    _smp("MAnet", "decoder", 64),
    _smp("Linknet", "decoder", 64),
    _smp("FPN", ("decoder.merge", "decoder"), 16),
    _smp("PSPNet", "decoder", 8),
    _smp("PAN", "decoder", 32, shape=(3, 128, 128)),
    _smp("DeepLabV3", "decoder", 8),
    _smp("DeepLabV3Plus", "decoder", 16),
    _smp("UPerNet", "decoder", 16),
    _smp("Segformer", "decoder", 16),
    _smp("Unet", "decoder", 64, 1, activation="sigmoid", kind="sigmoid", scores_at="segmentation_head.1"),
    _smp("Unet", (), 64, aux_params={"classes": 3}, refused="output="),
]
