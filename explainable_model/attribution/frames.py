"""Images with an axis of frames, which a network may fold into the batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from explainable_model.attribution.argument_values import describe
from explainable_model.attribution.layout import (
    Order,
    PatchEmbedding,
    ReshapeTransform,
    SpatialLayout,
    at_example,
    find_layout,
)
from explainable_model.errors import LayerError


def frames_first(image_shape: Sequence[Any], frames: int | None) -> tuple[Any, ...]:
    """The shape of an image with its frames as the first spatial dimension: ``(N, C, T, *spatial)``.

    Args:
        image_shape: of the image.
        frames: the axis of its frames; ``None`` for an image without frames, whose shape stays.
    """
    shape = tuple(image_shape)
    if frames is None:
        return shape
    rest = [length for axis, length in enumerate(shape) if axis not in (0, frames)]
    return (shape[0], rest[0], shape[frames], *rest[1:])


@dataclass(frozen=True)
class FoldedLayout:
    """The layout of a layer whose batch holds the frames of every image, one after the other.

    Attributes:
        layout: of each frame.
        frames: how many there are.
    """

    layout: SpatialLayout
    frames: int

    @property
    def grid(self) -> tuple[int, ...]:
        """Frames and spatial size of the map."""
        return (self.frames, *self.layout.grid)

    def to_map(self, activations: Tensor) -> Tensor:
        """``(M * T, ...)`` as ``(M, K, T, *grid)``."""
        maps = self.layout.to_map(activations)
        return maps.reshape(-1, self.frames, *maps.shape[1:]).movedim(1, 2)


def read_layout(
    shape: Sequence[Any],
    image_shape: Sequence[Any],
    frames: int | None,
    patches: PatchEmbedding | None,
    order: Order | None = None,
) -> SpatialLayout | FoldedLayout | None:
    """Read a layer's output shape as a map of each image, or of each frame of the images.

    Args:
        shape: the layer's output shape.
        image_shape: of the image.
        frames: the axis of the image's frames, or ``None``.
        patches, order: see ``find_layout``.

    Returns:
        ``None`` where the output has neither the batch of the images nor that of their frames, or is no map.
    """
    if not shape:  # a scalar, such as a loss
        return None
    batch, _, *size = example = at_example(frames_first(image_shape, frames))
    rows = at_example(shape[:1])[0]
    if frames is not None and rows == batch * size[0]:
        count = size[0]
        layout = find_layout(shape, (rows, example[1], *frames_first(image_shape, frames)[3:]), patches, order)
        return None if layout is None else FoldedLayout(layout, count)
    return find_layout(shape, frames_first(image_shape, frames), patches, order) if rows == batch else None


def layout_of(
    name: str,
    activations: Tensor,
    image: Tensor,
    reshape_transform: ReshapeTransform | None,
    patches: PatchEmbedding | None = None,
    frames: int | None = None,
    order: Order | None = None,
) -> ReshapeTransform:
    """The function that reads this layer's output as ``(N, K, *spatial)``.

    Raises:
        LayerError: the output is not a spatial map of the image, or ``reshape_transform`` does not
            make one.
    """
    if reshape_transform is None:
        layout = read_layout(activations.shape, image.shape, frames, patches, order)
        if layout is None:
            raise LayerError(
                f"target_layer {name!r} has no spatial map: its output has shape {tuple(activations.shape)} for an "
                f"image of shape {tuple(image.shape)}; expected (N, K, *grid), (N, *grid, K) or (N, tokens, K) with "
                "the tokens of a grid of patches. Choose another layer, or pass reshape_transform to rearrange this "
                f"one's output.{frames_hint(image.ndim, frames)}"
            )
        return layout.to_map
    mapped = reshape_transform(activations)
    if not isinstance(mapped, Tensor):
        raise LayerError(f"reshape_transform made {describe(mapped)} of {tuple(activations.shape)}; expected a tensor.")
    if mapped.ndim != image.ndim or mapped.shape[0] != image.shape[0]:
        raise LayerError(
            f"reshape_transform made {tuple(mapped.shape)} of {tuple(activations.shape)}; expected "
            f"{image.ndim} dimensions (N, K, *spatial) for an image of shape {tuple(image.shape)}."
        )
    return reshape_transform


def frames_hint(ndim: int, frames: int | None) -> str:
    """What to write where an image may have frames and nobody said so; empty for others."""
    if frames is not None or ndim != 5:
        return ""
    return " If the image has frames, say which axis they are: frames=1 for (N, T, C, H, W)."


def check_frames(image_shape: Sequence[int], frames: int | None) -> None:
    """Refuse an axis of frames that the image does not have; ``None`` is none.

    Raises:
        LayerError: the image has no such axis, or none left for its channels and its height.
    """
    if frames is not None and (not 1 <= frames < len(image_shape) or len(image_shape) < 4):
        raise LayerError(
            f"frames is {frames} for an image of shape {tuple(image_shape)}; expected the axis of its frames: 1 for "
            "(N, T, C, H, W), 2 for (N, C, T, H, W)."
        )
