"""MONAI in two and in three dimensions."""

from collections.abc import Callable
from typing import Any

from torch import nn

from benchmarks.packages.case import Case

FLAT: tuple[int, ...] = (1, 64, 64)
SOLID: tuple[int, ...] = (1, 32, 32, 32)
SUMMED = "one of 3 classes, summed over all voxels"


def _build(name: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from monai.networks import nets

        return getattr(nets, name)(**options)

    return build


def _monai(
    name: str, layer: str | tuple[str, ...], grid: tuple[int, ...], meaning: str, *, ask: Any = None, **options: Any
) -> Case:
    shape = SOLID if len(grid) == 3 else FLAT
    asked = {"shape": shape, **(ask or {})}
    return Case(f"monai:{name} {len(grid)}-D", _build(name, **options), layer, grid, meaning, **asked)


CLASS = "one of 3 classes"
UNET = {"in_channels": 1, "out_channels": 3, "channels": (4, 8, 12), "strides": (2, 2), "num_res_units": 1}
VIT = {
    "in_channels": 1,
    "patch_size": 8,
    "hidden_size": 24,
    "mlp_dim": 32,
    "num_layers": 3,
    "num_heads": 2,
    "classification": True,
    "num_classes": 3,
    "post_activation": None,
}
FIRST: dict[str, Any] = {"arguments": {"output": 0}, "read_scores": lambda out: out[0]}
CASES = [
    Case(
        "monai:ViT, output not chosen",
        _build("ViT", img_size=(64, 64), spatial_dims=2, **VIT),
        refused="output=0",
        shape=FLAT,
    ),
    _monai(
        "DenseNet121",
        "class_layers.relu",
        (4, 4),
        CLASS,
        ask={"shape": (1, 128, 128)},
        spatial_dims=2,
        in_channels=1,
        out_channels=3,
        block_config=(2, 2, 2, 2),
    ),
    _monai(
        "DenseNet121",
        "class_layers.relu",
        (2, 2, 2),
        CLASS,
        ask={"shape": (1, 64, 64, 64)},
        spatial_dims=3,
        in_channels=1,
        out_channels=3,
        block_config=(1, 1, 1, 1),
    ),
    _monai(
        "EfficientNetBN",
        "_swish",
        (2, 2),
        CLASS,
        model_name="efficientnet-b0",
        spatial_dims=2,
        in_channels=1,
        num_classes=3,
        pretrained=False,
    ),
    _monai(
        "ResNet",
        "layer4",
        (4, 4),
        CLASS,
        block="basic",
        layers=[1, 1, 1, 1],
        block_inplanes=[8, 8, 12, 16],
        spatial_dims=2,
        n_input_channels=1,
        num_classes=3,
    ),
    _monai(
        "ResNet",
        "layer4",
        (2, 2, 2),
        CLASS,
        ask={"mixes": True},  # each of the 8 cells sees the whole image
        block="basic",
        layers=[1, 1, 1, 1],
        block_inplanes=[8, 8, 12, 16],
        spatial_dims=3,
        n_input_channels=1,
        num_classes=3,
    ),
    _monai("SEResNet50", "layer4", (2, 2), CLASS, spatial_dims=2, in_channels=1, num_classes=3, layers=(1, 1, 1, 1)),
    _monai("ViT", "blocks.2.norm1", (8, 8), CLASS, ask=FIRST, img_size=(64, 64), spatial_dims=2, **VIT),
    _monai("ViT", "blocks.2.norm1", (4, 4, 4), CLASS, ask=FIRST, img_size=(32, 32, 32), spatial_dims=3, **VIT),
    _monai(
        "Classifier",
        ("net", "net.layer_2", "net.layer_1"),
        (16, 16),
        CLASS,
        in_shape=(1, 64, 64),
        classes=3,
        channels=(4, 8),
        strides=(2, 2),
    ),
    _monai(
        "Regressor",
        ("net", "net.layer_1"),
        (16, 16),
        "one of 3 values",
        in_shape=(1, 64, 64),
        out_shape=(3,),
        channels=(4, 8),
        strides=(2, 2),
    ),
    _monai("UNet", "model.2.0", (64, 64), SUMMED, spatial_dims=2, **UNET),
    _monai("UNet", "model.2.0", (32, 32, 32), SUMMED, spatial_dims=3, **UNET),
    _monai(
        "BasicUNet",
        "upcat_1",
        (64, 64),
        SUMMED,
        spatial_dims=2,
        in_channels=1,
        out_channels=3,
        features=(4, 4, 8, 8, 12, 4),
    ),
    _monai(
        "AttentionUnet",
        ("model.1", "model.1.merge"),
        (32, 32, 32),
        SUMMED,
        spatial_dims=3,
        in_channels=1,
        out_channels=3,
        channels=(4, 8, 12),
        strides=(2, 2),
    ),
    _monai(
        "SegResNet",
        ("act_mod", "conv_final.1"),
        (32, 32, 32),
        SUMMED,
        spatial_dims=3,
        init_filters=8,
        in_channels=1,
        out_channels=3,
        blocks_down=(1, 1, 1),
        blocks_up=(1, 1),
    ),
    _monai(
        "DynUNet",
        ("skip_layers", "upsamples.1"),
        (64, 64),
        SUMMED,
        spatial_dims=2,
        in_channels=1,
        out_channels=3,
        kernel_size=(3, 3, 3),
        strides=(1, 2, 2),
        upsample_kernel_size=(2, 2),
        filters=(4, 8, 12),
    ),
    _monai("VNet", "out_tr.act_function1", (32, 32, 32), SUMMED, spatial_dims=3, in_channels=1, out_channels=3),
    _monai(
        "UNETR",
        "decoder2",
        (32, 32, 32),
        SUMMED,
        in_channels=1,
        out_channels=3,
        img_size=(32, 32, 32),
        feature_size=8,
        hidden_size=48,
        mlp_dim=48,
        num_heads=2,
    ),
    _monai(
        "SwinUNETR",
        "decoder1",
        (64, 64),
        SUMMED,
        in_channels=1,
        out_channels=3,
        feature_size=12,
        depths=(1, 1, 1, 1),
        num_heads=(1, 1, 2, 2),
        spatial_dims=2,
    ),
    _monai(
        "FlexibleUNet",
        "decoder",
        (64, 64),
        SUMMED,
        in_channels=1,
        out_channels=3,
        backbone="efficientnet-b0",
        spatial_dims=2,
        decoder_channels=(16, 8, 8, 8, 8),
    ),
    _monai("HighResNet", "blocks.10", (32, 32, 32), SUMMED, spatial_dims=3, in_channels=1, out_channels=3),
    Case(
        "monai:MILModel",
        _build("MILModel", num_classes=3, mil_mode="att", pretrained=False, backbone="resnet18"),
        ("net", "net.layer4"),
        (3, 2, 2),
        CLASS,
        shape=(3, 3, 64, 64),
        arguments={"frames": 1},
        mixes=True,  # each of a frame's four cells sees the whole frame
    ),
    Case(
        "monai:AutoEncoder",
        _build("AutoEncoder", spatial_dims=2, in_channels=1, out_channels=1, channels=(4, 8), strides=(2, 2)),
        "decode.decode_0",
        (32, 32),  # decode_1 makes the reconstruction itself
        "the reconstruction, summed over all pixels",
        shape=FLAT,
    ),
    Case(
        "monai:VarAutoEncoder",
        _build(
            "VarAutoEncoder",
            spatial_dims=2,
            in_shape=(1, 64, 64),
            out_channels=1,
            latent_size=4,
            channels=(4, 8),
            strides=(2, 2),
        ),
        refused="output=",
        shape=FLAT,
    ),
    Case(
        "monai:PatchDiscriminator",
        _build("PatchDiscriminator", spatial_dims=2, channels=8, in_channels=1, num_layers_d=2),
        refused="output=|several|target=",
        shape=FLAT,
    ),
    Case(
        "monai:SegResNetDS",
        _build(
            "SegResNetDS",
            spatial_dims=3,
            init_filters=8,
            in_channels=1,
            out_channels=3,
            blocks_down=(1, 1, 1),
            dsdepth=1,
        ),
        ("up_layers.1.blocks",),  # the two around it are containers that never run
        (32, 32, 32),
        SUMMED,
        shape=SOLID,
    ),
]
