"""Networks of smaller packages: remote sensing, video, anomalies, re-identification, toolboxes."""

from collections.abc import Callable
from importlib import import_module
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from benchmarks.packages.of_research import CLASS, build_from, case_of, similarity


def _mm(name: str, head: dict[str, Any], **backbone: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from mmpretrain.models import build_classifier
        from mmpretrain.utils import register_all_modules

        register_all_modules()
        neck = {"type": "GlobalAveragePooling"} if "ResNet" in name else None
        parts = {"type": "ImageClassifier", "backbone": {"type": name, **backbone}, "neck": neck, "head": head}
        return build_classifier(parts)

    return build


class TwoRates(nn.Module):
    """SlowFast takes a list of two clips; the wrapper makes it of one."""

    def __init__(self) -> None:
        super().__init__()
        create = import_module("pytorchvideo.models.slowfast").create_slowfast
        self.network = create(model_num_class=5, head_pool_kernel_sizes=((2, 2, 2), (8, 2, 2)))

    def forward(self, video: Tensor) -> Tensor:
        return self.network([video[:, :, ::4], video])


class FirstToken(nn.Module):
    """kornia's transformer returns its tokens; the first one is classified."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.head = network, nn.Linear(32, 5)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.network(image)[:, 0])


def _reid(name: str) -> nn.Module:
    from torchreid.reid.models import build_model

    return build_model(name, num_classes=5, pretrained=False, use_gpu=False)


def _untrained(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """Build a network whose package asks timm for trained weights, without them."""

    def build_untrained() -> nn.Module:
        import timm

        create = timm.create_model
        with mock.patch.object(
            timm, "create_model", lambda *given, **ask: create(*given, **{**ask, "pretrained": False})
        ):
            return build()

    return build_untrained


CASES = [
    case_of(
        "torchgeo",
        "ResNet18, 13 bands",
        lambda: import_module("torchgeo.models").resnet18(in_chans=13, num_classes=5),
        ("layer4",),
        (4, 4),
        CLASS,
        shape=(13, 128, 128),
    ),
    case_of(
        "torchgeo",
        "FarSeg",
        build_from("torchgeo.models", "FarSeg", backbone="resnet18", classes=4, backbone_pretrained=False),
        ("decoder.blocks.3",),
        (16, 16),
        "one of 4 classes, summed over all pixels",
        mixes=True,
    ),
    case_of(
        "torchgeo",
        "FCN",
        build_from("torchgeo.models", "FCN", 3, 4, 8),
        ("backbone",),
        (64, 64),
        "one of 4 classes, summed over all pixels",
    ),
    case_of(
        "torchgeo",
        "FCSiamDiff",
        build_from("torchgeo.models", "FCSiamDiff", "resnet18", encoder_weights=None, in_channels=3, classes=2),
        refused="target=",
        shape=(2, 3, 64, 64),
    ),
    case_of(
        "torchgeo",
        "ChangeStarFarSeg",
        build_from("torchgeo.models", "ChangeStarFarSeg", backbone="resnet18", classes=1, backbone_pretrained=False),
        refused="output=",
        shape=(2, 3, 64, 64),
    ),
    case_of(
        "torchgeo", "RCF", build_from("torchgeo.models", "RCF", 3, 8, 3), refused="no layer|no spatial map|classifier"
    ),
    case_of(
        "pytorchvideo",
        "slow_r50",
        build_from(
            "pytorchvideo.models", "create_resnet", model_depth=50, model_num_class=5, head_pool_kernel_size=(4, 2, 2)
        ),
        ("blocks.4",),
        (4, 2, 2),
        CLASS,
        shape=(3, 4, 64, 64),
        mixes=True,
        kind="logits",
    ),
    case_of(
        "pytorchvideo",
        "x3d_xs",
        lambda: import_module("pytorchvideo.models.x3d").create_x3d(
            input_clip_length=4, input_crop_size=64, model_num_class=5
        ),
        ("blocks.5.pool.pre_act", "blocks.4"),
        (4, 2, 2),
        CLASS,
        shape=(3, 4, 64, 64),
        mixes=True,
    ),
    case_of(
        "pytorchvideo",
        "slowfast",
        TwoRates,
        ("network.blocks.4.multipathway_blocks.1", "network.blocks.4"),
        (8, 2, 2),
        CLASS,
        shape=(3, 8, 64, 64),
        mixes=True,
    ),
    case_of(
        "pytorchvideo",
        "csn",
        lambda: import_module("pytorchvideo.models.csn").create_csn(
            model_depth=50, model_num_class=5, head_pool_kernel_size=(1, 2, 2)
        ),
        ("blocks.4",),
        (1, 4, 4),  # the stem does not pool
        CLASS,
        shape=(3, 8, 64, 64),
        mixes=True,
    ),
    case_of(
        "pytorchvideo",
        "mvit",
        lambda: import_module("pytorchvideo.models.vision_transformers").create_multiscale_vision_transformers(
            spatial_size=64,
            temporal_size=4,
            depth=3,
            head_num_classes=5,
            patch_embed_dim=24,
            embed_dim_mul=[],
            atten_head_mul=[],
            pool_q_stride_size=[],
            num_heads=2,
        ),
        ("blocks.2.norm1",),
        (2, 16, 16),
        CLASS,
        shape=(3, 4, 64, 64),
    ),
    case_of(
        "anomalib",
        "STFPM",
        _untrained(
            lambda: import_module("anomalib.models.image.stfpm.torch_model").STFPMModel(
                layers=["layer1", "layer2"], backbone="resnet18"
            )
        ),
        refused="output=|target=",
    ),
    case_of(
        "anomalib",
        "reverse distillation",
        lambda: import_module("anomalib.models.image.reverse_distillation.torch_model").ReverseDistillationModel(
            backbone="resnet18",
            input_size=(64, 64),
            layers=["layer1", "layer2", "layer3"],
            anomaly_map_mode="add",
            pre_trained=False,
        ),
        refused="output=|target=",
    ),
    case_of(
        "anomalib",
        "DRAEM, score",
        lambda: import_module("anomalib.models.image.draem.torch_model").DraemModel(),
        refused="output=|target=",
    ),
    case_of(
        "anomalib",
        "EfficientAD",
        lambda: import_module("anomalib.models.image.efficient_ad.torch_model").EfficientAdModel(384),
        refused="output=|target=",
        shape=(3, 256, 256),
    ),
    case_of(
        "torchreid",
        "osnet_x0_25, embedding",
        lambda: _reid("osnet_x0_25"),
        ("conv5",),
        (8, 4),
        shape=(3, 128, 64),
        **similarity(512, signed=True),  # to a reference at random all evidence may speak against, as it does here
    ),
    case_of(
        "torchreid",
        "resnet50, embedding",
        lambda: _reid("resnet50"),
        ("layer4",),
        (8, 4),
        shape=(3, 256, 128),
        mixes=True,
        **similarity(2048),
    ),
    case_of(
        "mmpretrain",
        "ResNet",
        _mm("ResNet", {"type": "LinearClsHead", "num_classes": 5, "in_channels": 512}, depth=18),
        ("backbone",),
        (2, 2),
        CLASS,
        mixes=True,
    ),
    case_of(
        "mmpretrain",
        "VisionTransformer",
        _mm(
            "VisionTransformer",
            {"type": "VisionTransformerClsHead", "num_classes": 5, "in_channels": 192},
            arch="deit-tiny",
            img_size=64,
            patch_size=16,
        ),
        ("backbone.layers.11.ln1",),  # the norm before the last attention: the class token alone is read
        (4, 4),
        CLASS,
        mixes=True,
    ),
    case_of(
        "kornia",
        "VisionTransformer",
        lambda: FirstToken(
            import_module("kornia.models.vit").VisionTransformer(
                image_size=64, patch_size=8, embed_dim=32, depth=2, num_heads=2
            )
        ),
        ("network.encoder.blocks.1.0.fn.0",),  # the norm before the last attention: the class token alone is read
        (8, 8),
        CLASS,
    ),
    case_of(
        "kornia",
        "augmentation before a network",
        lambda: nn.Sequential(
            import_module("kornia.enhance").Normalize(torch.full((3,), 0.5), torch.full((3,), 0.5)),
            import_module("kornia.filters").GaussianBlur2d((3, 3), (1.0, 1.0)),
            import_module("torchvision").models.resnet18(weights=None, num_classes=5),
        ),
        ("2.layer4",),
        (4, 4),
        CLASS,
        shape=(3, 128, 128),
    ),
    case_of(
        "kornia",
        "HardNet, patch descriptor",
        lambda: import_module("kornia.feature").HardNet(pretrained=False),
        ("features.18", "features.17"),
        (8, 8),
        shape=(1, 32, 32),
        **similarity(128),
    ),
    case_of(
        "kornia",
        "TinyViT",
        lambda: import_module("kornia.contrib").TinyViT(
            img_size=64,
            num_classes=5,
            embed_dims=(16, 24, 32, 48),
            depths=(1, 1, 1, 1),
            num_heads=(1, 2, 2, 2),
            window_sizes=(4, 4, 4, 2),
        ),
        ("layers.2", "layers"),
        (2, 2),
        CLASS,
    ),
]
