"""The networks that are measured: one row per family, each with an early layer beside the automatic last one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

SMALL = 64  # most convolutional networks take any size; small images keep a full run affordable


@dataclass(frozen=True)
class Network:
    """A network to build with random weights.

    Attributes:
        library: ``torchvision``, ``segmentation`` (torchvision's) or ``timm``.
        name: the library's name for it.
        early: a layer well before the last.
        size: height and width of its images.
        options: for the builder.
        calibrated: measure the statistics of batch norms instead of drawing them; without that, attention over signals
            that are too small makes all tokens of some networks the same.
        openvino: compare in OpenVINO as well, which takes a minute and is not always installed.
    """

    library: str
    name: str
    early: str
    size: int = SMALL
    options: Mapping[str, Any] = field(default_factory=dict)
    calibrated: bool = False
    openvino: bool = False

    @property
    def key(self) -> str:
        return f"{self.library}:{self.name}"


def _tv(name: str, early: str, size: int = SMALL, openvino: bool = False, **options: Any) -> Network:
    return Network("torchvision", name, early, size, options, openvino=openvino)


def _seg(name: str, early: str) -> Network:
    return Network("segmentation", name, early)


def _timm(
    name: str, early: str, size: int = SMALL, calibrated: bool = False, openvino: bool = False, **options: Any
) -> Network:
    return Network("timm", name, early, size, options, calibrated, openvino)


NETWORKS = [
    _tv("alexnet", "features.3", 96),
    _tv("vgg11", "features.10"),
    _tv("vgg11_bn", "features.10"),
    _tv("vgg16", "features.16"),
    _tv("resnet18", "layer2"),
    _tv("resnet50", "layer1"),
    _tv("resnext50_32x4d", "layer2"),
    _tv("wide_resnet50_2", "layer3"),
    _tv("densenet121", "features.denseblock2"),
    _tv("squeezenet1_0", "features.5"),
    _tv("squeezenet1_1", "features.5"),
    _tv("googlenet", "inception3a", init_weights=False),
    _tv("inception_v3", "Mixed_5d", 128, init_weights=False),
    _tv("mobilenet_v2", "features.6"),
    _tv("mobilenet_v3_large", "features.6"),
    _tv("mobilenet_v3_small", "features.3"),
    _tv("mnasnet0_5", "layers.9"),
    _tv("shufflenet_v2_x0_5", "stage2"),
    _tv("efficientnet_b0", "features.3"),
    _tv("efficientnet_v2_s", "features.3"),
    _tv("regnet_y_400mf", "trunk_output.block2"),
    _tv("regnet_x_400mf", "trunk_output.block2"),
    _tv("convnext_tiny", "features.3"),
    _tv("vit_b_16", "encoder.layers.encoder_layer_6.ln_1", openvino=True, image_size=SMALL),
    _tv("vit_b_32", "encoder.layers.encoder_layer_6.ln_1", image_size=SMALL),
    _tv("swin_t", "features.3", openvino=True),
    _tv("swin_v2_t", "features.3"),
    _tv("maxvit_t", "blocks.1", 224),
    _seg("fcn_resnet50", "backbone.layer2"),
    _seg("deeplabv3_resnet50", "backbone.layer2"),
    _seg("deeplabv3_mobilenet_v3_large", "backbone.6"),
    _seg("lraspp_mobilenet_v3_large", "backbone.6"),
    # timm: one or more of every file of architectures. Deep ones with fewer blocks, where their builder takes that.
    _timm("beit_base_patch16_224", "blocks.1.norm1", img_size=SMALL, depth=3),
    _timm("botnet26t_256", "stages.1", img_size=SMALL),
    _timm("caformer_s18", "stages.1"),
    _timm("cait_xxs24_224", "blocks.1", img_size=SMALL, depth=3),
    _timm("coat_tiny", "serial_blocks2.1", img_size=SMALL, parallel_depth=2),
    _timm("coatnet_pico_rw_224", "stages.1", img_size=SMALL),
    _timm("coatnext_nano_rw_224", "stages.1", img_size=SMALL),
    _timm("convformer_s18", "stages.1"),
    _timm("convit_tiny", "blocks.1", img_size=SMALL, depth=4, local_up_to_layer=3),
    _timm("convmixer_768_32", "blocks.7"),
    _timm("convnext_atto", "stages.1"),
    _timm("convnextv2_atto", "stages.1"),
    _timm("cpubone_nano", "stages.1"),
    _timm("crossvit_tiny_240", "blocks.0.blocks.0.0.norm1", 240),
    _timm("csatv2", "stages.1", 128),
    _timm("cspdarknet53", "stages.2"),
    _timm("davit_tiny", "stages.1", depths=(1, 1, 2, 1)),
    _timm("deit3_small_patch16_224", "blocks.1.norm1", img_size=SMALL, depth=4),
    _timm("deit_tiny_distilled_patch16_224", "blocks.1.norm1", openvino=True, img_size=SMALL, depth=4),
    _timm("densenet121", "features.denseblock2", block_config=(2, 2, 3, 2)),
    _timm("dla34", "level3"),
    _timm("dm_nfnet_f0", "stages.1"),
    _timm("dpn68", "features.conv3_1"),
    _timm("edgenext_xx_small", "stages.1", depths=(1, 1, 2, 1)),
    _timm("efficientformer_l1", "stages.1", 224, depths=(2, 1, 2, 3)),
    _timm("efficientformerv2_s0", "stages.1", 224, depths=(1, 1, 2, 2)),
    _timm("efficientvim_m1", "stages.0.blocks.0", 128),
    _timm("efficientvit_b0", "stages.1"),
    _timm("efficientvit_m0", "stages.0", 224),
    _timm("ese_vovnet19b_dw", "stages.1"),
    _timm("eva02_tiny_patch14_224", "blocks.1.norm1", 56, img_size=56, depth=3),
    _timm("fasternet_t0", "stages.1"),
    _timm("fastvit_t8", "stages.1"),
    _timm("focalnet_tiny_srf", "layers.1"),
    _timm("gcvit_xxtiny", "stages.1", 224),
    _timm("gernet_s", "stages.1"),
    _timm("ghostnet_050", "blocks.4"),
    _timm("gmlp_s16_224", "blocks.9", img_size=SMALL),
    _timm("halonet26t", "stages.1", 256),
    _timm("hgnetv2_b0", "stages.1"),
    _timm("hiera_tiny_224", "blocks.1", 224, stages=(1, 1, 2, 1)),
    _timm("hrnet_w18_small", "layer1"),
    _timm("iformer_t", "stages.1"),
    _timm("inception_next_tiny", "stages.1", depths=(1, 1, 2, 1)),
    _timm("inception_resnet_v2", "mixed_5b", 128),
    _timm("inception_v4", "features.7", 128),
    _timm("jx_nest_tiny", "levels.0", 224),
    _timm("lambda_resnet26t", "stages.1"),
    _timm("levit_128s", "stages.0", 128, True, img_size=128, depth=(1, 1, 1)),
    _timm("lowformer_b0", "stages.1"),
    _timm("mambaout_femto", "stages.1", depths=(1, 1, 2, 1)),
    _timm("maxvit_rmlp_pico_rw_256", "stages.1", img_size=SMALL),
    _timm("maxxvit_rmlp_nano_rw_256", "stages.1", img_size=SMALL),
    _timm("mixer_s16_224", "blocks.3", img_size=SMALL),
    _timm("mobilenetv3_small_050", "blocks.2"),
    _timm("mobilenetv4_conv_small", "blocks.1"),
    _timm("mobilenetv4_hybrid_medium", "blocks.1"),
    _timm("mobileone_s0", "stages.1"),
    _timm("mobilevit_xxs", "stages.2", openvino=True),
    _timm("mobilevitv2_050", "stages.2", openvino=True),
    _timm("mvitv2_tiny", "stages.1", img_size=SMALL),
    _timm("naflexvit_base_patch16_gap", "blocks.0", depth=2),
    _timm("nextvit_small", "stages.1"),
    _timm("nf_resnet26", "stages.1"),
    _timm("pit_ti_224", "transformers.1.blocks.1.norm1", img_size=SMALL, depth=(1, 2, 1)),
    _timm("poolformer_s12", "stages.1"),
    _timm("poolformerv2_s12", "stages.1"),
    _timm("pvt_v2_b0", "stages.1"),
    _timm("rdnet_tiny", "dense_stages.1"),
    _timm("regnety_002", "s2"),
    _timm("regnetz_b16", "stages.1"),
    _timm("repvgg_a0", "stages.1"),
    _timm("repvit_m0_9", "stages.1"),
    _timm("res2net50_26w_4s", "layer2", layers=(1, 1, 1, 1)),
    _timm("resmlp_12_224", "blocks.3", img_size=SMALL),
    _timm("resnest14d", "layer2"),
    _timm("resnetv2_50", "stages.1", layers=(1, 1, 1, 1)),
    _timm("resnetv2_50x1_bit", "stages.1"),
    _timm("rexnet_100", "features.5"),
    _timm("samvit_base_patch16_224", "blocks.0", img_size=SMALL, depth=3, global_attn_indexes=(1,), window_size=3),
    _timm("selecsls42", "features.1"),
    _timm("sequencer2d_s", "stages.1", img_size=SMALL, layers=(1, 1, 1, 1)),
    _timm("seresnet50", "layer2", layers=(1, 1, 1, 1)),
    _timm("shvit_s1", "stages.0", 224),
    _timm("skresnet18", "layer2"),
    _timm("starnet_s1", "stages.1", depths=(1, 1, 2, 1)),
    _timm("swiftformer_xs", "stages.1"),
    _timm("swin_tiny_patch4_window7_224", "layers.1", img_size=SMALL, depths=(2, 2, 2, 2), window_size=4),
    _timm("swinv2_cr_tiny_224", "stages.1", img_size=SMALL, depths=(2, 2, 2, 2), window_size=4),
    _timm("swinv2_tiny_window8_256", "layers.1", img_size=SMALL, depths=(2, 2, 2, 2), window_size=4),
    _timm("tf_efficientnet_lite0", "blocks.2"),
    _timm("tiny_vit_5m_224", "stages.1", 224, depths=(1, 1, 2, 1)),
    _timm("tnt_s_patch16_224", "blocks.1.norm_out", img_size=SMALL, depth=3),
    _timm("tresnet_m", "body.layer2", layers=(1, 1, 2, 1)),
    _timm("twins_svt_small", "blocks.1.0", depths=(1, 1, 2, 1)),
    _timm("visformer_tiny", "stage1", img_size=SMALL, depth=(2, 1, 1)),
    _timm("vit_base_patch16_siglip_224", "blocks.1.norm1", img_size=SMALL, depth=3),
    _timm("vit_relpos_small_patch16_224", "blocks.1.norm1", img_size=SMALL, depth=3),
    _timm("vit_small_patch14_reg4_dinov2", "blocks.1.norm1", 56, img_size=56, depth=3),
    _timm("vit_tiny_patch16_224", "blocks.1.norm1", img_size=SMALL, depth=4),
    _timm("vitamin_small_224", "blocks.5.norm1", img_size=SMALL),
    _timm("volo_d1_224", "network.0", img_size=SMALL),
    _timm("xception41p", "blocks.3"),
    _timm("xcit_nano_12_p16_224", "blocks.1", depth=3),
    # More members of those families, and of families like them.
    _timm("bat_resnext26ts", "stages.1", 256),
    _timm("beitv2_base_patch16_224", "blocks.1.norm1", img_size=SMALL, depth=3),
    _timm("coat_lite_tiny", "serial_blocks2.1", img_size=SMALL),
    _timm("cs3darknet_s", "stages.1"),
    _timm("cspnext_tiny", "stages.1"),
    _timm("cspresnext50", "stages.1"),
    _timm("deepseek_vit_412m", "encoder.blocks.0", 56, depth=2),
    _timm("eca_nfnet_l0", "stages.1"),
    _timm("ecaresnet26t", "layer2"),
    _timm("efficientnet_b0_gn", "blocks.2"),
    _timm("efficientvit_l1", "stages.1"),
    _timm("fastvit_sa12", "stages.1"),
    _timm("fbnetv3_b", "blocks.2"),
    _timm("gcresnext26ts", "stages.1"),
    _timm("gemma4_vit_167m", "encoder.blocks.0", depth=2),
    _timm("ghostnetv2_100", "blocks.4"),
    _timm("ghostnetv3_100", "blocks.4"),
    _timm("hardcorenas_a", "blocks.2"),
    _timm("hgnet_tiny", "stages.1"),
    _timm("hieradet_small", "blocks.2", 224),
    _timm("inception_v3", "Mixed_5d", 128),
    _timm("lcnet_050", "blocks.2"),
    _timm("lcnetv2_small", "stages.1"),
    _timm("legacy_seresnet18", "layer2"),
    _timm("legacy_xception", "block3", 96),
    _timm("mixnet_s", "blocks.2"),
    _timm("mobilenetv4_conv_aa_medium", "blocks.1"),
    _timm("mobilenetv5_base", "blocks.1"),
    _timm("nasnetalarge", "cell_5", 96),
    _timm("nf_regnet_b0", "stages.1"),
    _timm("pnasnet5large", "cell_5", 96),
    _timm("qwen3_vit_88m", "encoder.blocks.0", depth=2),
    _timm("regnetv_040", "s2"),
    _timm("repghostnet_050", "blocks.4"),
    _timm("resnet50_gn", "layer2", layers=(1, 1, 1, 1)),
    _timm("resnetblur50", "layer2", layers=(1, 1, 1, 1)),
    _timm("resnetrs50", "layer2", layers=(1, 1, 1, 1)),
    _timm("semnasnet_075", "blocks.2"),
    _timm("tf_efficientnet_cc_b0_4e", "blocks.2"),
    _timm("tinynet_e", "blocks.2"),
    _timm("twins_pcpvt_small", "blocks.1.0", img_size=SMALL, depths=(1, 1, 2, 1)),
    _timm("vgg11_bn", "features.10"),
    _timm("vit_little_patch16_reg4_gap_256", "blocks.1.norm1", img_size=SMALL, depth=3),
    _timm("vit_small_patch16_dinov3", "blocks.1.norm1", img_size=SMALL, depth=3),
    _timm("vit_small_r26_s32_224", "patch_embed.backbone.stages.1", img_size=SMALL, depth=2),
    _timm("vit_srelpos_small_patch16_224", "blocks.1.norm1", img_size=SMALL, depth=3),
]


def build(network: Network) -> nn.Module:
    """Build the network with seeded random weights, and non-trivial statistics, scales and zero-initialized heads."""
    torch.manual_seed(0)
    if network.library == "timm":
        import timm

        model = timm.create_model(network.name, pretrained=False, **network.options)
    else:
        import torchvision

        extra = {"weights_backbone": None} if network.library == "segmentation" else {}
        model = torchvision.models.get_model(network.name, weights=None, **extra, **network.options)
    enliven(model)
    if network.calibrated:
        _calibrate(model, network.size)
    built: nn.Module = model.eval()
    return built


def enliven(model: nn.Module) -> None:
    """Move every weight off its neutral value, where maps are zero, or agree whatever the graph does."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(getattr(module, "running_mean", None), torch.Tensor):
                module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator) * 0.1)
                module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) * 0.5 + 0.75)
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and parameter.abs().max() == 0:
                parameter.normal_(0, 0.05, generator=generator)
            if parameter.ndim <= 1 or "gamma" in name or "layer_scale" in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


def _calibrate(model: nn.Module, size: int) -> None:
    """Set the statistics of batch norm to those of a batch of noise."""
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.randn(16, 3, size, size, generator=torch.Generator().manual_seed(5)))
