"""How much memory a graph of ONNX takes: ONNX Runtime infers the size of everything that its operators make.

A few operators make terabytes of a photo: the product of its pixels with themselves, and of the result with itself. The
runtime gets a skeleton of the file, without its weights and with every result among its outputs, and tells the shapes
without running anything. It takes some hundredths of a second.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from explainable_model.artifact.limits import MAX_WORK
from explainable_model.exporters.guard.onnx_file import EXTERNAL, GRAPH, MODEL, as_bytes, read_fields
from explainable_model.exporters.guard.refusal import Refusal, shorten

INPUT, OUTPUT = 11, 12  # fields of a graph
NODE_INPUT, NODE_OUTPUT = 1, 2
DIMENSIONS, DATA_TYPE, NAME = 1, 2, 8  # fields of a tensor
DTYPES = {
    "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "bool": 9, "float16": 10,
    "float64": 11, "bfloat16": 16,
}  # fmt: skip
"""ONNX's numbers of the types that an input may have."""

BYTES = {
    "float": 4, "double": 8, "float16": 2, "bfloat16": 2, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4,
    "uint32": 4, "int64": 8, "uint64": 8, "bool": 1, "int4": 1, "uint4": 1,
}  # fmt: skip
"""Bytes of an element, by ONNX Runtime's name of its type."""

SMALL = 64  # values of a constant that may say a size; larger ones are left out

Declared: TypeAlias = tuple[str, str, Sequence[int]]
"""Name, dtype and shape of an input."""


def check_work(content: memoryview, inputs: Iterable[Declared], infer: Callable[[bytes], Iterable[Any]]) -> None:
    """Check how much memory one call takes at most, on inputs of these shapes.

    Args:
        content: the file.
        inputs: as the record describes them, of one image.
        infer: makes a session of ONNX Runtime of a model, and returns its outputs with names, types and shapes.

    Raises:
        Refusal: more than ``MAX_WORK`` bytes, or the runtime cannot tell how much.
    """
    skeleton, nodes = _make_skeleton(content, inputs)
    made = {value.name: _count_bytes(value) for value in infer(skeleton)}
    peak = _find_peak(nodes, made)
    if peak > MAX_WORK:
        raise Refusal(f"a call on one image would take {peak / 2**30:.0f} GiB of memory")


def _count_bytes(value: Any) -> int:
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    if kind not in BYTES or not all(isinstance(size, int) for size in value.shape):
        raise Refusal(f"nothing tells how large its part {shorten(value.name)} becomes")
    return int(math.prod(value.shape)) * BYTES[kind]


def _find_peak(nodes: list[tuple[list[str], list[str]]], made: Mapping[str, int]) -> int:
    """The most memory of the results that are still needed, where each is kept until its last reader has run."""
    last = {name: position for position, (read, written) in enumerate(nodes) for name in (*written, *read)}
    peak = held = 0
    for position, (read, written) in enumerate(nodes):
        held += sum(made.get(name, 0) for name in written)
        peak = max(peak, held)
        held -= sum(made.get(name, 0) for name in {*read, *written} if last[name] == position)
    return peak


def _make_skeleton(content: memoryview, inputs: Iterable[Declared]) -> tuple[bytes, list[tuple[list[str], list[str]]]]:
    """The model without its weights and with every result as an output; and what each node reads and writes."""
    parts, nodes = [], []
    for number, value in read_fields(content):
        if number == MODEL["graph"]:
            graph, found = _strip_graph(as_bytes(value), inputs)
            nodes += found
            parts.append(_write(number, graph))
        elif number != MODEL["metadata"]:
            parts.append(_write(number, value))
    return b"".join(parts), nodes


def _strip_graph(graph: memoryview, inputs: Iterable[Declared]) -> tuple[bytes, list[tuple[list[str], list[str]]]]:
    parts = [_write(INPUT, _declare(name, DTYPES[dtype], shape)) for name, dtype, shape in inputs]
    nodes: list[tuple[list[str], list[str]]] = []
    for number, value in read_fields(graph):
        if number == GRAPH["node"]:
            node = [(kind, item) for kind, item in read_fields(as_bytes(value)) if kind in (NODE_INPUT, NODE_OUTPUT)]
            read, written = (
                [str(as_bytes(item), "utf-8") for kind, item in node if kind == which and len(as_bytes(item))]
                for which in (NODE_INPUT, NODE_OUTPUT)
            )
            nodes.append((read, written))
            parts.append(_write(number, value))
            parts += [_write(OUTPUT, _write(1, name.encode())) for name in written]
        elif number == GRAPH["initializer"]:
            parts.append(_strip_tensor(as_bytes(value)))
    return b"".join(parts), nodes


def _strip_tensor(tensor: memoryview) -> bytes:
    """A small constant as it is, and another one as an input of its shape."""
    shape: list[int] = []
    kind, name, lies_elsewhere = 0, "", False
    for number, value in read_fields(tensor):
        if number == DIMENSIONS:
            shape += [value] if isinstance(value, int) else _read_packed(value)
        elif number == DATA_TYPE and isinstance(value, int):
            kind = value
        elif number == NAME:
            name = str(as_bytes(value), "utf-8")
        lies_elsewhere = lies_elsewhere or number == EXTERNAL
    if math.prod(shape) <= SMALL and not lies_elsewhere:
        return _write(GRAPH["initializer"], tensor)
    return _write(INPUT, _declare(name, kind, shape))


def _read_packed(numbers: memoryview) -> list[int]:
    """Numbers that stand one behind the other in one field."""
    found, value, shift = [], 0, 0
    for byte in numbers:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            found.append(value)
            value = shift = 0
    return found


def _declare(name: str, kind: int, shape: Sequence[int]) -> bytes:
    """The description of an input: its name, its type and its shape."""
    sizes = b"".join(_write(1, _write(1, size)) for size in shape)
    return _write(1, name.encode()) + _write(2, _write(1, _write(1, kind) + _write(2, sizes)))


def _write(number: int, value: int | bytes | memoryview) -> bytes:
    """A field of a protobuf message."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + bytes(value)


def _varint(value: int) -> bytes:
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])
