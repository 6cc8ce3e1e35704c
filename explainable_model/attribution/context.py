"""``MethodContext``: the activations, gradients and scores that a method works with."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor

from explainable_model.attribution.batching import repeat, split
from explainable_model.attribution.frames import frames_first, layout_of, read_layout
from explainable_model.attribution.layout import SpatialLayout
from explainable_model.attribution.network import CurvedNetwork, DifferentiableNetwork, ForwardRun, ReplayableNetwork
from explainable_model.attribution.plan import Plan
from explainable_model.attribution.postprocess import resize_maps
from explainable_model.errors import LayerError
from explainable_model.explanation import Progress

# Pixels that run at once on a CPU, in all copies of an image together. A larger batch is slower there: its activations
# leave the cache, and blocks of more than 32 MiB are mapped, zeroed and returned at every allocation.
CPU_PIXELS = 2**18

# A mean of gradients that cancel is rounding where it is so many times the dtype's precision smaller than they are; in
# 16 bits, which have few digits to lose, one time.
MEAN_ROUNDING = 32
COARSE_EPS = 1e-5


@dataclass(frozen=True)
class MethodContext:
    """One layer of one run of the network, and the k classes of each image that are explained.

    Attributes:
        network: to run again.
        plan: what is to be explained.
        first: the run on the images themselves.
        layer: position of the layer in ``plan.layers``.
        shared: gradients of ``first``, which all layers share.
        progress: told how many copies are done.
    """

    network: DifferentiableNetwork
    plan: Plan
    first: ForwardRun
    layer: int = 0
    shared: list[Tensor] = field(default_factory=list)
    progress: Progress | None = None

    @property
    def image(self) -> Tensor:
        """``(N, C, *spatial)``."""
        return self.first.image

    @property
    def framed_image(self) -> Tensor:
        """``(N, C, *size)``: the image with its frames as the first spatial dimension, where it has some."""
        return self.image if self.plan.frames is None else self.image.movedim(self.plan.frames, 2)

    @property
    def size(self) -> Sequence[Any]:
        """Spatial size of the image, with its frames first where it has some."""
        return frames_first(self.image.shape, self.plan.frames)[2:]

    @property
    def classes(self) -> int:
        """How many classes of each image are explained: k."""
        return self.plan.count

    @property
    def _tap(self) -> int:
        return self.layer + len(self.first.activations) - len(self.plan.layers)

    @cached_property
    def to_map(self) -> Callable[[Tensor], Tensor]:
        """From the layer's output ``(M, ...)`` to ``(M, K, *grid)``."""
        name, activations = self.plan.layers[self.layer], self.first.activations[self._tap]
        plan = self.plan
        return layout_of(
            name,
            activations,
            self.image,
            plan.reshape_transform,
            plan.patches,
            plan.frames,
            plan.orders.get(name),
        )

    @cached_property
    def layout(self) -> SpatialLayout:
        """How the layer's output is arranged.

        Raises:
            LayerError: a function of the user's rearranges it, which cannot be undone.
        """
        name, activations = self.plan.layers[self.layer], self.first.activations[self._tap]
        order = self.plan.orders.get(name)
        layout = read_layout(activations.shape, self.image.shape, self.plan.frames, self.plan.patches, order)
        if self.plan.reshape_transform is not None or not isinstance(layout, SpatialLayout):
            raise LayerError(
                f"{self.plan.method.name} changes the output of {name!r} and needs to know how it is arranged; with "
                "reshape_transform, or frames folded into the batch, it does not. Choose a layer whose output is "
                "(N, K, *grid), (N, *grid, K) or tokens."
            )
        return layout

    @cached_property
    def activations(self) -> Tensor:
        """``(N, K, *grid)``."""
        return self.to_map(self.first.activations[self._tap])

    @property
    def scores(self) -> Tensor:
        """``(N, k)``: the score of each explained class."""
        return self.first.scores.asked

    def gradients(self, weights: Tensor | None = None) -> Tensor:
        """``(N, k, K, *grid)``: gradient of the scores, or of other weights of them ``(N, k, S)``."""
        return self._mapped(self._gradients(weights)[self._tap])

    def averaged_gradients(self, weights: Tensor | None = None) -> Tensor:
        """``(N, k, K, *grid)``: as ``gradients``, for a method that takes their spatial mean.

        Instance normalization subtracts the mean of every channel, so the gradient before it has mean zero up to
        rounding, and a map of such means would show rounding noise. These channels become zero.
        """
        return self._without_rounded_means(self.gradients(weights))

    def averaged_curvature(self) -> Tensor:
        """``(N, k, K, *grid)``: Hessian of the scores times the activations, treated as ``averaged_gradients``."""
        curvature = self._mapped(cast(CurvedNetwork, self.network).curvature(self.first, self._tap))
        return self._without_rounded_means(curvature)

    def _without_rounded_means(self, gradients: Tensor) -> Tensor:
        if torch.compiler.is_exporting() and not self.plan.has_rounded_means:
            return gradients
        return without_rounded_means(gradients)

    def image_gradients(self) -> Tensor:
        """``(N, k, C, *spatial)``: gradient of the scores by the image."""
        return self._gradients()[0]

    def guided_image_gradients(self) -> Tensor:
        """``(N, k, C, *spatial)``: gradient of the scores by the image; a ReLU passes its positive values alone."""
        network, run = cast(ReplayableNetwork, self.network).guided(self.first)
        return network.gradients(run)[0]

    def tap_gradients(self) -> list[tuple[Tensor, Tensor]]:
        """Output ``(N, ...)`` and gradient ``(N, k, ...)`` of every tap, as the layers return them."""
        return list(zip(self.first.activations, self._gradients(), strict=True))

    def _gradients(self, weights: Tensor | None = None) -> list[Tensor]:
        if weights is not None:
            return self.network.gradients(self.first, weights)
        if not self.shared:
            self.shared.extend(self.network.gradients(self.first))
        return self.shared

    def _mapped(self, gradients: Tensor) -> Tensor:
        frames = gradients.shape[0] // self.image.shape[0]
        if self.plan.frames is not None and frames > 1:  # (N * T, k, ...) -> (N, k, T, ...)
            gradients = gradients.reshape(-1, frames, *gradients.shape[1:]).transpose(1, 2)
            return split(self.to_map(gradients.flatten(0, 2)), self.classes)
        return split(self.to_map(gradients.flatten(0, 1)), self.classes)

    def upsampled(self, maps: Tensor) -> Tensor:
        """Maps ``(N, k, *grid)``, nowhere negative, at image size: resized as the plan says, else linearly."""
        upsample = self.plan.postprocess.upsample
        large = resize_maps(maps, self.size, "bilinear" if upsample == "none" else upsample)
        return large.relu() if upsample == "bicubic" else large

    def image_chunks(self, copies: int) -> Iterator[tuple[int, int]]:
        """Ranges of copies of the image that run through the network at once."""
        size = self.plan.chunk_size
        if self.image.device.type == "cpu" and not torch.compiler.is_exporting():
            size = max(1, min(size, CPU_PIXELS // self.image[:, 0].numel()))
        return self._chunks(copies, size)

    def tail_chunks(self, copies: int) -> Iterator[tuple[int, int]]:
        """Ranges of copies of the activations that run through the tail at once."""
        return self._chunks(copies, self.plan.chunk_size)

    def _chunks(self, copies: int, size: int) -> Iterator[tuple[int, int]]:
        for start in range(0, copies, size):
            stop = min(start + size, copies)
            yield start, stop
            if self.progress is not None:
                self.progress("copies", stop, copies)

    def rerun(self, images: Tensor) -> "MethodContext":
        """The context of changed copies of the images: its N is ``N * copies``, its classes are the same.

        Args:
            images: ``(N, copies, C, *spatial)``.
        """
        copies = images.shape[1]
        classes = self.first.scores.class_idx
        class_idx = repeat(classes.squeeze(1) if self.plan.top_k is None else classes, copies)
        inputs = [repeat(tensor, copies) for tensor in self.first.inputs]
        return replace(self, first=self.network.run(images.flatten(0, 1), class_idx, inputs), shared=[])

    def image_scores(self, make: Callable[[int, int], Tensor], copies: int) -> Tensor:
        """The network's scores for changed copies of each image.

        Args:
            make: ``(start, stop) -> (N, stop - start, C, *size)``, some of the copies, made of ``framed_image``.
            copies: how many there are of each image.

        Returns:
            ``(N, k, copies)``.
        """
        frames, parts = self.plan.frames, []
        for start, stop in self.image_chunks(copies):
            images = make(start, stop)
            changed = images if frames is None else images.movedim(3, frames + 1)
            parts.append(split(self.rerun(changed).scores, stop - start))
        return torch.cat(parts, 1).transpose(1, 2)

    def tail_scores(self, make: Callable[[int, int], Tensor], copies: int) -> Tensor:
        """The network's scores for changed copies of each image's activations; only the tail runs.

        Args:
            make: ``(start, stop) -> (N, stop - start, K, *grid)``, some of the copies.
            copies: how many there are of each image.

        Returns:
            ``(N, k, copies)``.
        """
        parts = []
        for start, stop in self.tail_chunks(copies):
            count = stop - start
            raw = self.layout.from_map(
                make(start, stop).flatten(0, 1), repeat(self.first.activations[self._tap], count)
            )
            values = cast(ReplayableNetwork, self.network).tail(self.first, self._tap, raw, count)
            parts.append(split(values.gather(1, repeat(self.first.scores.columns, count)), count))
        return torch.cat(parts, 1).transpose(1, 2)


def without_rounded_means(gradients: Tensor) -> Tensor:
    """Set each channel of ``(N, k, K, *grid)`` to zero whose spatial mean is zero up to rounding."""
    keep = ~rounded_means(gradients)
    return gradients * keep.to(gradients.dtype).reshape(*keep.shape, *[1] * (gradients.ndim - 3))


def rounded_means(gradients: Tensor) -> Tensor:
    """Whether the spatial mean of each channel of ``(N, k, K, *grid)`` is zero up to rounding, ``(N, k, K)``."""
    eps = torch.finfo(gradients.dtype).eps
    tolerance = (MEAN_ROUNDING if eps < COARSE_EPS else 1) * eps
    cells = gradients.float().flatten(3) if eps >= COARSE_EPS else gradients.flatten(3)
    size = cells.abs().mean(3)
    return (cells.mean(3).abs() <= tolerance * size) & (size > 0)
