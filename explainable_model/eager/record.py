"""Record what the layers of a network return, and which grids are maps of the image."""

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from explainable_model.attribution.containers import floating_tensors
from explainable_model.attribution.frames import FoldedLayout, frames_first, read_layout
from explainable_model.attribution.layout import PatchEmbedding, SpatialLayout, find_order, patch_embedding
from explainable_model.eager.checks import refuse_inference_tensor

# Layers that make a map of the image from a map of the image.
MAP_WORDS = ("Conv", "Pool", "Upsample", "PixelShuffle", "PixelUnshuffle")

SUM_ROUNDING = 1e-4  # of the sum of all magnitudes, for sums in another order

SOFTMAX_NAMES = ("Softmax", "Softmax2d", "Softmin", "LogSoftmax")


@dataclass(frozen=True)
class RecordedOutput:
    """What one layer returned at its last call.

    Attributes:
        number: the same for the same tensor.
        shape: of its first floating point tensor.
        layout: how that tensor is read as a map of the image, or ``None``.
        calls: how often the layer ran.
        is_attention: whether it holds attention probabilities.
    """

    number: int
    shape: tuple[int, ...]
    layout: SpatialLayout | FoldedLayout | None
    calls: int = 1
    is_attention: bool = False


class OutputRecord:
    """What the layers of a network return.

    Of each size of maps it keeps the channels' sum in one image and no other tensor, so that the run needs hardly more
    memory than another.

    Attributes:
        outputs: by layer, in the order of their last calls.
        grids: spatial sizes of the outputs that are maps of the image: those of convolutions and pooling, of patches
            cut out of the image, and of tokens that were merged from such a grid.
        model: the network.
        image_shape: ``(N, C, *spatial)``, with the frames as the first spatial dimension.
        stems: convolutions of as many channels as the image has, as the first of a network is.
        token_counts: how many tokens the sequences ``(N, tokens, K)`` of the run have.
    """

    def __init__(self, model: nn.Module, image: Tensor, frames: int | None = None) -> None:
        self.outputs: dict[str, RecordedOutput] = {}
        self.image_shape = frames_first(image.shape, frames)
        size = tuple(self.image_shape[2:])
        self.grids: set[tuple[int, ...]] = {size} if frames is None else {size, size[1:]}
        # For each number of values and grid of a map: the sum of the channels in the last such map of the first image.
        self._map_sums = {(math.prod(self.image_shape), size): _sum_channels(image, frames)}
        self.token_counts: set[int] = set()
        self.stems: set[str] = set()
        self.model = model
        self._given_shape, self._frames = tuple(image.shape), frames
        self._patches: PatchEmbedding | None = patch_embedding(model)
        self._numbers = WeakIdKeyDictionary()  # a tensor that is gone does not lend its identity to another
        self._count = 0
        self._thread = threading.get_ident()  # the network may be running in others at the same time

    def layout_of(self, tensor: Tensor, module: nn.Module | None = None) -> SpatialLayout | FoldedLayout | None:
        """How a tensor, the output of a module, is read as a map of the images, or of their frames."""
        order = None if module is None else find_order(module)
        return read_layout(tensor.shape, self._given_shape, self._frames, self._patches, order)

    def number(self, tensor: Tensor) -> int:
        """The same for the same tensor."""
        if tensor not in self._numbers:
            self._numbers[tensor] = self._count
            self._count += 1
        return int(self._numbers[tensor])

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Record what the layers return."""
        with ExitStack() as stack:
            versions: dict[int, int] = {}  # how often each output had been written to when it was last seen
            for name, module in self.model.named_modules():
                if name and not isinstance(module, torch.jit.ScriptModule):  # which has no hooks
                    stack.enter_context(module.register_forward_hook(self._recorder(name, versions)))
            yield

    def _recorder(self, name: str, versions: dict[int, int]) -> Callable[..., None]:
        def record(module: nn.Module, inputs: Any, output: Any) -> None:
            tensors = list(floating_tensors(output))
            if not tensors or threading.get_ident() != self._thread:
                return
            refuse_inference_tensor(self.model, tensors[0])
            tensor, numbers = tensors[0], [self.number(tensor) for tensor in tensors]
            layout = self.layout_of(tensor, module)
            self._record_grid(module, inputs, tensor, layout)
            if isinstance(module, nn.modules.conv._ConvNd) and module.in_channels == self.image_shape[1]:
                self.stems.add(name)
            earlier = self.outputs.pop(name, None)  # keep the order of the last calls
            # An output that is only handed on belongs to another layer, unless the layer wrote to it in place.
            is_handed_on = any(tensor is value for value in inputs)
            # A backbone returns the map of its last layer beside what it pooled from it; the prediction may depend on
            # the latter alone.
            known = {entry.number for entry in self.outputs.values()}
            is_handed_on |= len(tensors) > 1 and numbers[0] in known
            if not is_handed_on or versions.get(numbers[0]) != tensor._version:
                self.outputs[name] = RecordedOutput(
                    numbers[0],
                    tuple(tensor.shape),
                    layout,
                    earlier.calls + 1 if earlier else 1,
                    is_attention(module, tensor),
                )
            versions[numbers[0]] = tensor._version

        return record

    def _record_grid(
        self, module: nn.Module, inputs: Any, tensor: Tensor, layout: SpatialLayout | FoldedLayout | None
    ) -> None:
        """Learn which grids are maps of the image, from the layers that make maps."""
        source = next((value for value in inputs if isinstance(value, Tensor)), None)
        folded = self.image_shape[0] * self.image_shape[2] if self._frames is not None else None
        if source is None or not tensor.ndim or tensor.shape[0] not in (self.image_shape[0], folded):
            return
        for sequence in (source, tensor.mT if isinstance(module, nn.Unfold) else tensor):
            if sequence.ndim == 3:
                self._record_cut_patches(sequence)
                self.token_counts.add(sequence.shape[1])
        ndim = len(self.image_shape) - (tensor.shape[0] == folded)
        if tensor.ndim == source.ndim == ndim and any(word in type(module).__name__ for word in MAP_WORDS):
            if max(_kernel(module)) > 1 or tuple(source.shape[2:]) in self.grids:
                self.grids.add(tuple(tensor.shape[2:]))
                self._map_sums[tensor.numel(), tuple(tensor.shape[2:])] = _sum_channels(tensor)
        elif _kind(layout) in ("tokens", "channels_last"):
            self._record_merge(source, layout)

    def _record_cut_patches(self, sequence: Tensor) -> None:
        """``(N, tokens, K)`` with as many values as the image holds its patches, cut out.

        The first sequence of the run may hold the patches of a map as well; later ones, such as the hidden layer of a
        decoder of queries, may have as many values by chance.
        """
        layout = self.layout_of(sequence)
        grid = _frame_grid(layout)
        if _kind(layout) != "tokens":
            return
        image = (math.prod(self.image_shape), tuple(self.image_shape[2:]))
        for count, whole in (image,) if self.token_counts else tuple(self._map_sums):
            divides = len(grid) == len(whole) and all(w % g == 0 for w, g in zip(whole, grid, strict=True))
            if count == sequence.numel() and divides and _holds_patches(sequence, grid, self._map_sums[count, whole]):
                self.grids.add(grid)

    def _record_merge(self, source: Tensor, layout: SpatialLayout | FoldedLayout | None) -> None:
        """Tokens, or a map with channels last, that a layer made of a known grid, of half its height and width."""
        before = self.layout_of(source)
        if _kind(before) not in ("tokens", "channels_last") or _frame_grid(before) not in self.grids:
            return
        grid = _frame_grid(before)
        if _frame_grid(layout) == (*grid[:-2], *(-(-length // 2) for length in grid[-2:])):
            self.grids.add(_frame_grid(layout))

    def is_map(self, entry: RecordedOutput) -> bool:
        """Whether the entry is known to be a map of the image, and not only shaped like one."""
        return not entry.is_attention and _frame_grid(entry.layout) in self.grids

    def is_token_table(self, entry: RecordedOutput) -> bool:
        """Whether the entry may be ``(N, heads, tokens, ...)``: tokens by tokens, or tokens by width."""
        return len(entry.shape) > 3 and entry.shape[-2] in self.token_counts and not self.is_map(entry)


def _sum_channels(maps: Tensor, frames: int | None = None) -> Tensor:
    """``spatial``: the sum of the channels of the first map, with the frames as its first dimension."""
    first = maps.detach()[0] if frames is None else maps.detach()[0].movedim(frames - 1, 1)
    return first.float().sum(0)


def _holds_patches(sequence: Tensor, grid: tuple[int, ...], sums: Tensor) -> bool:
    """Whether a sequence with as many values as a map holds its patches, and not its columns or rows.

    A line of text is read column by column, ``(N, W, K * H)``. Where there are as many tokens as columns or rows, the
    values decide: the sum of a token is that of its patch.
    """
    if sequence.shape[1] not in sums.shape:
        return True
    cut = [part for cells, length in zip(grid, sums.shape, strict=True) for part in (cells, length // cells)]
    wanted = sums.reshape(cut).sum(tuple(range(1, len(cut), 2))).flatten()
    got = sequence.detach()[0].float().sum(-1)
    return got.shape == wanted.shape and bool((got - wanted).abs().max() <= SUM_ROUNDING * sums.abs().sum())


def _kind(layout: SpatialLayout | FoldedLayout | None) -> str:
    """How each frame is arranged."""
    layout = layout.layout if isinstance(layout, FoldedLayout) else layout
    return "none" if layout is None else layout.kind


def _frame_grid(layout: SpatialLayout | FoldedLayout | None) -> tuple[int, ...]:
    """The grid of each frame where the frames are folded into the batch, of all of the image otherwise."""
    layout = layout.layout if isinstance(layout, FoldedLayout) else layout
    return () if layout is None else layout.grid


def _kernel(module: nn.Module) -> tuple[int, ...]:
    kernel = getattr(module, "kernel_size", 0)
    return (kernel,) if isinstance(kernel, int) else tuple(kernel or (0,))


def is_attention(module: nn.Module, tensor: Tensor) -> bool:
    """Whether an output is a softmax's, or a square table whose rows sum to one."""
    if type(module).__name__.endswith(SOFTMAX_NAMES):
        return True
    if tensor.ndim < 4 or tensor.shape[-1] != tensor.shape[-2] or not tensor.numel():
        return False
    rows = tensor.detach()[:1].float()
    return bool((rows >= 0).all()) and torch.allclose(rows.sum(-1), torch.ones(()).to(rows), atol=1e-3)
