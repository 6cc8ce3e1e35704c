"""Networks without in-place operations, on which the libraries must agree, and what some of them change."""

import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from tests.support.nets import images, seeded

LAYER = "features"
TOKENS = "encoder.layers.encoder_layer_1.ln_1"


class PlainNet(nn.Module):
    """Out-of-place ReLUs, no stride (so that maps are not resized), a head that is not pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU()
        )
        self.head = nn.Sequential(nn.Conv2d(8, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 5))

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(image))
        return logits


class StridedNet(nn.Module):
    """Maps of a quarter of the image's size; batch norm, a smooth hidden layer, average pooling."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(inplace))
        self.features = nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1), nn.BatchNorm2d(8))
        self.relu = nn.ReLU(inplace)
        self.head = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(8, 5)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.head(self.relu(self.features(self.stem(image)))))
        return logits


class PooledNet(nn.Module):
    """Average pooling and a linear classifier behind the layer, which CAM needs."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU())
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(6, 5)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.pool(self.features(image)))
        return logits


class NormedNet(nn.Module):
    """Convolutions, batch norms and ReLUs alone, with strides."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, 2, 1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3, 2, 1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
        )
        self.fc = nn.Linear(8, 5)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.features(image).mean((2, 3)))
        return logits


class VolumeNet(nn.Module):
    """Three spatial dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU())
        self.head = nn.Sequential(nn.Conv3d(4, 3, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
        self.head(self.features(torch.zeros(1, 1, 4, 5, 6)))
        self.scale = 100  # the peers add 1e-8 and 1e-7 to the range of a map: keep it large

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.scale * self.head(self.features(image))
        return logits


def transformer() -> nn.Module:
    """Torchvision's vision transformer with 4 x 4 patches."""
    return seeded(
        VisionTransformer(
            image_size=16, patch_size=4, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=5
        )
    )


def as_grid(tokens: Tensor) -> Tensor:
    """Tokens ``(N, 1 + 16, K)`` as a map ``(N, K, 4, 4)``: what the peers must be told."""
    return tokens[:, 1:].reshape(len(tokens), 4, 4, -1).permute(0, 3, 1, 2)


class Linear(nn.Module):
    """Class 3 has the score ``sum(coefficients * features)``, the others its negative; the features are the image."""

    def __init__(self, coefficients: Tensor) -> None:
        super().__init__()
        self.features = nn.Identity()
        self.coefficients = nn.Parameter(coefficients)

    def forward(self, image: Tensor) -> Tensor:
        score = (self.features(image) * self.coefficients).flatten(1).sum(1)
        return torch.stack((-score, -score, -score, score, -score), 1)


def plain() -> tuple[nn.Module, str, Tensor]:
    return seeded(PlainNet()), LAYER, images(2, (3, 8, 8))


def strided() -> tuple[nn.Module, str, Tensor]:
    return seeded(StridedNet()), LAYER, images(2, (3, 16, 16), seed=1)


def normed() -> tuple[nn.Module, str, Tensor]:
    return seeded(NormedNet()), LAYER, images(2, (3, 16, 16))


def pooled() -> tuple[nn.Module, str, Tensor]:
    return seeded(PooledNet()), LAYER, images(2, (3, 8, 8))


def volume() -> tuple[nn.Module, str, Tensor]:
    return seeded(VolumeNet()), LAYER, images(2, (1, 4, 5, 6), seed=1)


def tokens() -> tuple[nn.Module, str, Tensor]:
    return transformer(), TOKENS, images(2, (3, 16, 16))
