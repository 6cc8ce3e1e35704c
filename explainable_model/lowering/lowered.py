"""The lowered module: prediction and explanation as one forward-only graph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch.export import ExportedProgram

from explainable_model.errors import InputError
from explainable_model.explanation import CLASS_IDX, IMAGE, PREDICTED, Explanation
from explainable_model.layers import ReshapeTransform, layout_of
from explainable_model.lowering.call import Lowering
from explainable_model.lowering.capture import quiet_export
from explainable_model.lowering.differentiate import Tail, preserve_node_meta, run_backward, run_forward
from explainable_model.lowering.one_hot import OneHot
from explainable_model.lowering.shapes import OpenDims
from explainable_model.metadata import SizeRange, shape_problem, written
from explainable_model.methods import find_method
from explainable_model.model import check_image
from explainable_model.postprocess import finish
from explainable_model.targets import check_class_idx, check_class_range, class_scores, resolve_class_idx


@dataclass(frozen=True)
class Recipe:
    """What is explained and how: the options of ``ExplainableModel`` that shape the graph."""

    model: str
    target_layer: str
    method: str
    normalize: bool
    upsample: bool
    reshape_transform: ReshapeTransform | None = None


class TracedExplanation(nn.Module):
    """Forward graph, vector-Jacobian products and CAM method as one traceable forward."""

    def __init__(
        self, graph: fx.GraphModule, tail: Tail, recipe: Recipe, lowerings: Mapping[OpOverload, Lowering]
    ) -> None:
        super().__init__()
        self.network = graph  # a module named "graph" would hide a GraphModule's own attribute
        self._tail, self._recipe, self._lowerings = tail, recipe, lowerings

    def forward(self, image: Tensor, class_idx: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with preserve_node_meta():
            values, saved = run_forward(self.network, self._tail, image)
            logits, activations = values[self._tail.output], values[self._tail.tap]
            scores = class_scores(logits, image.shape[0])
            class_idx = resolve_class_idx(class_idx, scores)
            one_hot = OneHot(class_idx, scores)
            seed = one_hot if logits.ndim == 2 else _spread(one_hot.dense(), logits)
            gradients = run_backward(self._tail, values, saved, seed, self._lowerings)
        recipe = self._recipe
        to_map = layout_of(recipe.target_layer, activations, image, recipe.reshape_transform)
        cam = find_method(recipe.method)(to_map(activations), to_map(gradients))
        cam = finish(cam, image.shape[2:], normalize=recipe.normalize, upsample=recipe.upsample)
        return logits, class_idx, cam


def _spread(seed: Tensor, logits: Tensor) -> Tensor:
    """Gradient of the class scores with respect to logits of another rank than two."""
    if logits.ndim == 1:
        return seed.squeeze(1)
    return seed.reshape(-1, seed.shape[1], *[1] * (logits.ndim - 2)).expand_as(logits)


class LoweredModel(nn.Module):
    """A forward-only ATen graph that predicts and explains: no autograd, no hook, no state.

    Made by ``lower``. Calls like ``ExplainableModel``.

    Attributes:
        graph_module: ``forward(image, class_idx) -> (logits, class_idx, cam)``.
        recipe: what is explained and how.
        dynamic_batch: whether any batch size is accepted, or only that of the example.
        sizes: which sizes are accepted for each spatial dimension; ``None`` for only those of the example.
        example: ``(N, C, *spatial)``, the image that the graph was traced with.
    """

    def __init__(
        self,
        graph_module: fx.GraphModule,
        recipe: Recipe,
        example: Tensor,
        *,
        dynamic_batch: bool,
        sizes: Sequence[SizeRange] | None = None,
    ) -> None:
        super().__init__()
        self.graph_module = graph_module
        self.recipe = recipe
        self.example = example
        self.dynamic_batch = dynamic_batch
        self.sizes = sizes
        self.eval()

    def forward(self, image: Tensor, class_idx: Tensor | None = None) -> Explanation[Tensor]:
        """Predict and explain.

        Args:
            image: ``(N, C, *spatial)``; everything but the open dimensions as in the example.
            class_idx: ``(N,)`` int64; ``-1`` or ``None`` for the predicted class.

        Raises:
            InputError: an image or class index that the graph cannot take.
        """
        check_image(image)
        problem, shape = shape_problem(image.shape, self.image_shape, self.sizes), written(self.image_shape)
        if problem is not None or image.dtype != self.example.dtype:
            raise InputError(
                f"image is {image.dtype} of shape {tuple(image.shape)}; the network was lowered for "
                f"{self.example.dtype} of shape {shape}{problem or ''}. Lower it again for another size."
            )
        if class_idx is None:
            class_idx = torch.full((image.shape[0],), PREDICTED, dtype=torch.int64, device=image.device)
        check_class_idx(class_idx, image.shape[0])
        if class_idx.device.type == "cpu":
            check_class_range(class_idx, self.classes)
        return Explanation(*self.graph_module(image, class_idx))

    @cached_property
    def _output_shapes(self) -> list[tuple[int, ...]]:
        with torch.no_grad():
            return [tuple(output.shape) for output in self.graph_module(*self.inputs)]

    @property
    def image_shape(self) -> list[int | None]:
        """Shape of the image, with ``None`` where it is open."""
        batch, channels, *size = self.example.shape
        return [None if self.dynamic_batch else batch, channels, *([None] * len(size) if self.sizes else size)]

    @property
    def logits_shape(self) -> tuple[int, ...]:
        """Shape of the logits for the example's batch."""
        return self._output_shapes[0]

    @property
    def cam_shape(self) -> tuple[int, ...]:
        """Shape of the maps for the example's batch."""
        return self._output_shapes[2]

    @property
    def classes(self) -> int:
        """How many classes can be explained."""
        return self.logits_shape[1] if len(self.logits_shape) > 1 else 1

    @property
    def inputs(self) -> tuple[Tensor, Tensor]:
        """The example as the graph's two inputs, asking for the predicted class."""
        batch = self.example.shape[0]
        return self.example, torch.full((batch,), PREDICTED, dtype=torch.int64, device=self.example.device)

    @cached_property
    def exported_program(self) -> ExportedProgram:
        """The graph as a ``torch.export`` program."""
        with quiet_export():
            return torch.export.export(
                _Retraced(self.graph_module),
                self.inputs,
                dynamic_shapes=open_shapes(OpenDims(self.dynamic_batch, self.sizes is not None), self.example),
                strict=False,
            )


class _Retraced(nn.Module):
    """Runs a graph node by node, so that what is traced from it keeps the names of its layers."""

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, class_idx: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with preserve_node_meta():
            outputs: tuple[Tensor, Tensor, Tensor] = fx.Interpreter(self.network).run(image, class_idx)
        return outputs


def open_shapes(dims: OpenDims, image: Tensor) -> dict[str, Any]:
    """``dynamic_shapes`` of the two inputs for ``torch.export``."""
    return {IMAGE: dims.of_image(image), CLASS_IDX: dims.of_class_idx()}
