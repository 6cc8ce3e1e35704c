"""Cuts a graph behind a layer: what stays as the file has it, and what PyTorch computes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from explainable_model.errors import ModelError
from explainable_model.networks.onnx.file import STANDARD
from explainable_model.networks.onnx.names import Aliases, valid_name
from explainable_model.networks.onnx.operators import OPERATORS
from explainable_model.networks.onnx.structure import reads
from explainable_model.spelling import suggest

PULLED = ("DequantizeLinear",)  # read in the tail as well, so that what crosses the cut are the file's own integers
SHAPES = ("Shape", "Size")


@dataclass(frozen=True)
class Cut:
    """A graph in two parts.

    Attributes:
        layer: title of the node whose output is the first value that PyTorch sees.
        names: the name of its node and of its output.
        crossing: names of the values that the first part hands on.
        tail: nodes of the second part; the first of them hands on the layer's values.
        outputs: the outputs of the graph that the second part makes.
    """

    layer: str
    names: tuple[str, ...]
    crossing: tuple[str, ...]
    tail: tuple[Any, ...]
    outputs: tuple[str, ...]


class Links:
    """Who makes and who reads each value of a graph."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.nodes = list(graph.node)
        self.outputs = [value.name for value in graph.output]
        self.weights = {tensor.name for tensor in graph.initializer}
        self.inputs = {value.name for value in graph.input} - self.weights
        self.maker = {name: number for number, node in enumerate(self.nodes) for name in node.output if name}
        self.readers: dict[str, list[int]] = {}
        self.constant: set[str] = {"", *self.weights}
        self.shapes: set[str] = set()
        for number, node in enumerate(self.nodes):
            read = set(reads(node))
            for name in read:
                self.readers.setdefault(name, []).append(number)
            if read <= self.constant:
                self.constant.update(node.output)
            elif node.op_type in SHAPES or read - self.constant <= self.shapes:
                self.shapes.update(node.output)

    def is_known(self, number: int) -> bool:
        """Whether the reader computes a node."""
        node = self.nodes[number]
        return node.domain in STANDARD and (node.op_type in OPERATORS or node.op_type in ("If", "Constant"))

    def reach(self, first: str) -> list[int]:
        """The nodes that depend on a value, in order."""
        seen, found = {first}, []
        for number, node in enumerate(self.nodes):
            if seen.intersection(reads(node)):
                seen.update(name for name in node.output if name)
                found.append(number)
        return found

    def first_of(self, number: int) -> str:
        """The value that the graph is cut at for a layer."""
        return _find_first(self, number)[0]

    def find(self, layer: str) -> int:
        """The node that a name of a layer stands for.

        Raises:
            ModelError: no node has the name.
        """
        aliases, names = Aliases(), dict[str, int]()
        for number, node in enumerate(self.nodes):
            if not set(node.output) <= self.constant:
                name = valid_name(node.name or node.output[0], names, node.op_type)
                names[name] = number
                folded = node.op_type == "Conv" and len(node.input) > 1 and node.input[1].startswith("onnx::")
                aliases.add(name, node, folded)
        others = aliases.resolve()
        found = names.get(others.get(layer, layer))
        if found is None:
            hint = suggest(layer, [*names, *others])
            raise ModelError(f"it has no layer {layer!r}.{hint} The command explainable-model layers lists them")
        return found


def cut_at(links: Links, layer: int) -> Cut:
    """Cut a graph behind a node.

    Raises:
        ModelError: no output depends on the node, or the reader does not compute what follows it.
    """
    node = links.nodes[layer]
    title = node.name or node.output[0]
    first, source = _find_first(links, layer)
    value = f"{first}/layer"
    source.output[0], source.name = value, title
    source.metadata_props.extend(node.metadata_props)
    tail = links.reach(first)
    made = {first, *(name for number in tail for name in links.nodes[number].output)}
    outputs = tuple(name for name in links.outputs if name in made - {first})
    if not outputs:
        raise ModelError(f"no output of it depends on the layer {title!r}")
    for number in tail:
        if not links.is_known(number):
            other = links.nodes[number]
            raise ModelError(
                f"the operator {other.op_type} {other.name!r} of the domain {other.domain or 'ai.onnx'!r} follows the "
                f"layer {title!r}, and its gradient is not known. Name a layer after it"
            )
    pulled, crossing = _pull(links, tail, made)
    nodes = [source, *(_copy(links.nodes[number], {first: value}) for number in sorted({*tail, *pulled}))]
    names = tuple(name for name in (node.name, node.output[0]) if name)
    return Cut(title, names, tuple(dict.fromkeys([first, *crossing])), tuple(nodes), outputs)


def _find_first(links: Links, layer: int) -> tuple[str, Any]:
    """The value to cut at, and the node that hands on what it stands for.

    A file that rounds the layer's output hands on its own integers, so that a runtime computes them as in the file
    itself, and not in another way because somebody looks at the value before it is rounded. The reader keeps what
    integers stand for, and the file's own nodes that ask for it pass it on.
    """
    from onnx import helper

    node = links.nodes[layer]
    value = node.output[0]
    if node.op_type == "DequantizeLinear" and node.input[0] not in links.constant:
        source = _copy(node, {})
        del source.metadata_props[:]
        return node.input[0], source
    readers = [links.nodes[number] for number in links.readers.get(value, [])]
    if len(readers) == 1 and readers[0].op_type == "QuantizeLinear" and value not in links.outputs:
        first = readers[0].output[0]
        source = helper.make_node("DequantizeLinear", [first, *readers[0].input[1:]], [""])
        source.attribute.extend(each for each in readers[0].attribute if each.name == "axis")
        return first, source
    return value, helper.make_node("Identity", [value], [""])


def _pull(links: Links, tail: Sequence[int], made: set[str]) -> tuple[list[int], list[str]]:
    """The further nodes that the tail needs (constants, arithmetic on shapes), and the values that it reads."""
    pulled: list[int] = []
    crossing: list[str] = []
    waiting = [name for number in tail for name in reads(links.nodes[number])]
    while waiting:
        name = waiting.pop(0)
        number = links.maker.get(name)
        if name in made or name in links.weights or name in links.inputs or not name or number in pulled:
            continue
        is_own = name in links.constant or name in links.shapes
        if number is not None and (is_own or links.nodes[number].op_type in PULLED):
            pulled.append(number)
            waiting += reads(links.nodes[number])
        elif name not in crossing:
            crossing.append(name)
    return pulled, crossing


def _copy(node: Any, renamed: dict[str, str]) -> Any:
    """The node, reading other values."""
    from onnx import NodeProto

    found = NodeProto()
    found.CopyFrom(node)
    for position, name in enumerate(found.input):
        found.input[position] = renamed.get(name, name)
    return found
