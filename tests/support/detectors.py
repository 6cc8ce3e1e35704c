"""Small detectors with random weights, whose scores differ enough that no rounding decides about a box."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.ssd import SSDHead
from torchvision.ops import MultiScaleRoIAlign

CHANNELS = 32  # the heads of FCOS have group norm of 32 groups
CLASSES = 4
SIZE = (80, 96)


class TinyPyramid(nn.Module):
    """Three levels of 32 channels, with strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.out_channels = CHANNELS
        self.stem = nn.Conv2d(3, CHANNELS, 7, stride=4, padding=3)
        self.down = nn.ModuleList(nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1) for _ in range(3))

    def forward(self, image: Tensor) -> "OrderedDict[str, Tensor]":
        levels = OrderedDict()
        value = self.stem(image).relu()
        for number, layer in enumerate(self.down):
            value = layer(value).relu()
            levels[str(number)] = value
        return levels


def _anchors(ratios: tuple[float, ...]) -> AnchorGenerator:
    return AnchorGenerator(((12,), (24,), (48,)), (ratios,) * 3)


def randomize(network: nn.Module, scale: float, seed: int = 0) -> nn.Module:
    """Draw weights that keep the size of what passes through, and heads whose logits have this scale."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.1)
    for name, module in network.named_modules():
        heads = name.startswith("head.") and isinstance(module, nn.Conv2d) and "module_list" in name
        if heads or name.endswith(("cls_logits", "cls_score", "bbox_ctrness", "bbox_reg", "bbox_pred")):
            nn.init.normal_(module.weight, 0, scale / module.weight[0].numel() ** 0.5)  # type: ignore[operator]
    return network.eval()


def tiny_retinanet(**options: Any) -> nn.Module:
    """RetinaNet with two anchors at each place."""
    network = detection.RetinaNet(
        TinyPyramid(), CLASSES, anchor_generator=_anchors((0.5, 2.0)), min_size=SIZE[0], max_size=SIZE[1], **options
    )
    return randomize(network, 0.5)


def one_class_retinanet() -> nn.Module:
    """RetinaNet for objects of one class."""
    network = detection.RetinaNet(
        TinyPyramid(), 1, anchor_generator=_anchors((1.0,)), min_size=SIZE[0], max_size=SIZE[1]
    )
    return randomize(network, 0.5)


def tiny_fcos(**options: Any) -> nn.Module:
    """FCOS of three levels."""
    network = detection.FCOS(
        TinyPyramid(), CLASSES, anchor_generator=_anchors((1.0,)), min_size=SIZE[0], max_size=SIZE[1], **options
    )
    return randomize(network, 1.0)


def tiny_ssd(**options: Any) -> nn.Module:
    """SSD of three levels, with four and six boxes at each place."""
    boxes = DefaultBoxGenerator([[2], [2, 3], [2]], scales=[0.1, 0.25, 0.5, 0.8])
    head = SSDHead([CHANNELS] * 3, boxes.num_anchors_per_location(), CLASSES)
    network = detection.ssd.SSD(TinyPyramid(), boxes, SIZE[::-1], CLASSES, head=head, **options)
    return randomize(network, 1.5)


def tiny_faster_rcnn(**options: Any) -> nn.Module:
    """Faster R-CNN of three levels."""
    network = detection.FasterRCNN(
        TinyPyramid(),
        rpn_anchor_generator=_anchors((0.5, 2.0)),
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], 5, 2, canonical_scale=32),
        box_head=TwoMLPHead(CHANNELS * 25, 32),
        box_predictor=FastRCNNPredictor(32, CLASSES),
        min_size=SIZE[0],
        max_size=SIZE[1],
        rpn_pre_nms_top_n_test=60,
        rpn_post_nms_top_n_test=80,
        **options,
    )
    return randomize(network, 0.5)


TORCHVISION: Mapping[str, Callable[..., Any]] = {
    "retinanet": tiny_retinanet,
    "fcos": tiny_fcos,
    "ssd": tiny_ssd,
    "faster_rcnn": tiny_faster_rcnn,
}
"""By the name of the family."""


def photos(batch: int, size: tuple[int, int] = SIZE, seed: int = 0) -> Tensor:
    """``(N, 3, *size)``: smooth images in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, 8, 9, generator=generator)
    return nn.functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)


class ColoredCells(nn.Module):
    """Finds red and green squares of 16 pixels in a grid; its answers can be computed by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.colors = nn.Conv2d(3, 2, 1, bias=False)
        weights = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]])  # red, green
        self.colors.weight = nn.Parameter(weights.reshape(2, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(self.colors(image).relu(), 16)


def colored_candidates(network: nn.Module, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``logit = 8 * mean color - 4`` of each cell, so that a cell of half a color has a score of one half."""
    grid = network(image)
    scores, labels = (8 * grid - 4).flatten(2).max(1)
    rows, columns = torch.meshgrid(
        torch.arange(grid.shape[2]) * 16.0, torch.arange(grid.shape[3]) * 16.0, indexing="ij"
    )
    corners = torch.stack([columns, rows, columns + 16, rows + 16], -1).reshape(1, -1, 4)
    return scores, corners.expand(image.shape[0], -1, -1), labels
