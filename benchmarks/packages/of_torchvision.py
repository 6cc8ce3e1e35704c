"""Torchvision beyond classification: detection, video, quantization."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from benchmarks.packages.case import Case

DETECTORS = {
    "fasterrcnn_resnet50_fpn": {"box_detections_per_img": 5},
    "fasterrcnn_mobilenet_v3_large_320_fpn": {"box_detections_per_img": 5},
    "maskrcnn_resnet50_fpn": {"box_detections_per_img": 5},
    "keypointrcnn_resnet50_fpn": {"box_detections_per_img": 5},
    "retinanet_resnet50_fpn": {"detections_per_img": 5},
    "fcos_resnet50_fpn": {"detections_per_img": 5},
    "ssd300_vgg16": {"detections_per_img": 5},
    "ssdlite320_mobilenet_v3_large": {"detections_per_img": 5},
}


def _build(name: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import torchvision

        return torchvision.models.get_model(name, weights=None, **options)

    return build


def _build_detector(name: str, **options: Any) -> Callable[[], nn.Module]:
    sizes = {} if "320" in name or "ssd" in name else {"min_size": 64, "max_size": 128}
    return _build(f"{name}", weights_backbone=None, **sizes, **options)


class Detector(nn.Module):
    """The features and the head of a detector, without the choice of boxes: what its training differentiates."""

    def __init__(self) -> None:
        super().__init__()
        import torchvision

        found = torchvision.models.get_model("fcos_resnet50_fpn", weights=None, weights_backbone=None, num_classes=4)
        self.backbone, self.head = found.backbone, found.head

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return self.head(list(self.backbone(image).values()))


def _build_s3d() -> nn.Module:
    """S3D for small videos: its pooling is made for 224 x 224."""
    model = _build("s3d")()
    model.avgpool = nn.AvgPool3d(2, 1)
    return model


def _build_mvit() -> nn.Module:
    """Three blocks of MViT v2, of which the second pools its queries."""
    from torchvision.models.video.mvit import MSBlockConfig, MViT

    def block(inner: int, outer: int, stride: list[int]) -> MSBlockConfig:
        return MSBlockConfig(1, inner, outer, [3, 3, 3], [3, 3, 3], stride, [1, 2, 2])

    blocks = [block(16, 16, [1, 1, 1]), block(16, 32, [1, 2, 2]), block(32, 32, [1, 1, 1])]
    options = {"residual_pool": True, "residual_with_cls_embed": False, "rel_pos_embed": True, "proj_after_attn": True}
    return MViT((64, 64), 4, blocks, num_classes=5, patch_embed_stride=(2, 8, 8), **options)


def best_of_class(output: dict[str, Tensor], class_idx: Tensor) -> Tensor:
    """The largest logit of the class over all places."""
    return output["cls_logits"].amax(1).gather(1, class_idx[:, None])[:, 0]


def _quantizable(
    name: str, layer: str, grid: int, *, quantize: bool = False, refused: str = "", **options: Any
) -> Case:
    def build() -> nn.Module:
        import torchvision

        builder = getattr(torchvision.models.quantization, name)
        if not quantize:
            return builder(weights=None, quantize=False, **options)
        return builder(weights=None, quantize=True, **options)

    form = "int8" if quantize else "float"
    return Case(
        f"torchvision.quantization:{name} ({form})",
        build,
        layer,
        (grid, grid),
        "one of 1000",
        refused,
        shape=(3, 128, 128),
    )


VIDEO = {"shape": (3, 4, 64, 64), "meaning": "one of 400 actions"}
CASES = [
    *(
        Case(f"torchvision.detection:{name}", _build_detector(name, **options), refused="detectors do")
        for name, options in DETECTORS.items()
    ),
    Case(
        "torchvision.detection:fcos, best logit",
        Detector,
        ("backbone.fpn.extra_blocks", "backbone.fpn", "backbone.body", "backbone.fpn.layer_blocks.0"),
        (8, 8),
        "the largest logit of a class",
        shape=(3, 64, 64),
        kind="scores",
        arguments={"target": best_of_class},
        mixes=True,
    ),
    Case("torchvision.video:r3d_18", _build("r3d_18"), "layer4", (1, 4, 4), **VIDEO),
    Case("torchvision.video:mc3_18", _build("mc3_18"), "layer4", (4, 4, 4), **VIDEO),
    Case("torchvision.video:r2plus1d_18", _build("r2plus1d_18"), "layer4", (1, 4, 4), **VIDEO),
    Case(
        "torchvision.video:s3d",
        _build_s3d,
        "features",
        (2, 2, 2),
        shape=(3, 16, 64, 64),
        meaning="one of 400 actions",
        mixes=True,
    ),
    Case(
        "torchvision.video:mvit",
        _build_mvit,
        ("blocks.2.norm1",),
        (2, 4, 4),
        shape=(3, 4, 64, 64),
        meaning="one of 5 actions",
        mixes=True,
    ),
    Case(
        "torchvision.video:swin3d_t",
        _build("swin3d_t"),
        ("features", "norm"),
        (4, 2, 2),
        shape=(3, 8, 64, 64),
        meaning="one of 400 actions",
        mixes=True,
    ),
    _quantizable("resnet18", "layer4", 4),
    _quantizable("mobilenet_v2", "features", 4),
    _quantizable("mobilenet_v3_large", "features", 4),
    _quantizable("shufflenet_v2_x0_5", "conv5", 4),
    _quantizable("googlenet", "inception5b", 4, init_weights=False),
    _quantizable("resnet18", "layer4", 4, quantize=True, refused="integers"),
    _quantizable("mobilenet_v2", "features", 4, quantize=True, refused="integers"),
]
