"""The arrangement of a layer's output: channels first, channels last, or tokens."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor, nn

Order: TypeAlias = Literal["first", "last"]  # of the channels of an output

ReshapeTransform: TypeAlias = Callable[[Tensor], Tensor]  # layer output -> (N, K, *spatial)

PREFIX_TOKENS = (0, 1, 2, 3, 4, 5, 8, 9)
"""How many tokens stand before the patches: class and distillation tokens, 4 or 8 registers, with or without class."""

DOUBTFUL_DISTORTION = 0.02
"""A stride that differs more than this, as a logarithm and beyond rounding, between two directions makes a reading
doubtful: queries of shape (N, heads, tokens, width) are no map of tokens by width."""

MERGES = 5  # how often a video transformer halves the height and width of its tokens, at most


@dataclass(frozen=True)
class PatchEmbedding:
    """The convolution that cuts the image into patches, one value per spatial dimension.

    Attributes:
        kernel: size of a patch.
        stride: distance of two patches.
        padding: of the image.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The number of patches in each direction, for an image of this spatial size."""
        cut = zip(size, self.kernel, self.stride, self.padding, strict=True)
        return tuple((length + 2 * pad - kernel) // stride + 1 for length, kernel, stride, pad in cut)


NO_CONVOLUTION = PatchEmbedding((), (), ())
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def patch_embedding(model: nn.Module) -> PatchEmbedding | None:
    """The first strided convolution of a network: in a transformer it makes the patches.

    ``NO_CONVOLUTION`` for a network without any, and ``None`` for others.
    """
    convolutions = [module for module in model.modules() if isinstance(module, CONVOLUTIONS)]
    for module in convolutions:
        if max(module.stride) > 1:
            if isinstance(module.padding, str):
                return None
            return PatchEmbedding(tuple(module.kernel_size), tuple(module.stride), tuple(module.padding))
    return None if convolutions else NO_CONVOLUTION


CHANNELS_FIRST = (
    *CONVOLUTIONS,
    nn.modules.conv._ConvTransposeNd,
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.PixelShuffle,
    nn.Upsample,
)
PADDED = 2  # times the length of a signal, at most: even kernels lengthen it, decoders double it
ELEMENTWISE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Tanh,
    nn.Sigmoid, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Identity, nn.Dropout,
)  # fmt: skip


def find_order(module: nn.Module) -> Order | None:
    """Whether the type of a layer tells where its output has the channels.

    A sequence ends as its last layer does that is no activation. A subclass of ``LayerNorm`` may norm another
    dimension.
    """
    if type(module) is nn.Sequential:
        return next((find_order(layer) for layer in reversed(module) if not isinstance(layer, ELEMENTWISE)), None)
    if type(module) in (nn.LayerNorm, nn.RMSNorm):
        return "last" if len(cast(nn.LayerNorm, module).normalized_shape) == 1 else None
    if isinstance(module, (nn.Linear, nn.Embedding)):
        return "last"
    return "first" if isinstance(module, CHANNELS_FIRST) else None


def find_orders(model: nn.Module) -> dict[str, Order]:
    """The layers whose type tells where their channels are."""
    orders = ((name, find_order(module)) for name, module in model.named_modules())
    return {name: order for name, order in orders if order is not None}


@dataclass(frozen=True)
class SpatialLayout:
    """The arrangement of a layer's output.

    Attributes:
        kind: ``channels_first`` ``(N, K, *grid)``, ``channels_last`` ``(N, *grid, K)`` or ``tokens``
            ``(N, prefix + prod(grid), K)``.
        grid: spatial size of the map.
        prefix: tokens before the patches (class, distillation, registers).
    """

    kind: Literal["channels_first", "channels_last", "tokens"]
    grid: tuple[int, ...]
    prefix: int = 0

    def to_map(self, activations: Tensor) -> Tensor:
        """``(N, K, *grid)``; only rearranges, so it maps gradients as well as activations."""
        if self.kind == "channels_first":
            return activations
        if self.kind == "channels_last":
            return activations.movedim(-1, 1)
        patches = activations[:, self.prefix :] if self.prefix else activations
        return patches.transpose(1, 2).reshape(-1, patches.shape[2], *self.grid)

    def from_map(self, maps: Tensor, like: Tensor) -> Tensor:
        """Maps ``(N, K, *grid)`` arranged as the layer's output, with the prefix tokens of ``like``."""
        if self.kind == "channels_first":
            return maps
        if self.kind == "channels_last":
            return maps.movedim(1, -1)
        patches = maps.flatten(2).transpose(1, 2)
        return torch.cat([like[:, : self.prefix], patches], 1) if self.prefix else patches


