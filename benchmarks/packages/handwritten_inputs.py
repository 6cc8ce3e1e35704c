"""Networks by hand for videos, volumes, signals, several inputs; transformers by hand."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.packages.case import Case
from benchmarks.packages.handwritten_classifiers import conv_bn
from benchmarks.packages.handwritten_outputs import body
from benchmarks.packages.handwritten_transformers import (
    ClassTokenViT,
    ConvNextLike,
    MixerNet,
    UnfoldViT,
    WindowNet,
)


class WithTable(nn.Module):
    """A photo and numbers of a table."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.table = body(), nn.Sequential(nn.Linear(4, 8), nn.ReLU())
        self.fc = nn.Linear(24, 5)

    def forward(self, x: Tensor, numbers: Tensor) -> Tensor:
        return self.fc(torch.cat([self.body(x).mean((2, 3)), self.table(numbers)], 1))


class Questions(nn.Module):
    """A photo and a question of 12 tokens; the answer is one of 6."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.words = body(), nn.Embedding(50, 16)
        self.rnn, self.attend = nn.GRU(16, 16, batch_first=True), nn.MultiheadAttention(16, 2, batch_first=True)
        self.fc = nn.Linear(32, 6)

    def forward(self, x: Tensor, question: Tensor) -> Tensor:
        asked = self.rnn(self.words(question))[1][0]
        seen = self.body(x).flatten(2).transpose(1, 2)
        found = self.attend(asked.unsqueeze(1), seen, seen)[0][:, 0]
        return self.fc(torch.cat([found, asked], 1))


class CnnLstm(nn.Module):
    """Frames through a convolutional network, then an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn, self.lstm, self.fc = body(), nn.LSTM(16, 12, batch_first=True), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        n, t = x.shape[:2]
        features = self.cnn(x.flatten(0, 1)).mean((2, 3)).view(n, t, -1)
        return self.fc(self.lstm(features)[0][:, -1])


class FrameMean(nn.Module):
    """Logits of each frame, averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn, self.fc = body(), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        n, t, c, h, w = x.shape
        logits = self.fc(self.cnn(x.reshape(n * t, c, h, w)).mean((2, 3)))
        return logits.reshape(n, t, -1).mean(1)


class Bag(nn.Module):
    """A bag of patches of a slide: attention over instances."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn, self.attention, self.fc = (
            body(),
            nn.Sequential(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 1)),
            nn.Linear(16, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        features = self.cnn(x.flatten(0, 1)).mean((2, 3)).unflatten(0, x.shape[:2])
        weights = self.attention(features).softmax(1)
        return self.fc((weights * features).sum(1))


class ConvGru(nn.Module):
    """A convolutional recurrent cell, once for each frame."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.gates, self.cell = conv_bn(3, 8, 4), nn.Conv2d(16, 16, 3, 1, 1), nn.Conv2d(16, 8, 3, 1, 1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros_like(self.encode(x[:, 0]))
        for frame in x.unbind(1):
            seen = self.encode(frame)
            update, reset = self.gates(torch.cat([seen, state], 1)).sigmoid().chunk(2, 1)
            state = (1 - update) * state + update * self.cell(torch.cat([seen, reset * state], 1)).tanh()
        return self.fc(state.mean((2, 3)))


class ChangeDetector(nn.Module):
    """Two photos of one place (N, 2, 3, H, W): features of both, their difference."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.fc = body(), conv_bn(16, 16), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.head((self.body(x[:, 0]) - self.body(x[:, 1])).abs()).mean((2, 3)))


class Volume(nn.Module):
    """A volume of a scanner."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv3d(1, 8, 3, 2, 1), nn.InstanceNorm3d(8), nn.ReLU(), nn.Conv3d(8, 12, 3, 2, 1))
        self.act, self.fc = nn.ReLU(), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.act(self.body(x)).mean((2, 3, 4)))


class Signal(nn.Module):
    """Twelve leads of an electrocardiogram."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(12, 16, 7, 2, 3), nn.BatchNorm1d(16), nn.ReLU(), nn.Conv1d(16, 24, 5, 2, 2))
        self.act, self.fc = nn.ReLU(), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.act(self.body(x)).mean(2))


