"""From the last map of a random network to its scores."""

from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.fuzz.units import CONVOLUTIONS, draw_activation

POOLINGS = ("mean", "adaptive", "max", "gem", "both", "lse", "attention", "flatten", "sum", "topk", "std")


class Pool(nn.Module):
    """A map ``(N, K, *spatial)`` as ``(N, width)``."""

    def __init__(self, rng: Random, channels: int, positions: int) -> None:
        super().__init__()
        self.way = rng.choice(POOLINGS)
        self.width = {"both": 2 * channels, "flatten": channels * positions}.get(self.way, channels)
        self.power, self.query = nn.Parameter(torch.tensor(3.0)), nn.Parameter(torch.ones(channels))

    def forward(self, tensor: Tensor) -> Tensor:
        flat = tensor.flatten(2)
        if self.way == "adaptive":
            pool = (functional.adaptive_avg_pool1d, functional.adaptive_avg_pool2d, functional.adaptive_avg_pool3d)
            return pool[tensor.ndim - 3](tensor, 1).flatten(1)
        if self.way == "gem":
            return flat.clamp(min=1e-3).pow(2 + self.power.abs()).mean(2).pow(1 / 3)
        if self.way == "both":
            return torch.cat([flat.mean(2), flat.max(2)[0]], 1)
        if self.way == "attention":
            weights = torch.softmax(torch.einsum("nkp,k->np", flat, self.query), 1)
            return torch.bmm(flat, weights.unsqueeze(2)).squeeze(2)
        if self.way == "flatten":
            return tensor.flatten(1)
        if self.way == "topk":
            return flat.topk(2, dim=2).values.mean(2)
        if self.way == "std":
            return flat.mean(2) + flat.std(2)
        return {"max": flat.amax, "lse": flat.logsumexp, "sum": flat.sum}.get(self.way, flat.mean)(2)


class Classifier(nn.Module):
    """Features ``(N, width)`` as scores ``(N, classes)``."""

    def __init__(self, rng: Random, width: int, classes: int) -> None:
        super().__init__()
        self.way = rng.choice(("linear", "linear", "deep", "cosine", "functional"))
        self.body = nn.Identity()
        if self.way == "deep":
            self.body = nn.Sequential(nn.Linear(width, 8), nn.BatchNorm1d(8), draw_activation(rng, 8), nn.Dropout(0.5))
            width = 8
        self.last = nn.Linear(width, classes)

    def forward(self, features: Tensor) -> Tensor:
        features = self.body(features)
        if self.way == "cosine":
            return 5 * functional.normalize(features) @ functional.normalize(self.last.weight).t()
        if self.way == "functional":
            return torch.addmm(self.last.bias, features, self.last.weight.t())
        return self.last(features)


class Head(nn.Module):
    """Pooling and a classifier, or a classifier at every position and pooling of its scores."""

    def __init__(self, rng: Random, channels: int, grid: tuple[int, ...], classes: int) -> None:
        super().__init__()
        positions = 1
        for length in grid:
            positions *= length
        self.maps_first = rng.random() < 0.2
        if self.maps_first:
            self.score = CONVOLUTIONS[len(grid)](channels, classes, 1)
        else:
            self.pool = Pool(rng, channels, positions)
            self.score = Classifier(rng, self.pool.width, classes)

    def forward(self, tensor: Tensor) -> Tensor:
        if self.maps_first:
            return self.score(tensor).flatten(2).mean(2)
        return self.score(self.pool(tensor))
