"""The parts of a random network: activations, norms, pooling, and a convolution with them."""

from collections.abc import Callable
from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
BATCH_NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE_NORMS = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
AVERAGE_POOLS = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
MAX_POOLS = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
PAIR = 2  # most numbers of channels are even


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, tensor: Tensor) -> Tensor:
        return self.function(tensor)


ACTIVATIONS: tuple[Callable[[int], nn.Module], ...] = (
    lambda c: nn.ReLU(),
    lambda c: nn.ReLU(inplace=True),
    lambda c: nn.ReLU(inplace=True),
    lambda c: nn.ReLU6(),
    lambda c: nn.LeakyReLU(0.1, inplace=True),
    lambda c: nn.LeakyReLU(0.2),
    lambda c: nn.ELU(),
    lambda c: nn.SELU(),
    lambda c: nn.CELU(0.5),
    lambda c: nn.GELU(),
    lambda c: nn.GELU(approximate="tanh"),
    lambda c: nn.SiLU(),
    lambda c: nn.SiLU(inplace=True),
    lambda c: nn.Mish(),
    lambda c: nn.Hardswish(),
    lambda c: nn.Hardsigmoid(),
    lambda c: nn.Hardtanh(),
    lambda c: nn.Softplus(beta=2),
    lambda c: nn.Softsign(),
    lambda c: nn.Tanh(),
    lambda c: nn.Sigmoid(),
    lambda c: nn.LogSigmoid(),
    lambda c: nn.PReLU(),
    lambda c: nn.PReLU(c),
    lambda c: nn.RReLU(),
    lambda c: nn.Softshrink(0.1),
    lambda c: nn.Hardshrink(0.1),
    lambda c: nn.Tanhshrink(),
    lambda c: nn.Threshold(0.1, 0.0),
    lambda c: Apply(torch.relu),
    lambda c: Apply(functional.relu),
    lambda c: Apply(lambda x: x.clamp(min=0)),
    lambda c: Apply(lambda x: x.clamp(-0.5, 1.5)),
    lambda c: Apply(lambda x: x * torch.sigmoid(1.702 * x)),
    lambda c: Apply(lambda x: functional.relu(x) ** 2),
    lambda c: Apply(lambda x: torch.where(x > 0, x, 0.25 * x)),
    lambda c: Apply(torch.abs),
    lambda c: Apply(lambda x: torch.maximum(x, 0.3 * x)),
    lambda c: Apply(lambda x: x + torch.sin(x).square()),
    lambda c: Apply(lambda x: torch.exp(-x * x)),
    lambda c: Apply(lambda x: torch.sqrt(functional.relu(x) + 0.01)),
    lambda c: Apply(lambda x: torch.atan(x)),
    lambda c: Apply(lambda x: torch.erf(x)),
    lambda c: Apply(lambda x: torch.log1p(x.abs())),
)


