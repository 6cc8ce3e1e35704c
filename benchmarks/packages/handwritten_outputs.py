"""Networks by hand with several outputs, or with outputs that are no classes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.packages.case import Case
from benchmarks.packages.handwritten_classifiers import conv_bn
from explainable_model import targets


def body() -> nn.Sequential:
    """Two strided convolutions: (N, 3, 64, 64) to (N, 16, 16, 16)."""
    return nn.Sequential(conv_bn(3, 8, 2), conv_bn(8, 16, 2))


class TwoHeads(nn.Module):
    """Age and species, in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.age, self.species = body(), nn.Linear(16, 1), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        pooled = self.body(x).mean((2, 3))
        return {"age": self.age(pooled), "species": self.species(pooled)}


class WithFeatures(nn.Module):
    """Features first, logits second."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.fc = body(), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(x).mean((2, 3))
        return features, self.fc(features)


class LossFirst(WithFeatures):
    """A loss, then logits, as training scripts return."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        _, logits = super().forward(x)
        return logits.logsumexp(1).mean(), logits


class EarlyExits(nn.Module):
    """A list of logits, the last from the deepest layer."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = conv_bn(3, 8, 2), conv_bn(8, 16, 2)
        self.exits = nn.ModuleList([nn.Linear(8, 5), nn.Linear(16, 5)])

    def forward(self, x: Tensor) -> list[Tensor]:
        early = self.one(x)
        return [self.exits[0](early.mean((2, 3))), self.exits[1](self.two(early).mean((2, 3)))]


class Variational(nn.Module):
    """A variational autoencoder: reconstruction, mean, logarithm of the variance."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.mean, self.spread = body(), nn.Linear(16, 6), nn.Linear(16, 6)
        self.decoder = nn.Sequential(nn.Linear(6, 16 * 64), nn.ReLU(), nn.Unflatten(1, (16, 8, 8)))
        self.grow = nn.Sequential(nn.Upsample(scale_factor=8), nn.Conv2d(16, 3, 3, 1, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pooled = self.encoder(x).mean((2, 3))
        mean = self.mean(pooled)
        return self.grow(self.decoder(mean)), mean, self.spread(pooled)


class Embedder(nn.Module):
    """A normalized embedding for face or product search."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.fc = body(), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(self.fc(self.body(x).mean((2, 3))))


class Siamese(nn.Module):
    """The same body for two images; the difference decides."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.fc = body(), nn.Linear(16, 2)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        return self.fc((self.body(x).mean((2, 3)) - self.body(other).mean((2, 3))).abs())


class Localizer(nn.Module):
    """A class and one box."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.fc, self.box = body(), nn.Linear(16, 5), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        pooled = self.body(x).mean((2, 3))
        return {"classes": self.fc(pooled), "bbox": self.box(pooled).sigmoid()}


class TextLine(nn.Module):
    """Text recognition: height is pooled more than width, then an LSTM; (N, steps, letters)."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 8, 3, 1, 1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, 1, 1),
            nn.ReLU(),
            nn.MaxPool2d((4, 1)),
        )
        self.rnn, self.fc = nn.LSTM(64, 16, bidirectional=True, batch_first=True), nn.Linear(32, 11)

    def forward(self, x: Tensor) -> Tensor:
        steps = self.cnn(x).flatten(1, 2).transpose(1, 2)
        return self.fc(self.rnn(steps)[0])


class Landmarks(nn.Module):
    """Heat maps of 5 landmarks, whose centers of gravity are returned: (N, 5, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.heat = body(), nn.Conv2d(16, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        heat = self.heat(self.body(x)).flatten(2).softmax(2).unflatten(2, (16, 16))
        line = torch.linspace(-1, 1, 16, device=x.device, dtype=x.dtype)
        return torch.stack([(heat.sum(2) * line).sum(2), (heat.sum(3) * line).sum(2)], 2)


class Hashing(nn.Module):
    """Metric learning whose head needs the label in the forward."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.weight = body(), nn.Parameter(torch.randn(5, 16))

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        cosine = functional.linear(functional.normalize(self.body(x).mean((2, 3))), functional.normalize(self.weight))
        return 16 * (cosine - 0.3 * functional.one_hot(label, 5).to(cosine))


def first_letter(output: Tensor, class_idx: Tensor) -> Tensor:
    """The best letter of the fourth step."""
    return output[:, 3].amax(1)


def left_eye(output: Tensor, class_idx: Tensor) -> Tensor:
    """The horizontal place of the first landmark."""
    return output[:, 0, 0]


def _case(name: str, build: Callable[[], nn.Module], *rest: Any, **options: Any) -> Case:
    return Case(f"hand-written:{name}", build, *rest, **options)


GRID = (16, 16)
CASES = [
    _case("two heads", TwoHeads, refused="output='age'|output='species'"),
    _case(
        "two heads, species",
        TwoHeads,
        "body",
        GRID,
        "one of 5 species",
        arguments={"output": "species"},
        read_scores=lambda out: out["species"],
    ),
    _case("features and logits", WithFeatures, refused="output=1|output=0"),
    _case(
        "features and logits, chosen",
        WithFeatures,
        "body",
        GRID,
        "one of 5 classes",
        arguments={"output": 1},
        read_scores=lambda out: out[1],
    ),
    _case("loss first", LossFirst, "body", GRID, "one of 5 classes", read_scores=lambda out: out[1]),
    _case("early exits", EarlyExits, refused="output="),
    _case(
        "early exits, last",
        EarlyExits,
        "two",
        GRID,
        "one of 5 classes",
        arguments={"output": -1},
        read_scores=lambda out: out[-1],
    ),
    _case("variational autoencoder", Variational, refused="output="),
    _case(
        "embedding",
        Embedder,
        "body",
        GRID,
        "the similarity to a reference",
        arguments={"target": targets.Similarity()},
        inputs=lambda batch, g: (torch.randn(batch, 8, generator=g, dtype=torch.float64),),
        read_scores=lambda out, reference: functional.cosine_similarity(out, reference).unsqueeze(1),
    ),
    _case(
        "siamese, first image",
        Siamese,
        "body",
        GRID,
        "same or different",
        arguments={"call": 0},
        inputs=lambda batch, g: (torch.randn(batch, 3, 64, 64, generator=g, dtype=torch.float64),),
        read_scores=lambda out, *_: out,
    ),
    _case("one class and one box", Localizer, refused="scores belong to boxes"),
    _case(
        "one class and one box, chosen",
        Localizer,
        "body",
        GRID,
        "one of 5 classes",
        arguments={"output": "classes"},
        read_scores=lambda out: out["classes"],
    ),
    _case("line of text", TextLine, refused="boxes, queries or tokens", shape=(1, 32, 64)),
    _case(
        "line of text, one letter",
        TextLine,
        "cnn",
        (4, 32),
        "the best letter of a step",
        shape=(1, 32, 64),
        kind="scores",
        arguments={"target": first_letter},
    ),
    _case("landmarks", Landmarks, refused="target="),
    _case(
        "landmarks, one of them",
        Landmarks,
        "body",
        GRID,
        "how far right a landmark lies",
        arguments={"target": left_eye, "method": "layercam"},
    ),
    _case(
        "label in the forward",
        Hashing,
        "body",
        GRID,
        "one of 5 people",
        inputs=lambda batch, g: (torch.randint(0, 5, (batch,), generator=g),),
        read_scores=lambda out, *_: out,
    ),
]
