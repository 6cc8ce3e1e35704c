"""vit-pytorch: research variants of the vision transformer."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from torch import nn

from benchmarks.packages.case import Case

SMALL: dict[str, Any] = {
    "image_size": 64,
    "patch_size": 8,
    "num_classes": 5,
    "dim": 32,
    "depth": 2,
    "heads": 2,
    "mlp_dim": 48,
}
CLASS = "one of 5 classes"


def _build(module: str, name: str, options: dict[str, Any]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        return getattr(import_module(f"vit_pytorch.{module}"), name)(**options)

    return build


def _vit(
    module: str,
    name: str,
    layer: str | tuple[str, ...],
    grid: tuple[int, ...] = (8, 8),
    *,
    ask: Any = None,
    form: str = "",
    without: tuple[str, ...] = (),
    **options: Any,
) -> Case:
    chosen = {key: value for key, value in {**SMALL, **options}.items() if key not in without}
    return Case(f"vit-pytorch:{module}.{name}{form}", _build(module, name, chosen), layer, grid, CLASS, **(ask or {}))


VIDEO: dict[str, Any] = {"frames": 4, "frame_patch_size": 2}
CASES = [
    _vit("vit", "ViT", "transformer.layers.1.0.norm", pool="cls"),
    _vit("simple_vit", "SimpleViT", "transformer"),
    _vit("deepvit", "DeepViT", "transformer.layers.1.0.norm"),
    _vit("cait", "CaiT", ("patch_transformer", "patch_transformer.layers.1.1"), cls_depth=1),
    _vit("parallel_vit", "ViT", "transformer.layers.1.0.fns.1.norm"),
    _vit("vit_for_small_dataset", "ViT", (), ask={"refused": "no layer shows that they are the patches"}),
    _vit(
        "vit_for_small_dataset",
        "ViT",
        "transformer.layers.1.0.norm",
        ask={"arguments": {"target_layer": "transformer.layers.1.0.norm"}, "mixes": False},
        form=", named",
    ),
    _vit("vit_with_patch_dropout", "ViT", "transformer.layers.1.0.norm", patch_dropout=0.25),
    _vit(
        "vit_with_patch_merger",
        "ViT",
        "transformer.patch_merger.norm",
        patch_merge_layer=1,
        patch_merge_num_tokens=5,
        without=("pool",),
    ),
    # Registers stand after the patches: the layers that hold them are refused, with the function to write.
    _vit("simple_vit_with_register_tokens", "SimpleViT", ("transformer", "to_patch_embedding"), num_register_tokens=4),
    _vit(
        "simple_vit_with_register_tokens",
        "SimpleViT",
        (),
        ask={"arguments": {"target_layer": "transformer"}, "refused": "last 4 are not.*reshape_transform"},
        form=", named",
        num_register_tokens=4,
    ),
    _vit("simple_vit_with_qk_norm", "SimpleViT", "transformer"),
    _vit("simple_vit_with_fft", "SimpleViT", ("transformer", "to_patch_embedding"), freq_patch_size=8),
    _vit("learnable_memory_vit", "ViT", "transformer.layers.1.0.norm"),
    _vit(
        "cct",
        "CCT",
        ("classifier.norm",),
        (4, 4),
        without=("patch_size", "dim", "depth", "heads", "mlp_dim"),
        img_size=64,
        embedding_dim=32,
        n_conv_layers=2,
        kernel_size=3,
        stride=2,
        padding=1,
        pooling_kernel_size=3,
        pooling_stride=2,
        pooling_padding=1,
        num_layers=2,
        num_heads=2,
        mlp_ratio=2.0,
        positional_embedding="learnable",
    ),
    _vit(
        "cvt",
        "CvT",
        ("layers", "layers.2"),
        (4, 4),
        without=("image_size", "patch_size", "dim", "depth", "heads", "mlp_dim"),
        s1_emb_dim=8,
        s1_depth=1,
        s2_emb_dim=16,
        s2_heads=2,
        s2_depth=1,
        s3_emb_dim=24,
        s3_heads=2,
        s3_depth=1,
    ),
    _vit("pit", "PiT", ("layers.2.layers.0.0.norm",), (8, 8), depth=(1, 1), heads=2),
    _vit(
        "twins_svt",
        "TwinsSVT",
        ("layers.3",),
        (2, 2),
        without=("image_size", "patch_size", "dim", "depth", "heads", "mlp_dim"),
        s1_emb_dim=8,
        s1_local_patch_size=4,
        s1_global_k=4,
        s2_emb_dim=16,
        s2_local_patch_size=4,
        s2_global_k=2,
        s3_emb_dim=16,
        s3_local_patch_size=2,
        s3_global_k=2,
        s3_depth=1,
        s4_emb_dim=24,
        s4_local_patch_size=2,
        s4_global_k=2,
        peg_kernel_size=3,
    ),
    _vit(
        "regionvit",
        "RegionViT",
        ("layers.3.2.layers.0.0.norm",),
        (2, 2),
        ask={"shape": (3, 64, 64)},
        without=("image_size", "patch_size", "heads", "mlp_dim"),
        dim=(16, 16, 32, 32),
        depth=(1, 1, 1, 1),
        window_size=2,
    ),
    _vit(
        "nest",
        "NesT",
        ("mlp_head.0",),
        (8, 8),
        ask={"shape": (3, 64, 64)},
        without=("depth", "mlp_dim"),
        num_hierarchies=2,
        block_repeats=(1, 1),
        patch_size=4,
    ),
    _vit(
        "mobile_vit",
        "MobileViT",
        ("to_logits.0",),
        (8, 8),
        ask={"shape": (3, 256, 256)},
        without=("patch_size", "dim", "depth", "heads", "mlp_dim"),
        image_size=(256, 256),
        dims=[16, 24, 32],
        channels=[8, 8, 12, 12, 16, 16, 24, 24, 32, 32, 48],
    ),
    _vit("xcit", "XCiT", ("final_norm",), cls_depth=1, local_patch_kernel_size=3),
    _vit(
        "scalable_vit",
        "ScalableViT",
        ("layers.1", "layers.1.0"),
        (8, 8),
        without=("image_size", "patch_size", "mlp_dim"),
        dim=8,
        heads=(1, 2),
        depth=(1, 1),
        ssa_dim_key=8,
        reduction_factor=(2, 1),
        window_size=(4, 4),
    ),
    _vit("simple_vit_with_value_residual", "SimpleViT", "transformer"),
    _vit(
        "vit_3d",
        "ViT",
        (),
        ask={"shape": (3, 4, 64, 64), "refused": "reshape_transform"},
        without=("patch_size",),
        image_patch_size=16,
        **VIDEO,
    ),
    _vit(
        "simple_vit_3d",
        "SimpleViT",
        "to_patch_embedding",  # no shape tells how 32 tokens lie in time and space, and the user is told
        (2, 4, 4),
        ask={"shape": (3, 4, 64, 64), "warned": "cuts the image into patches before all attention"},
        without=("patch_size",),
        image_patch_size=16,
        **VIDEO,
    ),
    _vit(
        "vit_1d",
        "ViT",
        (),
        ask={"shape": (3, 256), "refused": "reshape_transform"},
        without=("image_size",),
        seq_len=256,
        patch_size=16,
    ),
    _vit(
        "vivit",
        "ViViT",
        (),
        ask={"shape": (3, 4, 64, 64), "refused": "frames|map"},
        without=("patch_size", "depth"),
        image_patch_size=16,
        spatial_depth=1,
        temporal_depth=1,
        **VIDEO,
    ),
]
