"""Classifiers as people write them by hand."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.packages.case import Case


def conv_bn(inner: int, outer: int, stride: int = 1) -> nn.Sequential:
    """A 3 x 3 convolution with batch norm and ReLU in place."""
    layers = nn.Conv2d(inner, outer, 3, stride, 1, bias=False), nn.BatchNorm2d(outer), nn.ReLU(inplace=True)
    return nn.Sequential(*layers)


class TutorialNet(nn.Module):
    """The first network of many courses: two convolutions, flatten, three linear layers."""

    def __init__(self, classes: int = 10, side: int = 32) -> None:
        super().__init__()
        self.conv1, self.conv2, self.pool = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5), nn.MaxPool2d(2, 2)
        self.fc1 = nn.Linear(16 * (side // 4 - 3) ** 2, 32)
        self.fc2, self.fc3 = nn.Linear(32, 24), nn.Linear(24, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(functional.relu(self.conv1(x)))
        x = self.pool(functional.relu(self.conv2(x)))
        return self.fc3(functional.relu(self.fc2(functional.relu(self.fc1(torch.flatten(x, 1))))))


class DigitNet(nn.Module):
    """Digits: functional dropout, log_softmax at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 3, 1), nn.Conv2d(8, 16, 3, 1)
        self.dropout1, self.dropout2 = nn.Dropout(0.25), nn.Dropout(0.5)
        self.fc1, self.fc2 = nn.Linear(16 * 12 * 12, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.conv2(functional.relu(self.conv1(x)))), 2)
        x = functional.relu(self.fc1(torch.flatten(self.dropout1(x), 1)))
        return functional.log_softmax(self.fc2(self.dropout2(x)), dim=1)


class VggLike(nn.Module):
    """Features, adaptive pooling to 2 x 2, a classifier with dropout, softmax in the network."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv_bn(3, 8), nn.MaxPool2d(2), conv_bn(8, 16), nn.MaxPool2d(2), conv_bn(16, 24), nn.MaxPool2d(2)
        )
        self.avgpool = nn.AdaptiveAvgPool2d((2, 2))
        self.classifier = nn.Sequential(nn.Linear(96, 32), nn.ReLU(True), nn.Dropout(), nn.Linear(32, 5))
        self.softmax = nn.Softmax(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.softmax(self.classifier(self.avgpool(self.features(x)).view(x.size(0), -1)))


class Block(nn.Module):
    """Residual block with ``+=``."""

    def __init__(self, inner: int, outer: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False), nn.BatchNorm2d(outer)
        self.conv2, self.bn2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False), nn.BatchNorm2d(outer)
        self.shortcut = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        out += self.shortcut(x)
        return functional.relu(out)


class ChestNet(nn.Module):
    """Residual blocks, one convolution of the whole map to one channel, sigmoid: a binary classifier (N, 1, 1, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(3, 8, 2), Block(8, 12, 2), Block(12, 16, 2))
        self.last, self.drop = nn.Conv2d(16, 1, 8, bias=False), nn.Dropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.drop(self.last(self.blocks(x))))


class Findings(nn.Module):
    """One sigmoid for each of 14 findings."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1, self.layer2, self.fc = Block(1, 8, 2), Block(8, 16, 2), nn.Linear(16, 14)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layer2(self.layer1(x)).mean([2, 3])).sigmoid()


class BareSqueeze(nn.Module):
    """A binary classifier that returns (N,)."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.fc = nn.Sequential(conv_bn(3, 8, 2), conv_bn(8, 16, 2)), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x).mean((2, 3))).squeeze(1)