class ChannelNorm(nn.Module):
    """Layer norm of the channels, in one of three ways to write it."""

    def __init__(self, rng: Random, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.way = rng.randrange(3)

    def forward(self, tensor: Tensor) -> Tensor:
        if self.way == 0:
            return self.norm(tensor.movedim(1, -1)).movedim(-1, 1)
        if self.way == 1:
            mean = tensor.mean(1, keepdim=True)
            variance = (tensor - mean).pow(2).mean(1, keepdim=True)
            return (tensor - mean) / torch.sqrt(variance + 1e-5)
        return tensor * torch.rsqrt(tensor.square().mean(1, keepdim=True) + 1e-5)


def draw_activation(rng: Random, channels: int) -> nn.Module:
    return rng.choice(ACTIVATIONS)(channels)


def draw_norm(rng: Random, channels: int, dims: int = 2) -> nn.Module:
    """Batch norm half of the time, for it is what most networks have."""
    batch = BATCH_NORMS[dims](channels)
    others: tuple[Callable[[], nn.Module], ...] = (
        lambda: nn.GroupNorm(1 if channels % PAIR else PAIR, channels),
        lambda: nn.GroupNorm(1, channels),
        lambda: nn.GroupNorm(channels, channels),
        lambda: INSTANCE_NORMS[dims](channels, affine=True),
        lambda: INSTANCE_NORMS[dims](channels, affine=True, track_running_stats=True),
        lambda: ChannelNorm(rng, channels),
        lambda: nn.LocalResponseNorm(3, alpha=0.5),
        lambda: Apply(lambda x: functional.normalize(x, dim=1)),
        lambda: nn.Identity(),
    )
    return batch if rng.random() < 0.5 else rng.choice(others)()


def draw_pool(rng: Random, dims: int = 2) -> nn.Module:
    """A pooling that makes the map smaller."""
    pools: list[Callable[[], nn.Module]] = [
        lambda: MAX_POOLS[dims](2),
        lambda: MAX_POOLS[dims](3, 2, 1),
        lambda: MAX_POOLS[dims](3, 2, ceil_mode=True),
        lambda: AVERAGE_POOLS[dims](2),
        lambda: AVERAGE_POOLS[dims](3, 2, 1),
        lambda: AVERAGE_POOLS[dims](3, 2, 1, ceil_mode=True, count_include_pad=False),
    ]
    if dims == 2:
        pools += [
            lambda: nn.LPPool2d(2, 2),
            lambda: nn.LPPool2d(3, 3, 2),
            lambda: nn.AdaptiveAvgPool2d((4, 5)),
            lambda: nn.AdaptiveAvgPool2d(4),
            lambda: nn.AdaptiveMaxPool2d((5, 3)),
            lambda: nn.MaxPool2d(2, dilation=2, stride=2),
            lambda: nn.AvgPool2d(2, divisor_override=3),
            lambda: Apply(lambda x: x[:, :, ::2, ::2]),
            lambda: Apply(lambda x: x[..., 1:-1, 1:-1]),
            lambda: Apply(lambda x: functional.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=False)),
        ]
    return rng.choice(pools)()


class ConvUnit(nn.Module):
    """Convolution, norm and activation in a random order.

    Attributes:
        channels: of the output.
    """

    def __init__(
        self, rng: Random, channels_in: int, channels: int, dims: int = 2, *, stride: int | None = None
    ) -> None:
        super().__init__()
        self.channels = channels
        convolution = draw_convolution(
            rng, channels_in, channels, dims, rng.choice((1, 1, 2)) if stride is None else stride
        )
        order = rng.choice(("cna", "cna", "cna", "can", "nac", "ca", "cn", "c"))
        parts: dict[str, Callable[[], nn.Module]] = {
            "c": lambda: convolution,
            "n": lambda: draw_norm(rng, channels if "c" in order[: order.index("n")] else channels_in, dims),
            "a": lambda: draw_activation(rng, channels if "c" in order[: order.index("a")] else channels_in),
        }
        self.parts = nn.Sequential(*[parts[part]() for part in order])
        self.is_in_place = order[0] != "c"  # its first part may write to what it is given

    def forward(self, tensor: Tensor) -> Tensor:
        return self.parts(tensor.clone() if self.is_in_place else tensor)


def draw_convolution(rng: Random, channels_in: int, channels: int, dims: int, stride: int) -> nn.Module:
    """A convolution whose output is the input's size divided by the stride."""
    kernel = rng.choice((1, 3, 3, 3, 5)) if dims < 3 else rng.choice((1, 3))
    dilation = rng.choice((1, 1, 2)) if kernel == 3 else 1
    groups = rng.choice((1, 1, 1, PAIR))
    if channels_in % PAIR or channels % PAIR:
        groups = 1
    if channels == channels_in and rng.random() < 0.3:
        groups = channels
    padding: int | str = dilation * (kernel // 2)
    if stride == 1 and rng.random() < 0.2:
        padding = "same"
    mode = rng.choice(("zeros", "zeros", "zeros", "reflect", "replicate", "circular")) if dims == 2 else "zeros"
    return CONVOLUTIONS[dims](
        channels_in, channels, kernel, stride, padding, dilation, groups, rng.random() < 0.7, padding_mode=mode
    )
