"""Classifiers by hand with unusual ways from the map to the classes."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.packages.handwritten_classifiers import classifier, conv_bn


class Bilinear(nn.Module):
    """Outer products of the features at each position, signed square root, normalized."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.fc = nn.Sequential(conv_bn(3, 8, 2), conv_bn(8, 12, 2)), nn.Linear(144, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x).flatten(2)
        pooled = (x @ x.transpose(1, 2) / x.shape[2]).flatten(1)
        return self.fc(functional.normalize(torch.sign(pooled) * torch.sqrt(pooled.abs() + 1e-5)))


class NetVlad(nn.Module):
    """Soft assignment of the features to clusters."""

    def __init__(self, clusters: int = 6, width: int = 12) -> None:
        super().__init__()
        self.body, self.assign = nn.Sequential(conv_bn(3, 8, 2), conv_bn(8, width, 2)), nn.Conv2d(width, clusters, 1)
        self.centers, self.fc = nn.Parameter(torch.rand(clusters, width)), nn.Linear(clusters * width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.normalize(self.body(x), dim=1)
        weights = self.assign(x).flatten(2).softmax(1)
        residual = x.flatten(2).unsqueeze(1) - self.centers[None, :, :, None]
        vlad = functional.normalize((residual * weights.unsqueeze(2)).sum(-1), dim=2)
        return self.fc(functional.normalize(vlad.flatten(1), dim=1))


class TwoScales(nn.Module):
    """One backbone sees the image at full and at half size."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.fc = nn.Sequential(conv_bn(3, 8, 2), conv_bn(8, 16, 2)), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        half = functional.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False)
        return self.fc(torch.cat([self.backbone(x).mean((2, 3)), self.backbone(half).mean((2, 3))], 1))


class Pyramid(nn.Module):
    """Three levels, merged from the top, each pooled for the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.c2, self.c3, self.c4 = conv_bn(3, 8, 4), conv_bn(8, 12, 2), conv_bn(12, 16, 2)
        self.l2, self.l3, self.l4 = nn.Conv2d(8, 8, 1), nn.Conv2d(12, 8, 1), nn.Conv2d(16, 8, 1)
        self.fc = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        c2 = self.c2(x)
        c3 = self.c3(c2)
        p4 = self.l4(self.c4(c3))
        p3 = self.l3(c3) + functional.interpolate(p4, scale_factor=2.0)
        p2 = self.l2(c2) + functional.interpolate(p3, scale_factor=2.0)
        return self.fc(torch.cat([p.mean((2, 3)) for p in (p2, p3, p4)], 1))


class Scaled(nn.Module):
    """Bytes in, normalization inside, generalized mean pooling, a cosine classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([123.0, 117.0, 104.0]).view(1, 3, 1, 1))
        self.body, self.power = nn.Sequential(conv_bn(3, 8, 2), conv_bn(8, 16, 2)), nn.Parameter(torch.tensor(3.0))
        self.weight = nn.Parameter(torch.randn(5, 16))

    def forward(self, x: Tensor) -> Tensor:
        x = self.body((x * 50 + 120 - self.mean) / 58.0)
        x = x.clamp(min=1e-6).pow(self.power).mean((2, 3)).pow(1 / self.power)
        return 16 * functional.linear(functional.normalize(x), functional.normalize(self.weight))


class FourierNet(nn.Module):
    """A filter in the frequency domain between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head, self.fc = conv_bn(3, 8, 4), conv_bn(8, 12), nn.Linear(12, 5)
        self.filter = nn.Parameter(torch.randn(8, 16, 9) * 0.3 + 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.fft.irfft2(torch.fft.rfft2(self.stem(x)) * self.filter, s=(16, 16))
        return self.fc(self.head(x).mean((2, 3)))


class Experts(nn.Module):
    """A gate mixes three branches."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate = conv_bn(3, 8, 2), nn.Linear(8, 3)
        self.experts, self.fc = nn.ModuleList([conv_bn(8, 12, 2) for _ in range(3)]), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate = self.gate(x.mean((2, 3))).softmax(1)
        mixed = sum(gate[:, i, None, None, None] * expert(x) for i, expert in enumerate(self.experts))
        return self.fc(torch.as_tensor(mixed).mean((2, 3)))


CASES = [
    classifier("bilinear", Bilinear, "body", 16),
    classifier("netvlad", NetVlad, ("assign", "body"), 16),
    classifier("two scales", TwoScales, "backbone", 16, arguments={"call": 0}),
    classifier("pyramid", Pyramid, "l4", 4),
    classifier("bytes and cosine", Scaled, "body", 16),
    classifier("fourier", FourierNet, "head", 16),
    classifier("experts", Experts, "experts.2", 16),
]
