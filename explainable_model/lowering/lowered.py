"""The lowered module: prediction and explanation as one forward-only graph."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.fx.traceback import preserve_node_meta

from explainable_model.artifact.detecting import Detecting
from explainable_model.artifact.metadata import Profile
from explainable_model.artifact.shapes import SizeRange, format_shape, shape_problem, spatial
from explainable_model.attribution.boxes import BoxScore, detection_outputs
from explainable_model.attribution.explain import explain
from explainable_model.attribution.inputs import (
    check_class_idx,
    check_class_range,
    check_image,
    check_inputs,
    predicted_class_idx,
)
from explainable_model.attribution.network import DifferentiableNetwork
from explainable_model.attribution.plan import Plan
from explainable_model.errors import InputError
from explainable_model.explanation import DrawnExplanation, Explanation, OutputKind, as_detections, as_explanation
from explainable_model.lowering.capture.export import quiet_export, without_autocast
from explainable_model.lowering.capture.leftovers import release_inputs
from explainable_model.lowering.dynamic_shapes import DynamicDims, open_shapes, share_batch
from explainable_model.lowering.imaging import PhotoIO
from explainable_model.lowering.output_ending import OutputEnding
from explainable_model.lowering.output_kind import classify_output
from explainable_model.networks.onnx.kept import find_kept


class TracedExplanation(nn.Module):
    """Forward graph, vector-Jacobian products and CAM method as one traceable forward."""

    def __init__(self, network: DifferentiableNetwork, graph: fx.GraphModule, plan: Plan) -> None:
        super().__init__()
        self.network = graph  # a module named "graph" would hide a GraphModule's own attribute
        self._network, self._plan = network, plan

    def forward(self, image: Tensor, class_idx: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        share_batch(image, class_idx, *inputs)
        with preserve_node_meta():
            answer = explain(self._network, self._plan, image, class_idx, inputs)
            return detection_outputs(*answer) if isinstance(self._plan.target, BoxScore) else answer


class LoweredModel(nn.Module, Detecting[Tensor]):
    """A forward-only ATen graph that predicts and explains: no autograd, no hook, no state.

    ``lower`` makes it. It is called like ``ExplainableModel``.

    Attributes:
        graph_module: ``forward(image, class_idx, *inputs) -> (logits, class_idx, cam)``.
        plan: what is explained and how.
        sizes: which sizes are accepted for each spatial dimension; ``None`` for only those of the example.
        example: ``(N, C, *spatial)``, the image that the graph was traced with.
        example_inputs: the extra inputs that it was traced with.
        classes: how many classes can be explained.
        dynamic_batch: whether any batch size is accepted, or only that of the example.
        photo_io: how it prepares photos and draws on them; ``None`` where it takes the network's own input.
        profile: ``portable`` where the graph keeps to the operators that strict runtimes have, else ``full``.
        ending: the operators that the network's output ends with, see ``classify_output``.
        notes: what the file that the network was read from says about itself.
        input_names: names of that file's inputs which an ONNX artifact keeps, see ``Metadata.input_names``.
        kept: graphs of files whose own nodes the graph runs.
    """

    def __init__(
        self,
        graph_module: fx.GraphModule,
        plan: Plan,
        example: Tensor,
        example_inputs: tuple[Tensor, ...] = (),
        *,
        classes: int,
        dynamic_batch: bool,
        sizes: Sequence[SizeRange] | None = None,
        photo_io: PhotoIO | None = None,
        profile: Profile = "full",
        ending: OutputEnding | None,
        notes: Mapping[str, str] | None = None,
        input_names: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.graph_module = graph_module
        self.plan = plan
        self.example = example
        self.example_inputs = example_inputs
        self.classes = classes
        self.dynamic_batch = dynamic_batch
        self.sizes = sizes
        self.photo_io = photo_io
        self.profile = profile
        self.ending = ending
        self.notes, self.input_names = dict(notes or {}), dict(input_names or {})
        self.kept = tuple(find_kept(graph_module.graph))
        self.eval()

    def forward(
        self, image: Tensor, class_idx: Tensor | None = None, *inputs: Tensor
    ) -> Explanation[Tensor] | DrawnExplanation[Tensor]:
        """Predict and explain.

        Args:
            image: ``(N, C, *spatial)``; everything but the open dimensions as in the example. Photos for a
                graph that prepares them.
            class_idx: ``(N,)`` int64 (``(N, k)`` with ``top_k=k``); ``-1`` or ``None`` for the predicted class.
            inputs: what else the network and the target take.

        Raises:
            InputError: an image or class index that the graph cannot take.
        """
        if self.photo_io is None:
            check_image(image)
        problem = shape_problem(image.shape, self.image_shape, self.sizes, self.pixels)
        shape = format_shape(self.image_shape, self.pixels)
        if problem is not None or image.dtype != self.example.dtype:
            raise InputError(
                f"image is {image.dtype} of shape {tuple(image.shape)}; the network was lowered for "
                f"{self.example.dtype} of shape {shape}{problem or ''}. Lower it again for another size."
            )
        if class_idx is None:
            class_idx = predicted_class_idx(image, self.plan.top_k)
        check_class_idx(class_idx, image.shape[0], self.plan.top_k)
        if class_idx.device.type == "cpu":
            check_class_range(class_idx, self.classes)
        check_inputs(inputs, image.shape[0], len(self.example_inputs))
        with without_autocast(image.device.type):  # where the network ran under it, its conversions are in the graph
            outputs = self.graph_module(image, class_idx, *inputs)
        if isinstance(self.plan.target, BoxScore):
            return cast(Explanation[Tensor], as_detections(outputs))
        return as_explanation(outputs).with_kind(lambda: self.output_kind)

    if TYPE_CHECKING:  # nn.Module says only that a call returns something

        def __call__(
            self, image: Tensor, class_idx: Tensor | None = None, *inputs: Tensor
        ) -> Explanation[Tensor] | DrawnExplanation[Tensor]: ...

    @cached_property
    def precision(self) -> str:
        """The coarsest floating point type that the graph computes in: the image's, unless autocast changed it."""
        values = (node.meta.get("val") for node in self.graph_module.graph.nodes)
        dtypes = {value.dtype for value in values if isinstance(value, Tensor) and value.is_floating_point()}
        coarsest = max(dtypes | {self.dtype}, key=lambda dtype: torch.finfo(dtype).eps)
        return str(coarsest).removeprefix("torch.")

    @cached_property
    def output_kind(self) -> OutputKind:
        """How the prediction is read as probabilities, see ``OutputKind``."""
        if isinstance(self.plan.target, BoxScore):
            return "scores"
        return classify_output(self.ending, self.outputs[0])

    @cached_property
    def outputs(self) -> tuple[Tensor, ...]:
        """The graph's outputs for the example."""
        with torch.no_grad():
            outputs: tuple[Tensor, ...] = self.graph_module(*self.inputs)
            return outputs

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of logits and maps."""
        return self.example.dtype if self.photo_io is None else self.photo_io.dtype

    @property
    def pixels(self) -> str | None:
        """Layout of the photos that it takes; ``None`` where it takes the network's own input."""
        return None if self.photo_io is None else self.photo_io.pixels

    @property
    def size(self) -> list[int]:
        """Spatial size of the example."""
        return spatial(self.example.shape, self.pixels)

    @property
    def image_shape(self) -> list[int | None]:
        """Shape of the image, with ``None`` where it is open."""
        open_dims = DynamicDims(self.dynamic_batch, self.sizes is not None, self.pixels).of_image(self.example)
        return [None if dim in open_dims else size for dim, size in enumerate(self.example.shape)]

    @property
    def logits_shape(self) -> tuple[int, ...]:
        """Shape of the logits, or of a detector's boxes, for the example's batch."""
        return tuple(self.outputs[0].shape)

    @property
    def cam_shape(self) -> tuple[int, ...]:
        """Shape of the maps for the example's batch."""
        return tuple(self.outputs[-1 if isinstance(self.plan.target, BoxScore) else 2].shape)

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The example as the graph's inputs, asking for the predicted class."""
        return self.example, predicted_class_idx(self.example, self.plan.top_k), *self.example_inputs

    @cached_property
    def exported_program(self) -> ExportedProgram:
        """The graph as a ``torch.export`` program."""
        with quiet_export():
            program = torch.export.export(
                Retraced(self.graph_module),
                self.inputs,
                dynamic_shapes=open_shapes(
                    DynamicDims(self.dynamic_batch, self.sizes is not None, self.pixels),
                    self.example,
                    len(self.example_inputs),
                ),
                strict=False,
            )
        for node in reversed(program.graph.nodes):
            if node.target is torch.ops.aten._assert_tensor_metadata.default:  # they name the example's device
                program.graph.erase_node(node)
        program.graph_module.recompile()
        release_inputs(program)
        return program


class Retraced(nn.Module):
    """Runs a graph node by node, so that what is traced from it keeps the names of its layers."""

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, class_idx: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        share_batch(image, class_idx, *inputs)
        with preserve_node_meta():
            outputs: tuple[Tensor, ...] = fx.Interpreter(self.network).run(image, class_idx, *inputs)
        return outputs
