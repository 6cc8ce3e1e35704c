"""What an ONNX file says about itself, without running it."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explainable_model.errors import ModelError, first_line
from explainable_model.imaging.preprocess import Preprocess
from explainable_model.networks.onnx.cut import Links
from explainable_model.networks.onnx.file import opset_of, read_file
from explainable_model.networks.onnx.inputs import image_shape, read_image_inputs
from explainable_model.networks.onnx.integers import is_quantized, write_out
from explainable_model.networks.onnx.named import find_names, find_preparation, list_names
from explainable_model.networks.onnx.operators.indexing import DTYPES
from explainable_model.networks.onnx.values import FAILURES

Shape = tuple[int | str | None, ...]


@dataclass(frozen=True)
class FileValue:
    """An input or output of a file: its name, type and shape; open sizes by name, or ``None``."""

    name: str
    dtype: str
    shape: Shape


@dataclass(frozen=True)
class FileDescription:
    """What a file says about itself.

    Attributes:
        opset: version of ONNX's own operators.
        ir_version: of the file.
        producer: program that wrote it.
        inputs: without weights.
        outputs: of the graph.
        image_shape: ``(C, *spatial)`` of the image, ``None`` where a size is open; ``None`` where no input is one.
        channels_last: whether it takes the channels of an image last.
        operators: how often each type occurs.
        unread: types, with their domain, that the reader does not compute.
        quantized: whether activations are integers or rounded to them.
        class_names: of its metadata.
        preprocess: of its metadata.
        metadata: all of it.
    """

    opset: int
    ir_version: int
    producer: str
    inputs: tuple[FileValue, ...]
    outputs: tuple[FileValue, ...]
    image_shape: tuple[int | None, ...] | None
    channels_last: bool
    operators: dict[str, int]
    unread: tuple[str, ...]
    quantized: bool
    class_names: tuple[str, ...] | None
    preprocess: Preprocess | None
    metadata: dict[str, str]


def describe_file(path: str | Path) -> FileDescription:
    """Describe a file; nothing of it runs.

    Raises:
        ModelError: it is no ONNX file, or damaged.
        MissingRuntimeError: onnx is missing.
    """
    model: Any = read_file(path)
    try:
        return _describe(model)
    except ModelError:
        raise
    except FAILURES as error:
        raise ModelError(f"{path} is damaged: its nodes do not fit together ({first_line(error)}).") from error


def _describe(model: Any) -> FileDescription:
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    outputs = tuple(_describe_value(value) for value in graph.output)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    try:
        taker = read_image_inputs(graph, None)
        shape, is_last = image_shape(taker), taker.channels_last
    except ModelError:
        shape, is_last = None, False
    size = [length for length in (shape or ())[1:] if length is not None]
    links = Links(write_out(model).graph)
    unread = [node for number, node in enumerate(links.nodes) if not links.is_known(number)]
    counts = Counter(node.op_type for node in graph.node)
    tables = [value.shape[1] for value in outputs if len(value.shape) == 2]
    classes = tables[0] if len(tables) == 1 and isinstance(tables[0], int) else None
    return FileDescription(
        opset_of(model),
        model.ir_version,
        " ".join(part for part in (model.producer_name, model.producer_version) if part),
        tuple(_describe_value(value) for value in graph.input if value.name not in weights),
        outputs,
        shape,
        is_last,
        dict(counts.most_common()),
        tuple(dict.fromkeys(f"{node.domain or 'ai.onnx'}:{node.op_type}" for node in unread)),
        is_quantized(model),
        find_names(metadata, classes) if classes is not None else next(iter(list_names(metadata)), None),
        find_preparation(metadata, size) if len(size) == 2 else None,
        metadata,
    )


def _describe_value(value: Any) -> FileValue:
    kind = value.type.tensor_type
    sizes = (each.dim_value or each.dim_param or None for each in kind.shape.dim)
    return FileValue(value.name, str(DTYPES.get(kind.elem_type, "unknown")).removeprefix("torch."), tuple(sizes))
