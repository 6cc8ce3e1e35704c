"""Small detectors of transformers with random weights."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

SMALL: Mapping[str, Any] = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "num_queries": 12,
    "num_labels": 5,
}
STAGES: Mapping[str, Any] = {
    "embedding_size": 8,
    "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}
THREE = ["stage2", "stage3", "stage4"]


def _detr() -> nn.Module:
    from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

    return DetrForObjectDetection(DetrConfig(backbone_config=ResNetConfig(out_features=["stage4"], **STAGES), **SMALL))


def _conditional_detr() -> nn.Module:
    from transformers import ConditionalDetrConfig, ConditionalDetrForObjectDetection, ResNetConfig

    backbone = ResNetConfig(out_features=["stage4"], **STAGES)
    return ConditionalDetrForObjectDetection(ConditionalDetrConfig(backbone_config=backbone, **SMALL))


def _deformable_detr() -> nn.Module:
    from transformers import DeformableDetrConfig, DeformableDetrForObjectDetection, ResNetConfig

    backbone = ResNetConfig(out_features=THREE[1:], **STAGES)
    points = {"decoder_layers": 2, "num_feature_levels": 2, "encoder_n_points": 2, "decoder_n_points": 2}
    return DeformableDetrForObjectDetection(DeformableDetrConfig(backbone_config=backbone, **{**SMALL, **points}))


def _rt_detr() -> nn.Module:
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig

    encoder = {
        "encoder_hidden_dim": 32,
        "encoder_in_channels": [16, 24, 32],
        "decoder_in_channels": [32, 32, 32],
        "hidden_expansion": 0.5,
        "decoder_n_points": 2,
        "decoder_layers": 2,
    }
    backbone = RTDetrResNetConfig(out_features=THREE, **STAGES)
    return RTDetrForObjectDetection(RTDetrConfig(backbone_config=backbone, **{**SMALL, **encoder}))


def _yolos() -> nn.Module:
    from transformers import YolosConfig, YolosForObjectDetection

    config = YolosConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=32,
        image_size=[96, 128],
        patch_size=16,
        num_detection_tokens=12,
        num_labels=5,
    )
    return YolosForObjectDetection(config)


TRANSFORMERS: Mapping[str, Callable[[], nn.Module]] = {
    "detr": _detr,
    "conditional_detr": _conditional_detr,
    "deformable_detr": _deformable_detr,
    "rt_detr": _rt_detr,
    "yolos": _yolos,
}

SPREAD = {"conditional_detr": 0.2, "yolos": 5.0}  # of the last weights; the queries of a random network are much alike
WITH_NO_OBJECT = ("detr", "yolos")


def make_detr(name: str) -> Any:
    """A network whose class logits have a spread of some units."""
    torch.manual_seed(0)
    network = TRANSFORMERS[name]().eval()
    for part, module in network.named_modules():
        last = part.endswith(("class_labels_classifier.layers.2", "class_labels_classifier"))
        if isinstance(module, nn.Linear) and (last or ".class_embed" in part):
            nn.init.normal_(module.weight, 0, SPREAD.get(name, 0.8))
            nn.init.normal_(module.bias, 0, 0.5)
            if name in WITH_NO_OBJECT:
                nn.init.constant_(module.bias[-1:], -2.0)
        if isinstance(module, nn.Embedding) and "query" in part:
            nn.init.normal_(module.weight, 0, 2.0)
    for part, parameter in network.named_parameters():
        if part.endswith("detection_tokens"):
            nn.init.normal_(parameter, 0, 2.0)
    return network
