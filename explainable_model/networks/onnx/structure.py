"""Brings the nodes of a graph in order, and bounds what a file unpacks to, before anything computes with it."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from explainable_model.errors import ModelError

MOST_NODES = 1_000_000  # after the functions of a file are written out
LONG_FILE = 2**30
BITS = {  # of one element, by ONNX's number of its type
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16,
    17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2,
}  # fmt: skip


def check_functions(model: Any) -> None:
    """Count the nodes that the functions of a file stand for; each may call others again and again.

    Raises:
        ModelError: more than ``MOST_NODES``, or a function that calls itself.
    """
    functions = {(each.domain, each.name, each.overload): each for each in model.functions}
    counts: dict[tuple[str, str, str], int] = {}
    waiting: list[tuple[str, str, str]] = []

    def count(key: tuple[str, str, str]) -> int:
        if key in waiting:
            raise ModelError(f"the function {key[1]!r} of the file calls itself")
        if key not in counts:
            waiting.append(key)
            counts[key] = sum(map(size, walk_nodes(functions[key].node)))
            waiting.pop()
        return counts[key]

    def size(node: Any) -> int:
        key = (node.domain, node.op_type, node.overload)
        found = count(key) if key in functions else 1
        if found > MOST_NODES:
            raise ModelError(f"the functions of the file stand for more than {MOST_NODES:,} nodes")
        return found

    if sum(map(size, walk_nodes(model.graph.node))) > MOST_NODES:
        raise ModelError(f"the functions of the file stand for more than {MOST_NODES:,} nodes")


def walk_nodes(nodes: Any) -> Iterator[Any]:
    """Every node of a graph and of the graphs inside its nodes."""
    for node in nodes:
        yield node
        for graph in inner_graphs(node):
            yield from walk_nodes(graph.node)


def inner_graphs(node: Any) -> Iterator[Any]:
    """The graphs inside of a node."""
    for attribute in node.attribute:
        yield from attribute.graphs
        if attribute.HasField("g"):
            yield attribute.g


def reads(node: Any) -> Iterator[str]:
    """Names of the values that a node takes, those that graphs inside of it take from outside among them."""
    yield from node.input
    for inner in inner_graphs(node):
        own = {tensor.name for tensor in inner.initializer} | {value.name for value in inner.input}
        own.update(name for each in inner.node for name in each.output)
        yield from (name for each in inner.node for name in reads(each) if name not in own)
        yield from (value.name for value in inner.output if value.name not in own)


def sort_nodes(graph: Any) -> None:
    """Put each node of a graph behind those that make what it reads, as ONNX Runtime does by itself.

    Raises:
        ModelError: a node makes nothing or a value a second time, or nodes wait for each other.
    """
    maker: dict[str, int] = {}
    for number, node in enumerate(graph.node):
        if not node.output:
            raise ModelError(f"the node {node.op_type} {node.name!r} has no output")
        for name in filter(None, node.output):
            if maker.setdefault(name, number) != number:
                raise ModelError(f"two nodes make the value {name!r}")
    order = _order(graph, maker)
    if order != list(range(len(order))):
        nodes = [graph.node[number] for number in order]
        copies = [type(node)() for node in nodes]
        for copy, node in zip(copies, nodes, strict=True):
            copy.CopyFrom(node)
        del graph.node[:]
        graph.node.extend(copies)


def _order(graph: Any, maker: Mapping[str, int]) -> list[int]:
    """The numbers of the nodes, each after those that it waits for; else in the order of the file."""
    order: list[int] = []
    state = [0] * len(graph.node)  # 1: waits for others, 2: done
    needed = [[maker[name] for name in dict.fromkeys(reads(node)) if name in maker] for node in graph.node]
    for start in range(len(graph.node)):
        stack = [start]
        while stack:
            number = stack[-1]
            if state[number] == 2:
                stack.pop()
                continue
            open_ = [each for each in needed[number] if state[each] != 2]
            if state[number] == 1 or not open_:
                if open_:
                    raise ModelError(f"the node {graph.node[number].name!r} reads what depends on its own output")
                state[number] = 2
                order.append(stack.pop())
                continue
            state[number] = 1
            if any(state[each] == 1 for each in open_):
                raise ModelError(f"the node {graph.node[number].name!r} reads what depends on its own output")
            stack += reversed(open_)
    return order


def count_bytes(tensor: Any) -> int:
    """How many bytes the values of a tensor take in a file.

    Raises:
        ModelError: a type or a size that no tensor has.
    """
    count = 1
    for size in tensor.dims:
        count *= size
    if tensor.data_type not in BITS or any(size < 0 for size in tensor.dims):
        raise ModelError(f"the weights {tensor.name!r} have a type or a shape that no tensor has")
    return -(-count * BITS[tensor.data_type] // 8)


def refuse_holes(file: Path) -> None:
    """Refuse a file that is gigabytes long and holds little: it would be read as zeros.

    Raises:
        ModelError: more than half of a file beyond ``LONG_FILE`` bytes are holes.
    """
    found = os.stat(file)
    held = getattr(found, "st_blocks", None)
    if held is not None and found.st_size > LONG_FILE and 2 * 512 * held < found.st_size:
        raise ModelError(f"{file} is {found.st_size} bytes long and holds {512 * held}; save the model again.")
