"""Blocks of random convolutional networks: residual, concatenated, gated, shared, in place, resampled."""

from collections.abc import Callable
from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.fuzz.attention import ATTENTIONS, draw_attention
from tests.fuzz.products import Product
from tests.fuzz.units import PAIR, ConvUnit, draw_activation, draw_norm, draw_pool

Block = Callable[[Random, int, int], nn.Module]  # (rng, channels, dims) -> a module with the attribute ``channels``


class Residual(nn.Module):
    """A body and a shortcut; the sum is written in several ways."""

    def __init__(self, rng: Random, channels: int, dims: int) -> None:
        super().__init__()
        self.channels = rng.choice((channels, channels + PAIR))
        stride = rng.choice((1, 1, 2))
        self.first = ConvUnit(rng, channels, self.channels, dims, stride=stride)
        self.second = ConvUnit(rng, self.channels, self.channels, dims, stride=1)
        is_same = stride == 1 and self.channels == channels
        self.shortcut = nn.Identity() if is_same else ConvUnit(rng, channels, self.channels, dims, stride=stride)
        self.activation = draw_activation(rng, self.channels)
        self.way = rng.randrange(4)

    def forward(self, tensor: Tensor) -> Tensor:
        out = self.second(self.first(tensor))
        other = self.shortcut(tensor)
        if self.way == 0:
            out += other
        elif self.way == 1:
            out = torch.add(other, out, alpha=0.5)
        elif self.way == 2:
            out = torch.stack((out, other)).mean(0)
        else:
            out = out + other
        return self.activation(out)


class Concat(nn.Module):
    """Branches side by side, as in Inception and DenseNet."""

    def __init__(self, rng: Random, channels: int, dims: int) -> None:
        super().__init__()
        widths = [rng.choice((PAIR, 2 * PAIR)) for _ in range(rng.choice((1, 2)))]
        self.branches = nn.ModuleList(ConvUnit(rng, channels, width, dims, stride=1) for width in widths)
        self.keeps = rng.random() < 0.5 or len(widths) == 1
        self.channels = sum(widths) + self.keeps * channels

    def forward(self, tensor: Tensor) -> Tensor:
        outputs = [branch(tensor) for branch in self.branches]
        return torch.cat([tensor, *outputs] if self.keeps else outputs, 1)


class SqueezeExcite(nn.Module):
    """A scale for each channel from the mean, or the maximum, over space."""

    def __init__(self, rng: Random, channels: int, dims: int) -> None:
        super().__init__()
        self.channels, self.dims = channels, dims
        self.squeeze, self.excite = nn.Linear(channels, 4), nn.Linear(4, channels)
        self.activation = draw_activation(rng, 4)
        self.gate = rng.choice((nn.Sigmoid, nn.Hardsigmoid, nn.Tanh))()
        self.is_in_place, self.has_maximum = rng.random() < 0.3, rng.random() < 0.3

    def forward(self, tensor: Tensor) -> Tensor:
        flat = tensor.flatten(2)
        pooled = flat.amax(2) if self.has_maximum else flat.mean(2)
        scale = self.gate(self.excite(self.activation(self.squeeze(pooled))))
        scale = scale.reshape(*scale.shape, *[1] * self.dims)
        if self.is_in_place:
            tensor = tensor.clone()
            tensor *= scale
            return tensor
        return tensor * scale


class SpatialGate(nn.Module):
    """A scale for each position from the mean and the maximum over the channels."""

    def __init__(self, rng: Random, channels: int, dims: int) -> None:
        super().__init__()
        self.channels = channels
        self.conv = ConvUnit(rng, PAIR, PAIR, dims, stride=1)

    def forward(self, tensor: Tensor) -> Tensor:
        summary = torch.cat([tensor.mean(1, keepdim=True), tensor.max(1, keepdim=True).values], 1)
        return tensor * torch.sigmoid(self.conv(summary)[:, :1])


class Pooling(nn.Module):
    """Any pooling."""

    def __init__(self, rng: Random, channels: int, dims: int) -> None:
        super().__init__()
        self.channels = channels
        self.pool = draw_pool(rng, dims)

    def forward(self, tensor: Tensor) -> Tensor:
        return self.pool(tensor)


class Shared(nn.Module):
    """One module that runs several times."""

    def __init__(self, rng: Random, channels: int, dims: int) -> None:
        super().__init__()
        self.channels = channels
        self.body = ConvUnit(rng, channels, channels, dims, stride=1)
        self.activation = draw_activation(rng, channels)

    def forward(self, tensor: Tensor) -> Tensor:
        return self.activation(self.body(self.activation(self.body(tensor))) + tensor)