def find_layout(
    shape: Sequence[int],
    image_shape: Sequence[int],
    patches: PatchEmbedding | None = None,
    order: Order | None = None,
) -> SpatialLayout | None:
    """Read a layer's output shape as a spatial map of the image, or ``None`` if it is none.

    Where the shape fits both orders, the type of the layer tells where the channels are; where it does not, they are
    last if that grid has one stride in all directions and the other has not: up to rounding, or else in whole pixels.
    In a graph that is being traced with open dimensions, the shape is read as the example has it, and the grid is open.

    Args:
        shape: the layer's output shape.
        image_shape: ``(N, C, *spatial)`` with one to three spatial dimensions.
        patches: the network's patch embedding, which tells the grid of tokens in one and three dimensions.
        order: where the type of the layer tells that its channels are.
    """
    layout = _find_layout(at_example(shape), at_example(image_shape)[2:], patches, order)
    if layout is None or all(isinstance(n, int) for n in image_shape[2:]):
        return layout
    if layout.kind == "tokens":
        return replace(layout, grid=_open_grid(layout.grid, image_shape[2:]))
    return replace(layout, grid=tuple(shape[2:] if layout.kind == "channels_first" else shape[1:-1]))


def _find_layout(
    shape: Sequence[int], size: Sequence[int], patches: PatchEmbedding | None, order: Order | None
) -> SpatialLayout | None:
    if len(shape) == 3 and len(size) == 1:  # (N, K, L) and (N, tokens, K) look alike
        tokens = _patch_token_layout(shape[1], size, patches)
        if tokens is None and patches == NO_CONVOLUTION and shape[2] != size[0]:  # tokens, or steps of a recurrence
            return None
        is_signal = (
            order == "first"
            or tokens is None
            or any(shape[2] == -(-tokens.grid[0] // 2**merge) for merge in range(MERGES))
        )
        if is_signal and shape[2] > PADDED * size[0]:  # of an image with channels last the length is taken for channels
            return None
        return SpatialLayout("channels_first", tuple(shape[2:])) if is_signal else tokens
    if len(shape) == len(size) + 2:
        first, last = (
            SpatialLayout("channels_first", tuple(shape[2:])),
            SpatialLayout("channels_last", tuple(shape[1:-1])),
        )
        fits_first, fits_last = _fits(first.grid, size), _fits(last.grid, size)
        if fits_first and fits_last:
            even = _is_more_even(last.grid[-2:], first.grid[-2:], size[-2:])
            return last if order == "last" or (order is None and even) else first
        return first if fits_first else last if fits_last else None
    if len(shape) == 3 and len(size) == 2:
        return _token_layout(shape[1], size)
    if len(shape) == 3 and len(size) == 3:
        return _patch_token_layout(shape[1], size, patches) or _cube_token_layout(shape[1], size)
    return None


def _is_more_even(last: Sequence[int], first: Sequence[int], size: Sequence[int]) -> bool:
    """Whether the grid of channels last has one stride for height and width, and the other grid has not.

    Convolutions may have a stride for each direction; networks with channels last have one for all. Frames have a
    stride of their own.
    """
    distortions = [stride_distortion(grid, size) for grid in (last, first)]
    if distortions[0] == 0 == distortions[1]:
        return _cuts_evenly(last, size) and not _cuts_evenly(first, size)
    return distortions[0] == 0 < distortions[1]


def _cuts_evenly(grid: Sequence[int], size: Sequence[int]) -> bool:
    """Whether the cells cover the image exactly, and are as many pixels high as wide."""
    whole = all(length % cells == 0 for cells, length in zip(grid, size, strict=True))
    return whole and len({length // cells for cells, length in zip(grid, size, strict=True)}) == 1


def _fits(grid: Sequence[int], size: Sequence[int]) -> bool:
    return all(0 < cells <= length for cells, length in zip(grid, size, strict=True))


def _patch_token_layout(tokens: int, size: Sequence[int], patches: PatchEmbedding | None) -> SpatialLayout | None:
    """The grid of the patch embedding, its height and width perhaps halved some times by merging."""
    if patches is None or len(patches.stride) != len(size):
        return None
    frames = len(size) - 2  # what comes before height and width is not merged
    grid = patches.grid(size)
    for merge in range(MERGES if frames >= 0 else 1):
        merged = tuple(length if axis < frames else -(-length // 2**merge) for axis, length in enumerate(grid))
        prefix = tokens - math.prod(merged)
        if prefix in PREFIX_TOKENS and math.prod(merged) > 1:
            return SpatialLayout("tokens", merged, prefix)
    return None


def _cube_token_layout(tokens: int, size: Sequence[int]) -> SpatialLayout | None:
    """The grid of cubes with one edge in all directions, for patches that no convolution cut."""
    for prefix in PREFIX_TOKENS:
        for edge in range(2, min(size) + 1):
            grid = tuple(length // edge for length in size)
            if math.prod(grid) == tokens - prefix > 1 and all(length % edge == 0 for length in size):
                return SpatialLayout("tokens", grid, prefix)
    return None


def stride_distortion(grid: Sequence[int], size: Sequence[int]) -> float:
    """How far a grid's proportions are from the image's: 0 for the same stride in every direction."""
    strides = [math.log(s / g) for g, s in zip(grid, size, strict=True)]
    # A grid is rounded up or down to whole cells, which small grids feel most.
    slack = max(math.log((g + 1) / g) for g in grid)
    return max(0.0, max(strides) - min(strides) - slack)


def _token_layout(tokens: int, size: Sequence[int]) -> SpatialLayout | None:
    """The grid with the image's proportions and the fewest tokens before it.

    Grids whose cells cover the image exactly, as patches do, come first: nine tokens of a 28 by 28 image are two
    by two patches after a class token and four registers, not three by three.
    """
    height, width = size
    rounded: SpatialLayout | None = None
    for prefix in PREFIX_TOKENS:
        patches = max(tokens - prefix, 0)
        rows = round(math.sqrt(patches * height / width))
        if rows and patches % rows == 0 and patches > 1:
            grid = (rows, patches // rows)
            if height % rows == width % grid[1] == 0 and height // rows == width // grid[1]:
                return SpatialLayout("tokens", grid, prefix)
            if rounded is None and stride_distortion(grid, size) == 0:
                rounded = SpatialLayout("tokens", grid, prefix)
    return rounded


def at_example(shape: Sequence[Any]) -> list[int]:
    """A shape in whole numbers: the example's, where a graph is being traced with open dimensions."""
    return [size if isinstance(size, int) else int(size.node.hint) for size in shape]


def _open_grid(grid: Sequence[int], size: Sequence[Any]) -> tuple[Any, ...]:
    """A grid of tokens for an image of open size, in cells of the example's stride."""
    opened = []
    for cells, open_length, length in zip(grid, size, at_example(size), strict=True):
        stride = round(length / cells)
        rounded_down = length // stride == cells
        opened.append(open_length // stride if rounded_down else (open_length + stride - 1) // stride)
    return tuple(opened)
