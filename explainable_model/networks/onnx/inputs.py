"""The inputs of a graph: which one is the image, and how it is laid out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from explainable_model.errors import ModelError
from explainable_model.networks.onnx.operators.indexing import DTYPES

CHANNELS = (1, 3, 4)
IMAGE_RANKS = (3, 4, 5)
PIXELS = (torch.uint8, torch.int8, torch.int32, torch.int64)


@dataclass(frozen=True)
class GraphInput:
    """One input of the graph.

    Attributes:
        name: as in the file.
        shape: sizes, ``None`` where they are open.
        dtype: of the file.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: torch.dtype

    @property
    def image_dtype(self) -> torch.dtype:
        """The type of the network's image: floating point, where the file takes whole pixels as well."""
        return self.dtype if self.dtype.is_floating_point else torch.float32


class TakesImages(Protocol):
    """What says how a graph takes its image: a network, or the record of a graph that is not read yet."""

    @property
    def inputs(self) -> Sequence[GraphInput]: ...

    @property
    def channels_last(self) -> bool: ...


@dataclass(frozen=True)
class ImageInputs:
    """The inputs of a graph, the image first, and whether it takes images with their channels last."""

    inputs: tuple[GraphInput, ...]
    channels_last: bool


def image_shape(taker: TakesImages) -> tuple[int | None, ...]:
    """``(C, *spatial)`` of the image, ``None`` where the file leaves a size open."""
    shape = taker.inputs[0].shape[1:]
    return (shape[-1], *shape[:-1]) if taker.channels_last else tuple(shape)


def read_inputs(graph: Any) -> list[GraphInput]:
    """The inputs, the image first.

    Raises:
        ModelError: none of them is an image, or one is a sequence, a map or text.
    """
    constants = {tensor.name for tensor in graph.initializer}
    found = [_read_input(value) for value in graph.input if value.name not in constants]
    images = [each for each in found if len(each.shape) in IMAGE_RANKS]
    images.sort(key=lambda each: (not each.dtype.is_floating_point, len(each.shape) == 3))
    if not images:
        listed = ", ".join(f"{each.name} {each.shape}" for each in found) or "none"
        raise ModelError(
            f"The graph takes no image: its inputs are {listed}; expected one of shape (N, C, H, W) or (N, H, W, C), "
            "or with one or three spatial dimensions."
        )
    return [images[0], *(each for each in found if each is not images[0])]


def _read_input(value: Any) -> GraphInput:
    if value.type.WhichOneof("value") != "tensor_type":
        kind = value.type.WhichOneof("value") or "value without a type"
        raise ModelError(f"The input {value.name!r} is a {kind}; expected a tensor.")
    kind = value.type.tensor_type
    dtype = DTYPES.get(kind.elem_type)
    if dtype is None:
        raise ModelError(f"The input {value.name!r} holds text or numbers of a type that PyTorch does not have.")
    sizes = tuple(
        size.dim_value if size.HasField("dim_value") and size.dim_value > 0 else None for size in kind.shape.dim
    )
    return GraphInput(value.name, sizes, dtype)


def read_image_inputs(graph: Any, layout: str | None) -> ImageInputs:
    """The inputs and the layout of images, found from the graph where ``layout`` does not say it."""
    inputs = read_inputs(graph)
    is_last = find_channels_last(inputs[0], graph.node) if layout is None else layout == "NHWC"
    return ImageInputs(tuple(inputs), is_last)


def find_channels_last(image: GraphInput, nodes: Sequence[Any]) -> bool:
    """Whether the file takes images with their channels last, as TensorFlow and Keras do.

    The sizes tell, and where they are open the first node: it brings the channels to the front.
    """
    first, last = image.shape[1] if len(image.shape) > 1 else None, image.shape[-1]
    if len(image.shape) < 4:
        return False
    if (last in CHANNELS) != (first in CHANNELS):
        return last in CHANNELS
    names = {image.name}
    for node in nodes:
        if names & set(node.input):
            if node.op_type in ("Cast", "Identity", "Sub", "Div", "Mul", "Add"):  # pixels are scaled first
                names.update(node.output)
            elif node.op_type == "Transpose":
                order = next((list(a.ints) for a in node.attribute if a.name == "perm"), [])
                return order == [0, len(order) - 1, *range(1, len(order) - 1)]
    return False
