"""A network whose file stays as it is: PyTorch computes what follows a layer, for its gradient alone."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from explainable_model.networks.onnx.build import Build
from explainable_model.networks.onnx.cut import Cut
from explainable_model.networks.onnx.inputs import ImageInputs
from explainable_model.networks.onnx.kept import KEPT_GRAPH, KeptGraph, NodesOfFile, as_in_file
from explainable_model.networks.onnx.network import OnnxNetwork
from explainable_model.networks.onnx.node import OnnxNode
from explainable_model.networks.onnx.values import Value, tensor

IN_FILE = "{} in the file"  # an output as the file's own nodes make it


class KeptNetwork(OnnxNetwork):
    """The nodes of a file in ONNX Runtime, and those behind a layer in PyTorch as well.

    Its outputs are those of the file. The layer and what follows it are layers of PyTorch, so that methods find
    activations and gradients there.

    Attributes:
        graph: the nodes of the file.
        cut: where the part begins that PyTorch computes, too.
    """

    def __init__(
        self,
        graph: KeptGraph,
        cut: Cut,
        build: Build,
        taker: ImageInputs,
        fixed_batch: int | None,
        metadata: Mapping[str, str],
        outputs: tuple[str, ...],
    ) -> None:
        super().__init__(build, taker.inputs, outputs, fixed_batch, taker.channels_last, metadata)
        self.graph, self.cut = graph, cut
        layer = next(step.layer for step in self.steps if step.outputs[0] == cut.tail[0].output[0])
        source = self.get_submodule(layer)
        if isinstance(source, OnnxNode):
            source.passive = False  # it stands for the layer, whatever it computes
        for name in (*cut.names, cut.crossing[0]):
            if name != layer:
                self.layer_aliases.setdefault(name, layer)

    @property
    def layer_note(self) -> str:
        """What to do about a layer that PyTorch does not see."""
        return (
            f"The layers before {self.cut.layer!r} stay nodes of the file: read it with from_onnx(path, "
            "keep_graph='LAYER') to explain another one, or with keep_graph=False."
        )

    def _begin(self, inputs: dict[str, Value]) -> dict[str, Value]:
        image = inputs[self.inputs[0].name]
        given = [inputs[each.name].to(each.dtype) for each in self.inputs]
        if torch.is_grad_enabled() and any(each.requires_grad for each in given):
            found = NodesOfFile.apply(self.graph.key, *given)
        else:
            found = KEPT_GRAPH(given, self.graph.key)
        values: dict[str, Any] = dict(inputs)
        for name, value in zip(self.graph.values, found, strict=True):
            if value.is_floating_point() and image.dtype is torch.float64:
                value = value.double()
            if name in self.output_names:
                values[IN_FILE.format(name)] = value
            if name in self.cut.crossing:
                values[name] = value
        return values

    def _end(self, name: str, values: dict[str, Value]) -> Tensor:
        theirs: Tensor = values[IN_FILE.format(name)]
        if name not in self.cut.outputs or not theirs.is_floating_point():
            return theirs
        return as_in_file(tensor(values[name]), theirs)
