"""Operators that compute in integers, written out: what their integers stand for, the plain operator, and rounding."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from explainable_model.errors import ModelError
from explainable_model.networks.onnx.file import STANDARD

MICROSOFT = "com.microsoft"
ROUNDING = frozenset({"QuantizeLinear", "DynamicQuantizeLinear"})


@dataclass
class Written:
    """The nodes that one operator is written out to.

    Attributes:
        node: as the file has it.
        nodes: in their order.
    """

    node: Any
    nodes: list[Any] = field(default_factory=list)

    def read(self, *names: str, axis: int | None = None) -> str:
        """What integers stand for: ``names`` are the integers, their scale and their zero point."""
        made = self._new_name()
        self._add("DequantizeLinear", [name for name in names if name], made, {} if axis is None else {"axis": axis})
        return made

    def multiply(self, first: str, second: str) -> str:
        """A product, as of two scales."""
        made = self._new_name()
        self._add("Mul", [first, second], made, {})
        return made

    def finish(self, operator: str, inputs: Sequence[str], scale: str = "", zero: str = "", **attributes: Any) -> None:
        """The plain operator, which has the name of the node, and the rounding of its result where it has a scale."""
        output = self.node.output[0]
        result = f"{output}/real" if scale else output
        self._add(operator, inputs, result, attributes, self.node.name)
        if scale:
            self._add("QuantizeLinear", [name for name in (result, scale, zero) if name], output, {})

    def _new_name(self) -> str:
        return f"{self.node.output[0]}/real_{len(self.nodes)}"

    def _add(
        self, operator: str, inputs: Sequence[str], output: str, attributes: dict[str, Any], name: str = ""
    ) -> None:
        from onnx import helper

        made = helper.make_node(operator, list(inputs), [output], name=name, **attributes)
        if name:
            made.metadata_props.extend(self.node.metadata_props)
        self.nodes.append(made)


def _convolution(written: Written, attributes: dict[str, Any]) -> None:
    x, x_scale, x_zero, w, w_scale, w_zero, scale, zero, *bias = written.node.input
    inputs = [written.read(x, x_scale, x_zero), written.read(w, w_scale, w_zero, axis=0)]
    if bias and bias[0]:
        inputs.append(written.read(bias[0], written.multiply(x_scale, w_scale), axis=0))
    written.finish("Conv", inputs, scale, zero, **attributes)


def _matrix_product(written: Written, attributes: dict[str, Any]) -> None:
    a, a_scale, a_zero, b, b_scale, b_zero, scale, zero = written.node.input
    written.finish("MatMul", [written.read(a, a_scale, a_zero), written.read(b, b_scale, b_zero, axis=-1)], scale, zero)


def _linear(written: Written, attributes: dict[str, Any]) -> None:
    a, a_scale, a_zero, b, b_scale, b_zero, *rest = written.node.input
    bias, scale, zero = [*rest, "", "", ""][:3]
    along = 0 if attributes.get("transB") else 1
    inputs = [written.read(a, a_scale, a_zero), written.read(b, b_scale, b_zero, axis=along)]
    if bias:
        inputs.append(written.read(bias, written.multiply(a_scale, b_scale), axis=0))
    written.finish("Gemm", inputs, scale, zero, **attributes)


def _pair(operator: str) -> Callable[[Written, dict[str, Any]], None]:
    def write(written: Written, attributes: dict[str, Any]) -> None:
        a, a_scale, a_zero, b, b_scale, b_zero, scale, zero = [*written.node.input, "", ""][:8]
        written.finish(operator, [written.read(a, a_scale, a_zero), written.read(b, b_scale, b_zero)], scale, zero)

    return write


def _single(operator: str) -> Callable[[Written, dict[str, Any]], None]:
    def write(written: Written, attributes: dict[str, Any]) -> None:
        x, x_scale, x_zero, scale, zero = [*written.node.input, ""][:5]
        if attributes.pop("channels_last", 0):
            raise ModelError(f"The node {written.node.op_type} {written.node.name!r} has its channels last.")
        attributes.pop("opset", None)
        written.finish(operator, [written.read(x, x_scale, x_zero)], scale, zero, **attributes)

    return write


def _concatenation(written: Written, attributes: dict[str, Any]) -> None:
    scale, zero, *parts = written.node.input
    triples = [parts[position : position + 3] for position in range(0, len(parts), 3)]
    written.finish("Concat", [written.read(*triple) for triple in triples], scale, zero, **attributes)


WRITTEN: dict[tuple[str, str], Callable[[Written, dict[str, Any]], None]] = {
    ("", "QLinearConv"): _convolution,
    ("", "QLinearMatMul"): _matrix_product,
    (MICROSOFT, "QGemm"): _linear,
    (MICROSOFT, "QLinearAdd"): _pair("Add"),
    (MICROSOFT, "QLinearMul"): _pair("Mul"),
    (MICROSOFT, "QLinearAveragePool"): _single("AveragePool"),
    (MICROSOFT, "QLinearGlobalAveragePool"): _single("GlobalAveragePool"),
    (MICROSOFT, "QLinearLeakyRelu"): _single("LeakyRelu"),
    (MICROSOFT, "QLinearSigmoid"): _single("Sigmoid"),
    (MICROSOFT, "QLinearSoftmax"): _single("Softmax"),
    (MICROSOFT, "QLinearConcat"): _concatenation,
}
"""Domain and type of an operator -> how it is written out."""


def row_of(node: Any) -> tuple[str, str]:
    """Domain, ``""`` for ONNX's own, and type of a node."""
    return "" if node.domain in STANDARD else node.domain, node.op_type


def is_quantized(model: Any) -> bool:
    """Whether activations are rounded to what integers stand for, or are integers."""
    rows = {row_of(node) for node in model.graph.node}
    return bool(rows & WRITTEN.keys()) or any(not domain and kind in ROUNDING for domain, kind in rows)


def write_out(model: Any) -> Any:
    """The model with ``QLinearConv`` and its like as plain operators between ``DequantizeLinear`` and
    ``QuantizeLinear``; values keep their names, and a model without such operators is returned as it is.

    Raises:
        ModelError: one of them has an attribute that is not known.
    """
    from onnx import ModelProto, helper

    if not any(row_of(node) in WRITTEN for node in model.graph.node):
        return model
    plain = ModelProto()
    plain.CopyFrom(model)
    del plain.graph.node[:]
    for node in model.graph.node:
        write = WRITTEN.get(row_of(node))
        if write is None:
            plain.graph.node.append(node)
            continue
        written = Written(node)
        write(written, {each.name: helper.get_attribute_value(each) for each in node.attribute})
        plain.graph.node.extend(written.nodes)
    return plain
