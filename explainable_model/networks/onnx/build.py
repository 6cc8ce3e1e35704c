"""Builds the steps of a network from the nodes of a graph."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from explainable_model.errors import ExplainableModelError, ModelError, first_line
from explainable_model.networks.onnx.constants import read_attribute, read_constant, read_constant_node, settle
from explainable_model.networks.onnx.file import STANDARD
from explainable_model.networks.onnx.names import Aliases, valid_name
from explainable_model.networks.onnx.node import OnnxNode, as_number, node_class
from explainable_model.networks.onnx.operators import OPERATORS
from explainable_model.networks.onnx.operators.call import Call, Operator
from explainable_model.networks.onnx.operators.fused import FUSED, FUSED_DOMAIN
from explainable_model.networks.onnx.operators.quantization import STRAIGHT, UNROUNDED
from explainable_model.networks.onnx.values import FAILURES, Value

CONTROL = ("If", "Loop", "Scan")
PASSED_ON = ("Add", "Sub", "Mul", "Div", "Cast", "Identity", "Dropout")  # of a constant and a rearranged value
ATTENTION = "AttentionSoftmax"
MOST_FOLDED = 2**32  # bytes of constants that are computed of others
ENDINGS = (
    "QuantizeLinear", "DequantizeLinear", "Softmax", "Sigmoid", "Identity", "Cast", "Reshape", "Flatten", "Squeeze"
)  # fmt: skip
HOW_TO_ADD = "Write a row for it: explainable_model/networks/onnx/operators, as CONTRIBUTING.md says"


@dataclass(frozen=True)
class Step:
    """One node of the graph that runs with every image.

    Attributes:
        layer: name of its submodule; ``""`` for arithmetic on shapes, which is no layer.
        run: the function of such arithmetic.
        inputs: names of the values that it takes.
        outputs: names of the values that it makes.
        title: type and name of its node.
    """

    layer: str
    run: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    title: str


@dataclass
class Build:
    """What is made of a graph.

    Attributes:
        opset: version of the operator set.
        batch: the only batch size of the file, where it is opened.
        rounds: whether activations are rounded to what integers stand for, where the file does so.
        constants: values by name.
        layers: submodules by name.
        steps: in their order.
        aliases: other names of the layers.
    """

    opset: int
    batch: int | None
    rounds: bool = True
    constants: dict[str, Value] = field(default_factory=dict)
    layers: dict[str, nn.Module] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    aliases: Aliases = field(default_factory=Aliases)
    _folded: int = 0
    _shapes: set[str] = field(default_factory=set)
    _passive: set[str] = field(default_factory=set)
    _attention: set[str] = field(default_factory=set)
    _last: set[str] = field(default_factory=set)

    def read(self, graph: Any, outputs: Sequence[str] = ()) -> None:
        """Read every node.

        Args:
            graph: with its weights.
            outputs: its outputs, where it does not list them.

        Raises:
            ModelError: a node that the reader does not compute, by its type and name.
        """
        self.constants.update((tensor.name, read_constant(tensor)) for tensor in graph.initializer)
        if graph.sparse_initializer:
            raise ModelError("the graph has sparse weights, which the reader does not know")
        self._attention = _find_attention(graph.node)
        self._last = _find_last_roundings(graph, outputs)
        waiting = deque(graph.node)
        while waiting:
            node = waiting.popleft()
            title = f"{node.op_type} {node.name!r}" if node.name else f"{node.op_type} (output {[*node.output]!r:.60})"
            try:
                if node.op_type == "If":
                    waiting.extendleft(reversed(self._choose_branch(node)))
                else:
                    self._read_node(node, title)
            except FAILURES as error:
                reason = error if isinstance(error, ExplainableModelError) else first_line(error)
                raise ModelError(f"The node {title} cannot be read: {reason}.") from error

    def _read_node(self, node: Any, title: str) -> None:
        if node.op_type == "Constant" and node.domain in STANDARD:
            self.constants[node.output[0]] = read_constant_node(node)
            return
        operator = _find_operator(node)
        attributes = {attribute.name: read_attribute(attribute) for attribute in node.attribute}
        if node.op_type == "QuantizeLinear":
            attributes |= {UNROUNDED: int(not self.rounds), STRAIGHT: int(node.output[0] in self._last)}
        outputs = len(node.output)
        while outputs > 1 and not node.output[outputs - 1]:
            outputs -= 1
        call = Call(node.op_type, node.name, self.opset, outputs, attributes, self.batch)
        flow = tuple(name for name in node.input if name and name not in self.constants)
        values = [self.constants.get(name) if name else None for name in node.input]
        if not flow:
            self._fold(node, call, operator, values)
            return
        self._add_step(node, call, operator, values, flow, title)

    def _fold(self, node: Any, call: Call, operator: Operator, values: Sequence[Value]) -> None:
        """Compute what depends on constants alone, once."""
        values = [as_number(value, operator, position) for position, value in enumerate(values)]
        with torch.no_grad():
            found = operator.run(call, *values)
        for name, value in zip(node.output, found if isinstance(found, tuple) else (found,), strict=False):
            self.constants[name] = settle(value.contiguous() if isinstance(value, Tensor) else value)
            self._folded += self.constants[name].nbytes
        if self._folded > MOST_FOLDED:
            raise ModelError(f"the constants that the graph computes take more than {MOST_FOLDED >> 30} GiB")

    def _add_step(
        self, node: Any, call: Call, operator: Operator, values: list[Value], flow: tuple[str, ...], title: str
    ) -> None:
        flows = [bool(name) and name not in self.constants for name in node.input]
        is_arithmetic = node.op_type in ("Shape", "Size") or all(name in self._shapes for name in flow)
        layer = self._make_layer(node, call, operator, values, flows)
        has_state = next(layer.parameters(), None) is not None or next(layer.buffers(), None) is not None
        outputs = tuple(node.output)
        if is_arithmetic:
            self._shapes.update(outputs)
        if is_arithmetic and not has_state and isinstance(layer, OnnxNode):
            self.steps.append(Step("", layer.forward, flow, outputs, title))
            return
        is_passed_on = node.op_type in PASSED_ON and len(flow) == 1 and flow[0] in self._passive
        if isinstance(layer, OnnxNode):
            layer.passive |= is_passed_on or is_arithmetic
        if operator.passive or is_passed_on:
            self._passive.update(outputs)
        name = valid_name(node.name or node.output[0], self.layers, node.op_type)
        self.layers[name] = layer
        folded = node.op_type == "Conv" and len(node.input) > 1 and node.input[1].startswith("onnx::")
        self.aliases.add(name, node, folded)
        self.steps.append(Step(name, None, flow, outputs, title))

    def _make_layer(
        self, node: Any, call: Call, operator: Operator, values: list[Value], flows: list[bool]
    ) -> nn.Module:
        if operator.build is not None and flows[0] and not any(flows[1:]):
            layer = operator.build(call, values)
            if layer is not None:
                return layer
        shown = ATTENTION if node.output[0] in self._attention else operator.shows or node.op_type
        return node_class(shown)(call, operator, values, flows)

    def _choose_branch(self, node: Any) -> list[Any]:
        """The nodes of the branch of an ``If`` whose condition is a constant."""
        from onnx import helper

        condition = self.constants.get(node.input[0])
        if condition is None:
            raise ModelError(
                "its condition is computed, and PyTorch's graphs have no branches; export the network with fixed "
                "sizes, or simplify the file (python -m onnxsim in.onnx out.onnx)"
            )
        branches = {attribute.name: attribute.g for attribute in node.attribute}
        branch = branches["then_branch" if bool(torch.as_tensor(condition).all()) else "else_branch"]
        self.constants.update((tensor.name, read_constant(tensor)) for tensor in branch.initializer)
        pairs = zip(branch.output, node.output, strict=True)
        ends = [helper.make_node("Identity", [inner.name], [outer]) for inner, outer in pairs]
        return [*branch.node, *ends]


def _find_operator(node: Any) -> Operator:
    if node.op_type in CONTROL and node.domain in STANDARD:
        raise ModelError(
            f"{node.op_type} repeats a part of the graph, which no graph of PyTorch holds; export without it"
        )
    if node.domain == FUSED_DOMAIN and node.op_type in FUSED:
        return FUSED[node.op_type]
    if node.domain not in STANDARD:
        raise ModelError(f"it is of the domain {node.domain!r}; expected an operator of ONNX itself. {HOW_TO_ADD}")
    if node.op_type not in OPERATORS:
        raise ModelError(f"the reader has no operator {node.op_type}. {HOW_TO_ADD}")
    return OPERATORS[node.op_type]


def _find_attention(nodes: Sequence[Any]) -> set[str]:
    """The outputs of each softmax that a matrix product reads: probabilities of attention, and no map."""
    softmax = {node.output[0]: node.output[0] for node in nodes if node.op_type == "Softmax"}
    found: set[str] = set()
    for node in nodes:
        if node.op_type in ("Dropout", "Identity", "Cast", "Where", "Reshape", "Transpose", "Expand"):
            softmax.update((node.output[0], softmax[name]) for name in node.input if name in softmax)
        if node.op_type in ("MatMul", "Einsum"):
            found.update(softmax[name] for name in node.input if name in softmax)
        if node.op_type == "Attention":
            found.add(node.output[0])
    return found


def _find_last_roundings(graph: Any, outputs: Sequence[str]) -> set[str]:
    """The roundings that nothing follows but what reads integers, rearranges them or makes probabilities of them."""
    maker = {name: node for node in graph.node for name in node.output}
    waiting, found = [*outputs, *(value.name for value in graph.output)], set[str]()
    while waiting:
        node = maker.get(waiting.pop())
        if node is not None and node.op_type in ENDINGS:
            waiting.append(node.input[0])
            if node.op_type == "QuantizeLinear":
                found.update(node.output)
    return found