class SpatialTransformer(nn.Module):
    """The image is turned upright by a grid that a small network predicts."""

    def __init__(self) -> None:
        super().__init__()
        self.localize = nn.Sequential(conv_bn(1, 8, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6))
        self.body, self.fc = nn.Sequential(conv_bn(1, 8, 2), conv_bn(8, 16, 2)), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        identity = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]], device=x.device, dtype=x.dtype)
        theta = identity + 0.1 * self.localize(x).view(-1, 2, 3)
        turned = functional.grid_sample(x, functional.affine_grid(theta, list(x.shape), False), align_corners=False)
        return self.fc(self.body(turned).mean((2, 3)))


class RowReader(nn.Module):
    """Rows of an image as a sequence: no layer has a map."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.fc = nn.GRU(28, 16, batch_first=True), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.gru(x.squeeze(1))[1][0])


class Perceptron(nn.Module):
    """Pixels in a row through linear layers: no layer has a map."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 49), nn.ReLU(), nn.Linear(49, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def _case(name: str, build: Callable[[], nn.Module], *rest: Any, **options: Any) -> Case:
    return Case(f"hand-written:{name}", build, *rest, **options)


def _ignore_inputs(output: Tensor, *_: Tensor) -> Tensor:
    return output


FRAMES: dict[str, Any] = {"shape": (4, 3, 64, 64), "arguments": {"frames": 1}}
MAP = (16, 16)
CASES = [
    _case(
        "photo and table",
        WithTable,
        "body",
        MAP,
        "one of 5 classes",
        inputs=lambda batch, g: (torch.randn(batch, 4, generator=g, dtype=torch.float64),),
        read_scores=_ignore_inputs,
    ),
    _case(
        "photo and question",
        Questions,
        "body",
        MAP,
        "one of 6 answers",
        inputs=lambda batch, g: (torch.randint(0, 50, (batch, 12), generator=g),),
        read_scores=_ignore_inputs,
    ),
    _case("frames and lstm", CnnLstm, "cnn", (4, 16, 16), "one of 4 actions", **FRAMES),
    _case("mean over frames", FrameMean, "cnn", (4, 16, 16), "one of 4 actions", **FRAMES),
    _case("bag of patches", Bag, "cnn", (4, 16, 16), "the one logit of the slide", **FRAMES),
    _case("frames, not named", FrameMean, refused="frames=1", shape=(4, 3, 64, 64)),
    _case(
        "convolutional recurrence",
        ConvGru,
        refused="frames|map",
        shape=(4, 3, 64, 64),
        arguments={"target_layer": "cell", "frames": 1},
    ),
    _case("two photos of one place", ChangeDetector, refused="map|frames", shape=(2, 3, 64, 64)),
    _case("volume", Volume, "act", (8, 8, 8), "one of 3 classes", shape=(1, 32, 32, 32)),
    _case("electrocardiogram", Signal, "act", (64,), "one of 5 classes", shape=(12, 256)),
    _case(
        "spectrogram",
        lambda: nn.Sequential(
            conv_bn(1, 8, 2), conv_bn(8, 16, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)
        ),
        "1",
        (16, 32),
        "one of 5 sounds",
        shape=(1, 64, 128),
    ),
    _case(
        "thirteen bands",
        lambda: nn.Sequential(
            conv_bn(13, 8, 2), conv_bn(8, 16, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)
        ),
        "1",
        MAP,
        "one of 5 classes",
        shape=(13, 64, 64),
    ),
    _case("spatial transformer", SpatialTransformer, "body", MAP, "one of 10 digits", shape=(1, 64, 64), mixes=True),
    _case("rows of an image", RowReader, refused="no layer|no spatial map", shape=(1, 28, 28)),
    _case("perceptron", Perceptron, refused="no layer|no spatial map", shape=(1, 28, 28)),
    _case("transformer with a class token", ClassTokenViT, "encoder.layers.2.norm1", (8, 8), "one of 5 classes"),
    _case("transformer with unfolded patches", UnfoldViT, "encoder", (8, 8), "one of 5 classes"),
    _case("mixer", MixerNet, ("norm", "blocks.1"), (8, 8), "one of 5 classes"),
    _case("windows, channels last", WindowNet, ("blocks.1", "norm"), (16, 16), "one of 5 classes"),
    _case("convolutions, channels last", ConvNextLike, ("blocks", "blocks.1"), MAP, "one of 5 classes"),
    _case(
        "wide photo through a transformer",
        partial(ClassTokenViT, (4, 16)),
        "encoder.layers.2.norm1",
        (4, 16),
        "one of 5 classes",
        shape=(3, 32, 128),
    ),
]
