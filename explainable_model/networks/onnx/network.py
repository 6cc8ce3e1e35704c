"""The network that an ONNX file holds, as a module of PyTorch."""

import json
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from explainable_model.errors import InputError, TraceError
from explainable_model.explanation import own_names
from explainable_model.networks.onnx.build import Build, Step
from explainable_model.networks.onnx.inputs import GraphInput, image_shape
from explainable_model.networks.onnx.node import OnnxNode
from explainable_model.networks.onnx.values import Value, tensor

SOURCE_KEY = "explained_from"
"""Key of the note that holds the names of the file's inputs, the image first, and of its outputs."""

REARRANGED = ("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")

Watch = Callable[[str, Value], None]
"""``(name of a value of the graph, value)``, called for each value that the network computes."""


class OnnxNetwork(nn.Module):
    """A network that ``from_onnx`` read; every node that computes with the image is one of its layers.

    Attributes:
        inputs: what the graph takes, the image first.
        output_names: names of its outputs. One is returned as it is, several as a dictionary.
        layer_aliases: other names of layers (of nodes, tensors and modules of the exported network) -> its name here.
        fixed_batch: the only batch size that it takes; ``None`` for any.
        casts_image: whether the file takes images of another type than it computes in.
        channels_last: whether the file takes images ``(N, H, W, C)``; this network takes ``(N, C, H, W)`` always.
        metadata: what the file says about itself.
    """

    def __init__(
        self,
        build: Build,
        inputs: Sequence[GraphInput],
        outputs: Sequence[str],
        fixed_batch: int | None,
        channels_last: bool,
        metadata: Mapping[str, str],
    ) -> None:
        super().__init__()
        self.inputs, self.output_names = tuple(inputs), tuple(outputs)
        self.fixed_batch, self.channels_last = fixed_batch, channels_last
        self.metadata, self.layer_aliases = dict(metadata), build.aliases.resolve()
        steps = _needed(build.steps, outputs)
        used = {step.layer for step in steps}
        for name, layer in build.layers.items():
            if name in used:
                self.add_module(name, layer)
        self.steps = steps
        weight = next((each for each in self.parameters() if each.is_floating_point()), None)
        self.casts_image = weight is not None and weight.dtype != self.dtype
        self._last = {name: position for position, step in enumerate(steps) for name in step.inputs}
        self._constants = {name: build.constants[name] for name in outputs if name in build.constants}
        self.eval()

    def forward(self, image: Tensor, *others: Tensor) -> Tensor | dict[str, Tensor]:
        return self.run(image, *others)

    def run(self, image: Tensor, *others: Tensor, watch: Watch | None = None) -> Tensor | dict[str, Tensor]:
        """Predict.

        Args:
            image: ``(N, C, *spatial)``.
            others: the further inputs of the graph, in its order.
            watch: is told every value that a node computes.

        Raises:
            InputError: another number of inputs, or a batch size that the file does not take.
        """
        if len(others) != len(self.inputs) - 1:
            names = ", ".join(f"{each.name} {each.shape}" for each in self.inputs)
            raise InputError(f"{1 + len(others)} inputs given; the network takes {len(self.inputs)}: {names}.")
        if self.fixed_batch is not None and image.shape[0] != self.fixed_batch:
            text = f"The file was made for batches of {self.fixed_batch}; got {image.shape[0]} images."
            raise (
                TraceError(text) if torch.compiler.is_exporting() else InputError(text)
            )  # which tries the file's batch
        seen = image.movedim(1, -1) if self.channels_last else image
        values = self._begin(dict(zip([each.name for each in self.inputs], (seen, *others), strict=True)))
        for position, step in enumerate(self.steps):
            self._run_step(step, values, watch)
            for name in step.inputs:
                if self._last[name] == position and name not in self.output_names:
                    values.pop(name, None)
        found = {name: self._end(name, values) for name in self.output_names}
        return found if len(found) > 1 else found[self.output_names[0]]

    def _begin(self, inputs: dict[str, Value]) -> dict[str, Value]:
        """The values that the first step may read."""
        return inputs

    def _end(self, name: str, values: dict[str, Value]) -> Tensor:
        """An output of the graph."""
        return tensor(values[name] if name in values else self._constants[name])

    def _run_step(self, step: Step, values: dict[str, Value], watch: Watch | None) -> None:
        given = [values[name] for name in step.inputs]
        found = self.get_submodule(step.layer)(*given) if step.layer else step.run(*given)
        for name, value in zip(step.outputs, found if isinstance(found, tuple) else (found,), strict=False):
            if name:
                values[name] = value
                if watch is not None:
                    watch(name, value)

    def operator_of(self, value: str) -> str:
        """The operator whose values a value holds, whatever rearranges them; empty where it is a layer of PyTorch."""
        makers = {name: step for step in self.steps for name in step.outputs}
        while value in makers and makers[value].layer:
            layer = self.get_submodule(makers[value].layer)
            if not isinstance(layer, OnnxNode):
                return ""
            if layer.call.operator not in REARRANGED:
                return layer.call.operator
            value = makers[value].inputs[0]
        return ""

    def title_of(self, value: str) -> str:
        """Type and name of the node that makes a value."""
        return next((step.title for step in self.steps if value in step.outputs), value)

    @property
    def image_shape(self) -> tuple[int | None, ...]:
        """``(C, *spatial)`` of the image, ``None`` where the file leaves a size open."""
        return image_shape(self)

    @property
    def notes(self) -> dict[str, str]:
        """What an artifact tells of the file: its metadata, and the names of its inputs and outputs."""
        names = {"inputs": [each.name for each in self.inputs], "outputs": list(self.output_names)}
        return {**self.metadata, SOURCE_KEY: json.dumps(names)}

    @property
    def kept_names(self) -> dict[str, str]:
        """Names of the file's inputs that its explanation keeps: of those that take what the file's own take."""
        image, others = self.inputs[0], self.inputs[1:]
        is_same = image.dtype.is_floating_point and not self.channels_last
        return own_names([image.name if is_same else None, *(each.name for each in others)])

    @property
    def dtype(self) -> torch.dtype:
        """Of the image."""
        return self.inputs[0].image_dtype


def _needed(steps: Sequence[Step], outputs: Sequence[str]) -> tuple[Step, ...]:
    """The steps that an output depends on."""
    wanted, kept = set(outputs), []
    for step in reversed(steps):
        if any(name in wanted for name in step.outputs):
            kept.append(step)
            wanted.update(step.inputs)
    return tuple(reversed(kept))
