"""About fifteen families of the coverage table, small: eager, lowered and every format against each other."""

import pytest

from benchmarks.coverage_row import FORMATS, measure_layer
from benchmarks.networks import Network, build

TINY_SWIN = {"img_size": 32, "depths": (2, 1), "num_heads": (2, 4), "embed_dim": 32, "window_size": 4}
# Network, and where: "early" differentiates the most, "last" is what most people ask for.
ROWS = [
    (Network("torchvision", "resnet18", "layer2"), "early"),
    (Network("torchvision", "squeezenet1_1", "features.5"), "last"),
    (Network("torchvision", "mobilenet_v3_small", "features.9"), "last"),
    (Network("torchvision", "shufflenet_v2_x0_5", "stage4"), "last"),
    (Network("segmentation", "lraspp_mobilenet_v3_large", "backbone.13"), "last"),
    (Network("timm", "densenet121", "features.denseblock2", options={"block_config": (1, 1, 1, 1)}), "early"),
    (Network("timm", "test_efficientnet", "blocks.1"), "early"),
    (Network("timm", "test_convnext", "stages.1", options={"depths": (1, 1, 1, 1)}), "early"),
    (Network("timm", "test_byobnet", "stages.1"), "early"),
    (Network("timm", "test_nfnet", "stages.1"), "early"),
    (Network("timm", "test_mambaout", "stages.1", options={"depths": (1, 1, 1, 1)}), "early"),
    (Network("timm", "test_vit", "blocks.0.norm1", options={"img_size": 64, "depth": 2}), "early"),
    (Network("timm", "repvgg_a0", "stages.2"), "last"),
    (Network("timm", "ghostnet_050", "blocks.8"), "last"),
    (Network("timm", "levit_128s", "stages.0", 128, {"img_size": 128, "depth": (1, 1, 1)}, calibrated=True), "last"),
    (Network("timm", "swin_tiny_patch4_window7_224", "layers.0", 32, TINY_SWIN), "early"),
]


# Attention with random weights mixes all tokens of LeViT's last grid.
@pytest.mark.filterwarnings("ignore::explainable_model.errors.DoubtfulPlacesWarning")
@pytest.mark.parametrize(("network", "where"), ROWS, ids=lambda value: getattr(value, "key", value))
def test_row(network: Network, where: str) -> None:
    row = measure_layer(network, build(network), where)
    assert row["reason"] == ""
    assert row["passed"]
    assert row["dynamic_batch"]
    assert row["map"] > 0
    assert set(row["formats"]) == set(FORMATS)
