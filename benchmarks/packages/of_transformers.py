"""Classifiers of transformers, from small configurations: nothing is downloaded."""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from benchmarks.packages.case import Case

WIDE = (3, 128, 128)
VIT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "image_size": 64,
    "patch_size": 8,
}


def build_from(name: str, config: str, sub: dict[str, Any] | None = None, /, **options: Any) -> Callable[[], nn.Module]:
    """A builder for a class of transformers with a small configuration."""

    def build() -> nn.Module:
        import transformers

        nested = {key: getattr(transformers, kind)(**values) for key, (kind, values) in (sub or {}).items()}
        return getattr(transformers, name)(getattr(transformers, config)(**options, **nested))

    return build


def head(
    name: str, layer: str | tuple[str, ...], grid: tuple[int, ...] = (8, 8), /, *, config: str = "", **rest: Any
) -> Case:
    """A row for ``<Name>ForImageClassification``; what is no argument of a row belongs to the configuration."""
    own = (
        "shape",
        "refused",
        "artifact_refused",
        "kind",
        "mixes",
        "arguments",
        "meaning",
        "single",
        "scores_at",
        "inputs",
        "read_scores",
    )
    options = {key: value for key, value in rest.items() if key not in own}
    asked = {key: value for key, value in rest.items() if key in own}
    kind = name if "ForImage" in name or "ForVideo" in name else f"{name}ForImageClassification"
    config = config or f"{re.split('For(?=Image|Video)', kind)[0]}Config"
    asked.setdefault("meaning", "one of 5 classes")
    return Case(f"transformers:{kind}", build_from(kind, config, num_labels=5, **options), layer, grid, **asked)


CASES = [
    head("ViT", "vit.layers.1.layernorm_before", **VIT),
    head("DeiT", "deit.layers.1.layernorm_before", **VIT),
    head("DeiTForImageClassificationWithTeacher", "deit.layers.1.layernorm_before", config="DeiTConfig", **VIT),
    head("Dinov2", "dinov2.layernorm", **VIT),
    head("Dinov2WithRegisters", "dinov2_with_registers.layernorm", **VIT),
    head("Beit", "beit.layers.1", **VIT),
    head("Data2VecVision", ("data2vec_vision.encoder", "data2vec_vision.layers.1"), **VIT),
    head("ViTMSN", "vit.layers.1.layernorm_before", config="ViTMSNConfig", **VIT),
    head("IJepa", ("ijepa.layernorm", "ijepa"), **VIT),
    head(
        "Siglip",
        "vision_model.post_layernorm",
        config="SiglipConfig",
        vision_config=VIT,
        text_config={"hidden_size": 32},
    ),
    head(
        "Siglip2",
        "vision_model.post_layernorm",
        config="Siglip2Config",
        vision_config={**VIT, "num_patches": 64},
        shape=(64, 192),
        inputs=lambda batch, g: (torch.ones(batch, 64, dtype=torch.int64), torch.full((batch, 2), 8)),
        read_scores=lambda out, *_: out.logits,
        refused="no layer|no spatial map",
    ),
    head("CLIP", "vision_model.encoder", config="CLIPConfig", vision_config=VIT),
    head("MetaClip2", "vision_model.encoder", config="MetaClip2Config", vision_config=VIT),
    head(
        "PerceiverForImageClassificationConvProcessing",
        # The last layer with all positions: of 64 pixels, a convolution of stride 2 and a pool of 3 leave 15.
        "perceiver.encoder.cross_attention.attention.self.layernorm2",
        (15, 15),
        config="PerceiverConfig",
        image_size=64,
        num_latents=8,
        d_latents=16,
        num_blocks=1,
        num_self_attends_per_block=1,
        num_self_attention_heads=2,
        num_cross_attention_heads=1,
    ),
    head(
        "ImageGPT",
        "transformer.h.1",
        config="ImageGPTConfig",
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=64,
        vocab_size=16,
        refused="input_ids",
    ),
    head(
        "VivitForVideoClassification",
        "vivit.layers.1.layernorm_before",
        (2, 4, 4),
        config="VivitConfig",
        shape=(4, 3, 64, 64),
        arguments={"frames": 1},
        image_size=64,
        num_frames=4,
        tubelet_size=[2, 16, 16],
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
    ),
    head(
        "VideoMAEForVideoClassification",
        "videomae",
        (2, 8, 8),
        config="VideoMAEConfig",
        shape=(4, 3, 64, 64),
        arguments={"frames": 1},
        num_frames=4,
        **VIT,
    ),
    head(
        "TimesformerForVideoClassification",
        "timesformer.encoder.layer.1.layernorm_before",
        (4, 8, 8),
        config="TimesformerConfig",
        shape=(4, 3, 64, 64),
        arguments={"frames": 1},
        num_frames=4,
        **VIT,
    ),
    head(
        "VJEPA2ForVideoClassification",
        ("vjepa2.encoder.layernorm", "pooler.cross_attention_layer.layer_norm1"),
        (2, 4, 4),
        config="VJEPA2Config",
        shape=(4, 3, 64, 64),
        arguments={"frames": 1},
        crop_size=64,
        frames_per_clip=4,
        patch_size=16,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_pooler_layers=1,
        pred_hidden_size=24,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=1,
        num_attention_heads_pooler=2,
    ),
]