class AllConvolutional(nn.Module):
    """A class map by a 1 x 1 convolution, then its mean: no linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.classes = nn.Sequential(conv_bn(3, 8, 2), conv_bn(8, 16, 2)), nn.Conv2d(16, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.adaptive_avg_pool2d(self.classes(self.body(x)), 1).flatten(1)


class Inception(nn.Module):
    """Branches that are concatenated, and an auxiliary head for training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 8, 2)
        self.one, self.three = nn.Conv2d(8, 6, 1), nn.Conv2d(8, 6, 3, 1, 1)
        self.five = nn.Sequential(nn.Conv2d(8, 4, 1), nn.ReLU(), nn.Conv2d(4, 6, 5, 1, 2))
        self.mix, self.aux, self.fc = conv_bn(18, 16, 2), nn.Linear(8, 5), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.stem(x)
        aux = self.aux(x.mean((2, 3)))
        x = self.mix(torch.cat([self.one(x), self.three(x), self.five(x)], 1))
        out = self.fc(x.mean((2, 3)))
        return (out, aux) if self.training else out


class Attentive(nn.Module):
    """Squeeze-and-excitation, then spatial attention, then hard swish."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = conv_bn(3, 8, 2), nn.Conv2d(8, 16, 3, 2, 1)
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 4, 1), nn.ReLU(), nn.Conv2d(4, 16, 1))
        self.spatial, self.act, self.fc = nn.Conv2d(2, 1, 7, padding=3), nn.Hardswish(), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.body(self.stem(x)))
        x = x * self.squeeze(x).sigmoid()
        x = x * self.spatial(torch.cat([x.mean(1, True), x.amax(1, True)], 1)).sigmoid()
        return self.fc(x.mean((2, 3)))


class Dense(nn.Module):
    """Every layer sees all before it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.layers = nn.ModuleList([nn.Conv2d(8 + 6 * i, 6, 3, 1, 1) for i in range(3)])
        self.norm, self.fc = nn.BatchNorm2d(26), nn.Linear(26, 5)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for layer in self.layers:
            features.append(functional.relu(layer(torch.cat(features, 1))))
        return self.fc(functional.relu(self.norm(torch.cat(features, 1))).mean((2, 3)))


class Cut(nn.Module):
    """A backbone without its head, made of the children of another network."""

    def __init__(self) -> None:
        super().__init__()
        import torchvision

        resnet = torchvision.models.resnet18(weights=None)
        self.backbone = nn.Sequential(*list(resnet.children())[:-2])
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


class Ensemble(nn.Module):
    """Two networks, whose probabilities are averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = AllConvolutional(), BareSqueezeFree()

    def forward(self, x: Tensor) -> Tensor:
        return (self.first(x) + self.second(x)) / 2


class BareSqueezeFree(nn.Module):
    """A small residual network."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1, self.layer2, self.fc = Block(3, 8, 2), Block(8, 12, 2), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layer2(self.layer1(x)).mean((2, 3)))


def classifier(
    name: str,
    build: type[nn.Module],
    layer: str | tuple[str, ...],
    side: int,
    meaning: str = "one of 5 classes",
    **rest: object,
) -> Case:
    return Case(f"hand-written:{name}", build, layer, (side, side), meaning, **rest)  # type: ignore[arg-type]


CASES = [
    classifier("course", TutorialNet, "conv2", 10, "one of 10 classes", shape=(3, 32, 32)),
    classifier("digits", DigitNet, "conv2", 24, "one of 10 digits", shape=(1, 28, 28), scores_at="fc2"),
    classifier("vgg", VggLike, "features", 8, kind="softmax", scores_at="classifier"),
    classifier("chest x-ray", ChestNet, "blocks", 8, "pneumonia or not", kind="binary", scores_at="drop"),
    classifier(
        "findings", Findings, "layer2", 16, "one of 14 findings", kind="sigmoid", scores_at="fc", shape=(1, 64, 64)
    ),
    classifier("bare squeeze", BareSqueeze, "body", 16, "the one logit"),
    classifier("all convolutional", AllConvolutional, "body", 16),
    classifier("inception", Inception, "mix", 16),
    classifier("attention of channels and places", Attentive, "act", 16),
    classifier("dense", Dense, "norm", 32),
    classifier("children of a resnet", Cut, "backbone", 4, shape=(3, 128, 128)),
    classifier("ensemble", Ensemble, "second.layer2", 16),
]
