"""Walks through an ONNX file, a protobuf message, for its metadata and for what a graph of this library never holds."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from explainable_model.artifact.metadata import METADATA_KEY
from explainable_model.errors import ArtifactError
from explainable_model.exporters.guard.refusal import Refusal, shorten

VARINT, BITS64, BYTES, BITS32 = 0, 1, 2, 5
MODEL = {"graph": 7, "metadata": 14}
GRAPH = {"node": 1, "initializer": 5}
NODE = {"operator": 4, "attribute": 5, "domain": 7}
ATTRIBUTE_TENSORS = (5, 10)
ATTRIBUTE_GRAPHS = {6: "a graph", 11: "graphs", 22: "a sparse tensor", 23: "sparse tensors"}
EXTERNAL, LOCATION = 13, 14  # fields of a tensor
MODEL_FIELDS = {1, 2, 3, 4, 5, 6, 7, 8, 14}  # without functions (25), training (20) and devices (26)
GRAPH_FIELDS = {1, 2, 5, 10, 11, 12, 13, 14, 16}  # without sparse weights (15)
MAX_BYTES = 2**31
DOMAINS = {b"", b"ai.onnx"}
MICROSOFT = b"com.microsoft"  # has hundreds of operators; those of a kept file that only compute:
COMPUTING = frozenset(
    {
        b"BiasGelu", b"DequantizeLinear", b"DynamicQuantizeMatMul", b"FastGelu", b"FusedConv", b"FusedGemm",
        b"FusedMatMul", b"Gelu", b"MatMulIntegerToFloat", b"QGemm", b"QLinearAdd", b"QLinearAveragePool",
        b"QLinearConcat", b"QLinearConv", b"QLinearGlobalAveragePool", b"QLinearLeakyRelu", b"QLinearMul",
        b"QLinearReduceMean", b"QLinearSigmoid", b"QLinearSoftmax", b"QLinearWhere", b"QuantizeLinear", b"QuickGelu",
        b"SkipLayerNormalization",
    }
)  # fmt: skip
FILES = re.compile(r"[^/\\\x00-\x1f]{1,200}\.data")


@dataclass
class OnnxRecord:
    """What the file says about itself.

    Attributes:
        metadata: the metadata text, if there is one.
        files: names of the files beside it that hold weights.
        foreign: type of an operator that no exporter of this library writes, where there is one.
    """

    metadata: str | None = None
    files: set[str] = field(default_factory=set)
    foreign: str | None = None


def read_onnx(path: Path) -> OnnxRecord:
    """Read the metadata, and check the graph.

    Raises:
        ArtifactError: the file is damaged or no ONNX model.
        Refusal: it holds functions or loops, or weights in other folders.
    """
    found = OnnxRecord()
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it has {path.stat().st_size} bytes, more than a protobuf message can have")
        content = memoryview(path.read_bytes())
        for number, value in read_fields(content):
            if number not in MODEL_FIELDS:
                raise Refusal(f"its model has the field {number}, such as functions or training")
            if number == MODEL["graph"]:
                _check_graph(as_bytes(value), found)
            elif number == MODEL["metadata"]:
                key, text = _read_pair(as_bytes(value))
                if key == METADATA_KEY:
                    found.metadata = text
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} is damaged or not an ONNX model ({error}); export it again.") from error
    return found


def check_files(path: Path, record: OnnxRecord) -> None:
    """Check the names of the files with weights: the checksum is that of ``NAME.onnx.data`` alone.

    Raises:
        Refusal: one of them lies elsewhere.
        ArtifactError: there is none, or it has another name.
    """
    for name in record.files:
        if not FILES.fullmatch(name):
            raise Refusal(f"its weights lie in {shorten(name)}, and not in a file NAME.data beside it")
        if not (path.parent / name).is_file():
            raise ArtifactError(f"{path} needs {name} beside it, which holds its weights.")
        if name != f"{path.name}.data":
            raise ArtifactError(
                f"{path} keeps its weights in {name}; expected {path.name}.data. Give both files the names "
                "that they had when they were exported."
            )


def _check_graph(graph: memoryview, found: OnnxRecord) -> None:
    for number, value in read_fields(graph):
        if number not in GRAPH_FIELDS:
            raise Refusal(f"its graph has the field {number}, such as sparse weights")
        if number == GRAPH["node"]:
            _check_node(as_bytes(value), found)
        elif number == GRAPH["initializer"]:
            _check_tensor(as_bytes(value), found)


def _check_node(node: memoryview, found: OnnxRecord) -> None:
    domain, operator = b"", b""
    for number, value in read_fields(node):
        if number == NODE["operator"]:
            operator = bytes(as_bytes(value))
        elif number == NODE["domain"]:
            domain = bytes(as_bytes(value))
        elif number == NODE["attribute"]:
            _check_attribute(as_bytes(value), found)
    if domain not in DOMAINS and not (domain == MICROSOFT and operator in COMPUTING):
        found.foreign = found.foreign or operator.decode("utf-8", "replace")


def _check_attribute(attribute: memoryview, found: OnnxRecord) -> None:
    for number, value in read_fields(attribute):
        if number in ATTRIBUTE_GRAPHS:
            raise Refusal(f"an operator holds {ATTRIBUTE_GRAPHS[number]}, as loops do")
        if number in ATTRIBUTE_TENSORS:
            _check_tensor(as_bytes(value), found)


def _check_tensor(tensor: memoryview, found: OnnxRecord) -> None:
    for number, value in read_fields(tensor):
        if number == EXTERNAL:
            key, text = _read_pair(as_bytes(value))
            if key == "location":
                found.files.add(text)


def _read_pair(pair: memoryview) -> tuple[str, str]:
    texts = {1: "", 2: ""}
    for number, value in read_fields(pair):
        if number in texts:
            texts[number] = str(as_bytes(value), "utf-8")
    return texts[1], texts[2]


def as_bytes(value: int | memoryview) -> memoryview:
    """A field that is a text or another message.

    Raises:
        ValueError: the field is a number.
    """
    if isinstance(value, int):
        raise ValueError("a number stands where a part belongs")
    return value


def read_fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a protobuf message.

    Raises:
        ValueError: the message is broken.
    """
    position, end = 0, len(message)
    while position < end:
        tag, position = _varint(message, position)
        kind, number = tag & 7, tag >> 3
        if kind == VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        length = {BITS64: 8, BITS32: 4}.get(kind, -1)
        if kind == BYTES:
            length, position = _varint(message, position)
        if not 0 <= length <= end - position or not number:
            raise ValueError("a part is longer than the file, or of an unknown kind")
        yield number, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("it ends within a number")
