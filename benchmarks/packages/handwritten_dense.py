"""Networks by hand whose output is a map, a table of boxes or an image."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.packages.case import Case
from benchmarks.packages.handwritten_classifiers import conv_bn
from explainable_model import targets


class UNet(nn.Module):
    """Two levels down, two up, with shortcuts that are concatenated."""

    def __init__(self, classes: int = 4, end: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.inc, self.down1, self.down2 = conv_bn(3, 8), conv_bn(8, 12, 2), conv_bn(12, 16, 2)
        self.up1, self.conv1 = nn.ConvTranspose2d(16, 12, 2, 2), conv_bn(24, 12)
        self.up2, self.conv2 = nn.ConvTranspose2d(12, 8, 2, 2), conv_bn(16, 8)
        self.outc, self.end = nn.Conv2d(8, classes, 1), end

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x = self.conv1(torch.cat([self.up1(self.down2(x2)), x2], 1))
        x = self.outc(self.conv2(torch.cat([self.up2(x), x1], 1)))
        return x if self.end is None else self.end(x)


class FcnSmall(nn.Module):
    """Class maps at a quarter of the image's size."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(conv_bn(3, 8, 2), conv_bn(8, 16, 2)), nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class Depth(nn.Module):
    """One value per pixel, (N, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(conv_bn(3, 8, 2), conv_bn(8, 16)), nn.Conv2d(16, 1, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(self.head(self.body(x)), scale_factor=2, mode="bilinear").squeeze(1)


class SuperResolution(nn.Module):
    """An image of twice the size."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.shuffle = nn.Sequential(conv_bn(3, 16), nn.Conv2d(16, 12, 3, 1, 1)), nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.shuffle(self.body(x))


class PatchCritic(nn.Module):
    """A discriminator of a GAN: one logit for each patch."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 16, 4, 2, 1), nn.LeakyReLU(0.2)
        )
        self.head = nn.Conv2d(16, 1, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class GridDetector(nn.Module):
    """YOLO of the first version: (N, 7, 7, 30)."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.fc = nn.Sequential(conv_bn(3, 8, 4), conv_bn(8, 8, 2)), nn.Linear(8 * 64, 7 * 7 * 30)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x).flatten(1)).view(-1, 7, 7, 30)


class DecodedDetector(nn.Module):
    """Boxes and classes (N, 9, anchors), decoded in place."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(conv_bn(3, 8, 4), conv_bn(8, 16, 2)), nn.Conv2d(16, 9, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = self.head(self.body(x)).flatten(2)
        out[:, 4:] = out[:, 4:].sigmoid()
        out[:, :4] *= 8.0
        return out


class QueryDetector(nn.Module):
    """Queries attend to the encoded image: classes and boxes of each."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.backbone, self.project = nn.Sequential(conv_bn(3, 8, 4), conv_bn(8, 16, 2)), nn.Conv2d(16, width, 1)
        self.transformer = nn.Transformer(width, 2, 1, 1, 32, batch_first=True)
        self.queries, self.classes, self.boxes = nn.Embedding(9, width), nn.Linear(width, 5), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        tokens = self.project(self.backbone(x)).flatten(2).transpose(1, 2)
        found = self.transformer(tokens, self.queries.weight.expand(len(x), -1, -1))
        return {"pred_logits": self.classes(found), "pred_boxes": self.boxes(found).sigmoid()}


def first_query(output: Any, class_idx: Tensor) -> Tensor:
    """The score of the class in the first query."""
    return output["pred_logits"][:, 0].gather(1, class_idx[:, None])[:, 0]


def strongest_anchor(output: Any, class_idx: Tensor) -> Tensor:
    """The largest score of the first class over all anchors."""
    return output[:, 4].amax(1)


def _case(name: str, build: Callable[[], nn.Module], *rest: Any, **options: Any) -> Case:
    return Case(f"hand-written:{name}", build, *rest, **options)


SUMMED = "one of 4 classes, summed over all pixels"
CASES = [
    _case("u-net", UNet, "conv2", (64, 64), SUMMED),
    _case(
        "binary u-net, own pixels",
        partial(UNet, 1),
        "conv2",
        (64, 64),
        "the logit over the pixels that are foreground",
        arguments={"target": targets.Segmentation("own")},
        read_scores=lambda out: (out * (out > 0)).flatten(1).sum(1, keepdim=True),
    ),
    _case(
        "u-net with a sigmoid, threshold forgotten",
        partial(UNet, 1, torch.sigmoid),
        refused=r"threshold=0\.5",
        arguments={"target": targets.Segmentation("own")},
    ),
    _case("class maps of lower resolution", FcnSmall, refused=r"target=Segmentation\(\)"),
    _case(
        "class maps of lower resolution, named",
        FcnSmall,
        "body",
        (16, 16),
        SUMMED,
        arguments={"target": targets.Segmentation()},
    ),
    _case("depth", Depth, refused="one value per pixel, such as a depth"),
    _case("super-resolution", SuperResolution, refused="target="),
    _case("critic of patches", PatchCritic, refused=r"target=Segmentation\(\)"),
    _case("grid of boxes", GridDetector, refused="features, or of classes|boxes, queries or tokens|a table of boxes"),
    _case("decoded boxes", DecodedDetector, refused="boxes, queries or tokens"),
    _case(
        "decoded boxes, strongest anchor",
        DecodedDetector,
        "body",
        (8, 8),
        "the largest score of class 0",
        kind="scores",
        arguments={"target": strongest_anchor},
    ),
    _case("queries", QueryDetector, refused="scores belong to boxes"),
    _case(
        "queries, first query",
        QueryDetector,
        ("transformer.encoder.layers.0", "transformer.encoder"),
        (8, 8),
        "class 0 of the first query",
        kind="scores",
        arguments={"target": first_query},
    ),
]