class InPlace(nn.Module):
    """Writes to its own values in several ways."""

    def __init__(self, rng: Random, channels: int, dims: int) -> None:
        super().__init__()
        self.channels = channels
        self.conv = ConvUnit(rng, channels, channels, dims, stride=1)
        self.scale = nn.Parameter(torch.ones(1, channels, *[1] * dims))
        self.ways = rng.sample(range(8), 2)

    def forward(self, tensor: Tensor) -> Tensor:
        out = self.conv(tensor)
        for way in self.ways:
            out = self._change(out, tensor, way)
        return out

    def _change(self, out: Tensor, tensor: Tensor, way: int) -> Tensor:
        if way == 0:
            out.mul_(self.scale)
        elif way == 1:
            out += 0.5 * tensor
        elif way == 2:
            out = out.clamp_(min=-0.5)
        elif way == 3:
            out[:, 0] = out[:, 1] * 0.5
        elif way == 4:
            out = out.masked_fill_(tensor < -0.5, 0.0)
        elif way == 5:
            out[:, :2].add_(1.0)
        elif way == 6:
            functional.leaky_relu_(out, 0.1)
        else:
            out = out.addcmul_(tensor, self.scale, value=0.3)
        return out


class Resample(nn.Module):
    """Down and up again, with a skip, as in a U-Net."""

    def __init__(self, rng: Random, channels: int, dims: int) -> None:
        super().__init__()
        self.down = ConvUnit(rng, channels, channels, dims, stride=2)
        self.way = rng.choice(("nearest", "bilinear", "corners", "bicubic", "transposed", "shuffle", "exact"))
        self.up = nn.Identity()
        if self.way == "transposed":
            kernel, groups = rng.choice(((2, 0, 0), (3, 1, 1), (4, 1, 0))), rng.choice((1, PAIR))
            self.up = nn.ConvTranspose2d(channels, channels, kernel[0], 2, kernel[1], kernel[2], groups)
        elif self.way == "shuffle":
            self.up = nn.Sequential(nn.Conv2d(channels, 4 * channels, 1), nn.PixelShuffle(2))
        self.joins = rng.random() < 0.5
        self.channels = 2 * channels if self.joins else channels

    def forward(self, tensor: Tensor) -> Tensor:
        low = self.up(self.down(tensor))
        size = tensor.shape[2:]
        if self.way in ("bilinear", "bicubic"):
            low = functional.interpolate(low, size=size, mode=self.way)
        elif self.way == "corners":
            low = functional.interpolate(low, size=size, mode="bilinear", align_corners=True)
        elif self.way == "exact":
            low = functional.interpolate(low, size=size, mode="nearest-exact")
        elif tuple(low.shape[2:]) != tuple(size):
            low = functional.interpolate(low, size=size)
        return torch.cat([tensor, low], 1) if self.joins else tensor + low


class Attention2d(nn.Module):
    """Attention between the positions of a map, with a shortcut."""

    def __init__(self, rng: Random, channels: int, dims: int) -> None:
        super().__init__()
        self.channels = channels
        self.norm = draw_norm(rng, channels)
        self.attention = draw_attention(rng, channels, rng.choice(ATTENTIONS))

    def forward(self, tensor: Tensor) -> Tensor:
        tokens = self.norm(tensor).flatten(2).transpose(1, 2)
        return tensor + self.attention(tokens).transpose(1, 2).reshape(tensor.shape)


class ChannelsLast(nn.Module):
    """Depthwise convolution, then a layer norm and linear layers on the last dimension, as in ConvNeXt."""

    def __init__(self, rng: Random, channels: int, dims: int) -> None:
        super().__init__()
        self.channels = channels
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm, self.wide = nn.LayerNorm(channels), nn.Linear(channels, 2 * channels)
        self.activation = draw_activation(rng, 1)
        self.narrow, self.scale = nn.Linear(2 * channels, channels), nn.Parameter(torch.ones(channels))

    def forward(self, tensor: Tensor) -> Tensor:
        last = self.norm(self.depthwise(tensor).permute(0, 2, 3, 1))
        last = self.scale * self.narrow(self.activation(self.wide(last)))
        return tensor + last.permute(0, 3, 1, 2)


class Shuffle(nn.Module):
    """Half of the channels through a convolution, then all of them shuffled."""

    def __init__(self, rng: Random, channels: int, dims: int) -> None:
        super().__init__()
        self.channels = channels
        self.body = ConvUnit(rng, channels // 2, channels // 2, dims, stride=1)
        self.splits = rng.random() < 0.5

    def forward(self, tensor: Tensor) -> Tensor:
        half = self.channels // 2
        first, second = tensor.split(half, 1) if self.splits else tensor.chunk(2, 1)
        joined = torch.cat([first, self.body(second)], 1)
        return joined.reshape(-1, 2, half, *tensor.shape[2:]).transpose(1, 2).flatten(1, 2)


ANY_DIMENSION: tuple[Block, ...] = (
    Residual,
    Residual,
    Concat,
    SqueezeExcite,
    SpatialGate,
    Pooling,
    Shared,
    InPlace,
    Shuffle,
)
PLANAR: tuple[Block, ...] = (*ANY_DIMENSION, Resample, Resample, Attention2d, ChannelsLast, Product, Product, Pooling)


def draw_block(rng: Random, channels: int, dims: int) -> nn.Module:
    """A block; its attribute ``channels`` is the number that it returns."""
    return rng.choice(PLANAR if dims == 2 else ANY_DIMENSION)(rng, channels, dims)
