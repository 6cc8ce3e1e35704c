"""The forms of ONNX's operators in other opsets: a node of opset 18 is written in nodes that the opset has."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from explainable_model.artifact.runner import Array

WRITTEN = 18  # what PyTorch's exporter writes
END = 2**63 - 1  # ONNX's number for the end of an axis


class NoForm(Exception):
    """A node that the opset has no form for.

    Attributes:
        missing: the part of it that the opset lacks.
        since: the first opset that has it.
    """

    def __init__(self, missing: str, since: int = WRITTEN) -> None:
        super().__init__(missing)
        self.missing, self.since = missing, since


@dataclass
class Writer:
    """Writes nodes in the place of one node.

    Attributes:
        node: the node that is replaced.
        graph: of the model.
        opset: the wanted one.
        written: the nodes so far.
    """

    node: Any
    graph: Any
    opset: int
    written: list[Any] = field(default_factory=list)

    @property
    def inputs(self) -> list[Any]:
        """The values that the node reads; ``None`` for an optional one that is left out."""
        return list(self.node.inputs)

    def read(self, name: str, default: Any = None) -> Any:
        """An attribute of the node."""
        attribute = self.node.attributes.get(name)
        return default if attribute is None else attribute.value

    def attributes(self, *left_out: str) -> dict[str, Any]:
        """The attributes of the node, without some of them."""
        return {name: each for name, each in self.node.attributes.items() if name not in left_out}

    def add(self, operator: str, inputs: Sequence[Any], outputs: int = 1, **attributes: Any) -> Any:
        """Write one node; its output, or a list of several."""
        import onnx_ir

        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        given = [each for each in attributes.values() if isinstance(each, onnx_ir.Attr)]
        made = {name: each for name, each in attributes.items() if not isinstance(each, onnx_ir.Attr)}
        converted = [*given, *onnx_ir.convenience.convert_attributes(made)]
        origin = dict(self.node.metadata_props)
        node = onnx_ir.Node("", operator, inputs, converted, num_outputs=outputs, metadata_props=origin)
        for value in node.outputs:
            value.name = f"{self.node.outputs[0].name}/{operator}_{len(self.written)}"
        self.written.append(node)
        return node.outputs[0] if outputs == 1 else list(node.outputs)

    def constant(self, array: Array) -> Any:
        """A new weight of the graph."""
        import onnx_ir

        name = f"{self.node.outputs[0].name}/constant_{len(self.graph.initializers)}"
        tensor = onnx_ir.tensor(array, name=name)
        kind = onnx_ir.TensorType(tensor.dtype)
        value = onnx_ir.Value(name=name, shape=onnx_ir.Shape(array.shape), type=kind, const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def numbers(self, position: int, meaning: str) -> list[int] | None:
        """The numbers of an input that is constant; ``None`` where it is left out.

        Raises:
            NoForm: the graph computes them.
        """
        import onnx_ir

        value = self.inputs[position] if len(self.inputs) > position else None
        if value is None:
            return None
        tensor = onnx_ir.convenience.get_const_tensor(value)
        if tensor is None:
            raise NoForm(f"{meaning} that the graph computes")
        return [int(number) for number in tensor.numpy().ravel()]

    def rank(self) -> int:
        """The number of dimensions of the first input.

        Raises:
            NoForm: nothing says it.
        """
        shape = self.inputs[0].shape
        if shape is None:
            raise NoForm("a tensor of unknown rank")
        return len(shape)


Form: TypeAlias = Callable[[Writer], Any]


def write_reduction(writer: Writer) -> Any:
    """Reductions: the axes are an attribute."""
    image, axes = writer.inputs[0], writer.numbers(1, "axes")
    if not axes and writer.read("noop_with_empty_axes", 0):
        return writer.add("Identity", [image])
    attributes = writer.attributes("noop_with_empty_axes")
    if axes:
        attributes["axes"] = axes
    return writer.add(writer.node.op_type, [image], **attributes)


def write_split(writer: Writer) -> Any:
    """Splits into a number of parts: their sizes are an input."""
    count = writer.read("num_outputs")
    if count is None:
        return writer.add("Split", writer.inputs, len(writer.node.outputs), **writer.attributes())
    length = writer.inputs[0].shape[writer.read("axis", 0)] if writer.inputs[0].shape is not None else None
    if not isinstance(length, int):
        raise NoForm("parts of an axis of unknown length")
    part = -(-length // count)
    sizes = [*[part] * (count - 1), length - part * (count - 1)]
    inputs = [writer.inputs[0], writer.constant(np.array(sizes, np.int64))]
    return writer.add("Split", inputs, count, **writer.attributes("num_outputs"))


def write_pad(writer: Writer) -> Any:
    """Pads some axes: the others get zeros."""
    axes, inputs = writer.numbers(3, "axes"), writer.inputs
    if axes is None:
        return writer.add("Pad", inputs, **writer.attributes())
    pads, rank = writer.numbers(1, "borders") or [], writer.rank()
    both = np.zeros((2, rank), np.int64)
    both[:, [axis % rank for axis in axes]] = np.array(pads).reshape(2, -1)
    return writer.add("Pad", [inputs[0], writer.constant(both.ravel()), *inputs[2:3]], **writer.attributes())


def write_resize(writer: Writer) -> Any:
    """Resizes every axis, without antialiasing."""
    if writer.read("antialias", 0):
        raise NoForm("antialiased resizing, which an artifact that takes photos does")
    if writer.read("axes") is not None or writer.read("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise NoForm("resizing of some axes")
    return writer.add("Resize", writer.inputs, **writer.attributes("antialias", "keep_aspect_ratio_policy"))


def write_layer_norm(writer: Writer) -> Any:
    """``(x - mean) / sqrt(variance + epsilon) * scale + bias``, the statistics in float32."""
    import onnx_ir

    if any(value.uses() or value.is_graph_output() for value in writer.node.outputs[1:]):
        raise NoForm("the statistics of LayerNormalization as results", 17)
    image, scale, bias = [*writer.inputs, None][:3]
    rank, axis = writer.rank(), writer.read("axis", -1)
    axes = list(range(axis - rank if axis >= 0 else axis, 0))
    if image.dtype is None:
        raise NoForm("LayerNormalization of an unknown type", 17)
    is_half = image.dtype in (onnx_ir.DataType.FLOAT16, onnx_ir.DataType.BFLOAT16) and writer.read("stash_type", 1) == 1
    single = int(onnx_ir.DataType.FLOAT)
    values = writer.add("Cast", [image], to=single) if is_half else image
    epsilon = np.array(writer.read("epsilon", 1e-5), np.float32 if is_half else image.dtype.numpy())
    centered = writer.add("Sub", [values, writer.add("ReduceMean", [values], axes=axes, keepdims=1)])
    variance = writer.add("ReduceMean", [writer.add("Mul", [centered, centered])], axes=axes, keepdims=1)
    deviation = writer.add("Sqrt", [writer.add("Add", [variance, writer.constant(epsilon)])])
    normed = writer.add("Div", [centered, deviation])
    if is_half:
        normed = writer.add("Cast", [normed], to=int(image.dtype))
    scaled = writer.add("Mul", [normed, scale])
    return scaled if bias is None else writer.add("Add", [scaled, bias])


def write_scatter(writer: Writer) -> Any:
    """Scatters that replace values; since opset 16 they also add and multiply."""
    reduction, old = writer.read("reduction", "none"), writer.opset < 16
    if reduction != "none" and (old or reduction in ("max", "min")):
        since = WRITTEN if reduction in ("max", "min") else 16
        raise NoForm(f"{writer.node.op_type} with the reduction {reduction}", since)
    return writer.add(writer.node.op_type, writer.inputs, **writer.attributes(*(["reduction"] if old else [])))


def write_shape(writer: Writer) -> Any:
    """A part of a shape."""
    whole = writer.add("Shape", writer.inputs)
    bounds = [writer.read("start", 0), writer.read("end", END)]
    if bounds == [0, END]:
        return whole
    return writer.add("Slice", [whole, *(writer.constant(np.array([n], np.int64)) for n in (*bounds, 0))])


def write_cast_like(writer: Writer) -> Any:
    """A conversion to the type of another tensor."""
    if writer.inputs[1].dtype is None:
        raise NoForm("a conversion to an unknown type", 15)
    return writer.add("Cast", writer.inputs[:1], to=int(writer.inputs[1].dtype))


def write_reshape(writer: Writer) -> Any:
    """Reshapes: a zero is no size here, since no tensor of an artifact is empty."""
    return writer.add("Reshape", writer.inputs, **writer.attributes("allowzero"))


def write_batch_norm(writer: Writer) -> Any:
    """Batch norm of a network that is not trained."""
    if writer.read("training_mode", 0):
        raise NoForm("batch norm in training", 14)
    return writer.add("BatchNormalization", writer.inputs, **writer.attributes("training_mode"))


def write_hard_swish(writer: Writer) -> Any:
    """``x * clip(x / 6 + 1 / 2, 0, 1)``."""
    image = writer.inputs[0]
    return writer.add("Mul", [image, writer.add("HardSigmoid", [image], alpha=1 / 6, beta=0.5)])


def write_mish(writer: Writer) -> Any:
    """``x * tanh(softplus(x))``."""
    image = writer.inputs[0]
    return writer.add("Mul", [image, writer.add("Tanh", [writer.add("Softplus", [image])])])


def rename_modes(writer: Writer) -> Any:
    """Names of interpolations since opset 20."""
    mode = writer.read("mode", "bilinear")
    renamed = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    return writer.add("GridSample", writer.inputs, **writer.attributes("mode"), mode=renamed)


REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSumSquare",
)  # fmt: skip
OLDER: Mapping[str, tuple[int, Form]] = {
    **dict.fromkeys(REDUCTIONS, (18, write_reduction)),
    "Split": (18, write_split),
    "Pad": (18, write_pad),
    "Resize": (18, write_resize),
    "Mish": (18, write_mish),
    "ScatterElements": (18, write_scatter),
    "ScatterND": (18, write_scatter),
    "LayerNormalization": (17, write_layer_norm),
    "Shape": (15, write_shape),
    "CastLike": (15, write_cast_like),
    "Reshape": (14, write_reshape),
    "BatchNormalization": (14, write_batch_norm),
    "HardSwish": (14, write_hard_swish),
}
"""The first opset that has an operator as PyTorch's exporter writes it, and its form in older ones."""

NEWER: Mapping[str, tuple[int, Form]] = {"GridSample": (20, rename_modes)}
"""The first opset that reads an operator in another way than opset 18, and its form there."""
