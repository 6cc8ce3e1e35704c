"""Tiny seeded networks: every trait that has broken an explainer, small enough to run in milliseconds."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from explainable_model import FORMATS

IMAGE_SIZE = 32
QUICK_FORMATS = [fmt for fmt in FORMATS.values() if fmt.quick]


def seeded(network: nn.Module, seed: int = 0) -> nn.Module:
    """Non-trivial weights and statistics everywhere, so that no map is degenerate."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan_in**0.5)
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.weight.copy_(torch.rand(module.weight.shape, generator=generator) + 0.5)
                module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator) * 0.1)
                module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) * 0.5 + 0.75)
            elif isinstance(module, nn.LayerNorm):
                module.weight.copy_(torch.rand(module.weight.shape, generator=generator) + 0.5)
    return network.eval()


class ResidualBlock(nn.Module):
    """Two convolutions, a strided shortcut, ``+=`` and an in-place ReLU after the sum."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))

    def forward(self, activations: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(activations)))))
        out += self.shortcut(activations)
        return self.relu(out)


class TinyResNet(nn.Module):
    """In-place operations, max pooling, shortcuts."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = ResidualBlock(8, 12, 2)
        self.layer2 = ResidualBlock(12, 16, 2)
        self.fc = nn.Linear(16, classes)

    def forward(self, image: Tensor) -> Tensor:
        activations = self.layer2(self.layer1(self.pool(self.stem(image))))
        return self.fc(functional.adaptive_avg_pool2d(activations, 1).flatten(1))


class SmallNet(nn.Module):
    """A strided stem with a bias, a residual block, pooling and a linear classifier: the quickest of all."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.block = ResidualBlock(6, 10, 2)
        self.fc = nn.Linear(10, classes)

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(self.block(self.stem(image)).mean((2, 3)))


class TinyMobileNet(nn.Module):
    """Depthwise convolution, hard swish, squeeze and excitation."""

    def __init__(self, classes: int = 6) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish())
        self.depthwise = nn.Conv2d(8, 8, 5, 2, 2, groups=8, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.squeeze = nn.Conv2d(8, 4, 1)
        self.excite = nn.Conv2d(4, 8, 1)
        self.project = nn.Conv2d(8, 12, 1)
        self.head = nn.Sequential(nn.Linear(12, 16), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(16, classes))

    def forward(self, image: Tensor) -> Tensor:
        activations = functional.hardswish(self.norm(self.depthwise(self.stem(image))))
        gate = self.excite(functional.relu(self.squeeze(activations.mean((2, 3), keepdim=True))))
        activations = self.project(activations * functional.hardsigmoid(gate))
        return self.head(activations.mean((2, 3)))


class TransformerBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.heads = heads

    def forward(self, tokens: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        qkv = self.qkv(self.norm1(tokens)).reshape(batch, count, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.proj(mixed.transpose(1, 2).reshape(batch, count, width))
        return tokens + self.mlp(self.norm2(tokens))


class TinyViT(nn.Module):
    """A class token and patches of 8 x 8, so 16 tokens in a grid of 4 x 4."""

    def __init__(self, classes: int = 4, width: int = 16) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 8, 8)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList([TransformerBlock(width, 2) for _ in range(2)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.patch(image).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(image.shape[0], -1, -1), tokens], 1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(self.norm(tokens)[:, 0])


class XrayBlock(nn.Module):
    """Two 3 x 3 convolutions and a strided 1 x 1 shortcut, each with batch norm; ReLU after the sum."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, 2, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Conv2d(channels_in, channels, 1, 2)
        self.bn_shortcut = nn.BatchNorm2d(channels)

    def forward(self, activations: Tensor) -> Tensor:
        out = functional.relu(self.bn1(self.conv1(activations)))
        out = self.bn2(self.conv2(out))
        return functional.relu(out + self.bn_shortcut(self.shortcut(activations)))


class XrayClassifier(nn.Module):
    """The tutorial's pneumonia classifier: five residual blocks, an 8 x 8 convolution to one channel, a sigmoid.

    ``(N, 3, 256, 256)`` -> probability ``(N, 1, 1, 1)``. ``width`` 64 is the tutorial's; smaller ones test faster.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        channels = [3, width, 2 * width, 4 * width, 8 * width, 16 * width]
        self.blocks = nn.Sequential(*(XrayBlock(a, b) for a, b in pairwise(channels)))
        self.classify = nn.Conv2d(channels[-1], 1, 8, bias=False)
        self.dropout = nn.Dropout(0.5)

    def forward(self, image: Tensor) -> Tensor:
        return torch.sigmoid(self.dropout(self.classify(self.blocks(image))))


class TinySegmenter(nn.Module):
    """A class map at image size in a dict, as torchvision's segmentation networks return it."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), ResidualBlock(8, 12, 2))
        self.classifier = nn.Conv2d(12, classes, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        scores = self.classifier(self.backbone(image))
        return {"out": functional.interpolate(scores, size=image.shape[-2:], mode="bilinear", align_corners=False)}


@dataclass
class Case:
    """A network, its last and an earlier layer with a spatial map, and the size of its images."""

    network: type[nn.Module]
    last: str
    early: str
    size: tuple[int, ...] = (3, IMAGE_SIZE, IMAGE_SIZE)


CASES = {
    "resnet": Case(TinyResNet, "layer2", "stem"),
    "mobilenet": Case(TinyMobileNet, "project", "stem"),
    "vit": Case(TinyViT, "blocks.1.norm1", "blocks.0.norm1"),
    "segmenter": Case(TinySegmenter, "backbone", "backbone.1"),
}


def images(batch: int, size: tuple[int, ...] = (3, IMAGE_SIZE, IMAGE_SIZE), seed: int = 0) -> Tensor:
    """Seeded noise, float32."""
    return torch.randn(batch, *size, generator=torch.Generator().manual_seed(seed))
