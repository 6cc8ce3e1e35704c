"""Detectors, segmenters, backbones and other heads of transformers, from small configurations."""

from typing import Any

import torch
from torch.nn import functional

from benchmarks.packages.case import Case
from benchmarks.packages.of_transformers import VIT, build_from
from explainable_model import targets

RESNET = {
    "backbone_config": (
        "ResNetConfig",
        {"embedding_size": 8, "hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 1, 1], "out_features": ["stage4"]},
    )
}
DETR = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "num_queries": 9,
    "use_timm_backbone": False,
    "backbone": None,
    "use_pretrained_backbone": False,
}
SEGFORMER = {
    "hidden_sizes": [8, 16, 16, 32],
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 2, 2, 2],
    "decoder_hidden_size": 16,
}


def _case(
    name: str, config: str, *rest: Any, sub: dict[str, Any] | None = None, ask: dict[str, Any], **options: Any
) -> Case:
    return Case(f"transformers:{name}", build_from(name, config, sub, **options), *rest, **ask)


BOXES = {"refused": "scores belong to boxes"}
SUMMED = "one of 5 classes, summed over all pixels"
CASES = [
    _case("DetrForObjectDetection", "DetrConfig", sub=RESNET, ask=BOXES, **DETR),
    _case("ConditionalDetrForObjectDetection", "ConditionalDetrConfig", sub=RESNET, ask=BOXES, **DETR),
    _case(
        "YolosForObjectDetection", "YolosConfig", ask=BOXES, **{**VIT, "image_size": [64, 64]}, num_detection_tokens=5
    ),
    _case(
        "SegformerForSemanticSegmentation",
        "SegformerConfig",
        ("decode_head.dropout", "decode_head.activation", "decode_head.batch_norm"),
        (16, 16),
        SUMMED,
        ask={},
        num_labels=5,
        **SEGFORMER,
    ),
    _case(
        "UperNetForSemanticSegmentation",
        "UperNetConfig",
        ("decode_head.fpn_bottleneck",),
        (32, 32),
        SUMMED,
        sub={
            "backbone_config": (
                "ConvNextConfig",
                {
                    "hidden_sizes": [8, 12, 16, 24],
                    "depths": [1, 1, 1, 1],
                    "out_features": ["stage1", "stage2", "stage3", "stage4"],
                },
            )
        },
        ask={"shape": (3, 128, 128)},
        num_labels=5,
        hidden_size=16,
        use_auxiliary_head=False,
    ),
    _case(
        "MobileViTForSemanticSegmentation",
        "MobileViTConfig",
        ("segmentation_head.aspp",),
        (4, 4),
        SUMMED,
        ask={"shape": (3, 128, 128)},
        num_labels=5,
        image_size=128,
        hidden_sizes=[16, 24, 32],
        neck_hidden_sizes=[8, 8, 12, 16, 16, 24, 32],
        num_attention_heads=2,
        aspp_out_channels=16,
    ),
    _case(
        "MobileNetV2ForSemanticSegmentation",
        "MobileNetV2Config",
        ("segmentation_head.conv_projection",),
        (2, 2),
        SUMMED,
        ask={},
        num_labels=5,
        depth_multiplier=0.35,
        image_size=64,
    ),
    _case(
        "BeitForSemanticSegmentation",
        "BeitConfig",
        ("decode_head.fpn_bottleneck", "decode_head.bottleneck"),
        (32, 32),
        SUMMED,
        ask={},
        num_labels=5,
        **{**VIT, "num_hidden_layers": 4},
        out_indices=[1, 2, 3, 4],
        use_auxiliary_head=False,
    ),
    _case(
        "DPTForSemanticSegmentation",
        "DPTConfig",
        ("head.head.3", "head.head.2", "head.head.1", "neck"),
        (32, 32),
        SUMMED,
        ask={},
        num_labels=5,
        **{**VIT, "num_hidden_layers": 4, "patch_size": 16},
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=16,
        is_hybrid=False,
        use_auxiliary_head=False,
        backbone_config=None,
    ),
    _case(
        "MaskFormerForInstanceSegmentation",
        "MaskFormerConfig",
        sub={
            "backbone_config": (
                "SwinConfig",
                {
                    "embed_dim": 16,
                    "depths": [1, 1, 1, 1],
                    "num_heads": [1, 2, 2, 2],
                    "window_size": 2,
                    "image_size": 64,
                    "out_features": ["stage1", "stage2", "stage3", "stage4"],
                },
            ),
            "decoder_config": ("DetrConfig", DETR),
        },
        ask={"refused": "output="},
        mask_feature_size=32,
        fpn_feature_size=32,
    ),
    _case(
        "Mask2FormerForUniversalSegmentation",
        "Mask2FormerConfig",
        sub={
            "backbone_config": (
                "SwinConfig",
                {
                    "embed_dim": 16,
                    "depths": [1, 1, 1, 1],
                    "num_heads": [1, 2, 2, 2],
                    "window_size": 2,
                    "image_size": 64,
                    "out_features": ["stage1", "stage2", "stage3", "stage4"],
                },
            )
        },
        ask={"refused": "output="},
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=24,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        dim_feedforward=24,
        num_queries=9,
    ),
    _case(
        "DPTForDepthEstimation",
        "DPTConfig",
        ask={"refused": "depth"},
        **{**VIT, "num_hidden_layers": 4},
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=16,
        is_hybrid=False,
        backbone_config=None,
    ),
    _case(
        "GLPNForDepthEstimation",
        "GLPNConfig",
        ask={"refused": "depth"},
        hidden_sizes=[8, 16, 16, 32],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 2, 2, 2],
        decoder_hidden_size=16,
    ),
    _case("ViTModel", "ViTConfig", ask={"refused": "hidden_state|features|classifier"}, **VIT),
    _case(
        "ResNetModel",
        "ResNetConfig",
        ask={"refused": "classifier"},
        embedding_size=8,
        hidden_sizes=[8, 12, 16, 24],
        depths=[1, 1, 1, 1],
    ),
    _case(
        "ViTMAEForPreTraining",
        "ViTMAEConfig",
        ask={"refused": "random|logits|output="},
        **VIT,
        decoder_hidden_size=16,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=24,
    ),
    _case(
        "Swin2SRForImageSuperResolution",
        "Swin2SRConfig",
        ask={"refused": "reconstruction|target="},
        embed_dim=16,
        depths=[1],
        num_heads=[2],
        window_size=4,
        image_size=64,
    ),
    _case(
        "CLIPVisionModelWithProjection",
        "CLIPVisionConfig",
        "vision_model.encoder.layers.1.layer_norm1",
        (8, 8),
        "the similarity to a reference",
        ask={
            "arguments": {"target": targets.Similarity(), "output": "image_embeds"},
            "inputs": lambda batch, g: (torch.randn(batch, 16, generator=g),),
            "read_scores": lambda out, reference: functional.cosine_similarity(out.image_embeds, reference).unsqueeze(
                1
            ),
        },
        projection_dim=16,
        **VIT,
    ),
    _case(
        "CLIPModel",
        "CLIPConfig",
        ask={"refused": "pixel_values=image"},
        vision_config=VIT,
        text_config={"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
    ),
    _case(
        "SuperPointForKeypointDetection",
        "SuperPointConfig",
        ask={"refused": "keypoints"},
        encoder_hidden_sizes=[8, 8, 16, 16],
        decoder_hidden_size=16,
    ),
    _case(
        "VitPoseForPoseEstimation",
        "VitPoseConfig",
        ask={"refused": "heatmaps|target="},
        sub={
            "backbone_config": (
                "VitPoseBackboneConfig",
                {
                    **{k: v for k, v in VIT.items() if k != "intermediate_size"},
                    "image_size": [64, 64],
                    "patch_size": [8, 8],
                    "mlp_ratio": 2,
                    "out_features": ["stage2"],
                },
            )
        },
    ),
]
