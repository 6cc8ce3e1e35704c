"""Reads an ONNX file from disk: the graph and its weights, and nothing outside of its folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explainable_model.errors import MissingRuntimeError, ModelError, first_line
from explainable_model.networks.onnx.structure import (
    check_functions,
    count_bytes,
    inner_graphs,
    refuse_holes,
    sort_nodes,
)
from explainable_model.paths import as_path

if TYPE_CHECKING:
    import onnx

OLDEST = 7
LARGEST = 2**31 - 1  # bytes of a protobuf message
STANDARD = ("", "ai.onnx")
EXTERNAL = 1  # data_location of a tensor
SHARED = 4  # how often the bytes of a file may be read, by tensors that share them


def read_file(path: str | Path) -> "onnx.ModelProto":
    """Read a model with its weights; functions of the file are written out.

    Raises:
        ModelError: no such file, not ONNX, truncated, of a newer version, or with weights outside of its folder.
        MissingRuntimeError: the onnx package is missing.
    """
    path = as_path(path)
    if not path.is_file():
        raise ModelError(f"There is no file {path}; expected an ONNX model.")
    onnx = import_onnx(path)
    if path.stat().st_size > LARGEST:
        raise ModelError(f"{path} has {path.stat().st_size} bytes, more than an ONNX model can have in one file.")
    try:
        model: Any = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # of protobuf, whose module depends on its version
        raise ModelError(f"{path} is not an ONNX model, or damaged: {first_line(error)}.") from error
    if not model.graph.node or not model.graph.output:
        raise ModelError(f"{path} is not an ONNX model, or truncated: it has no graph with nodes and outputs.")
    _check_versions(onnx, path, model)
    load_weights(onnx, path, model)
    try:
        return _prepare(model)  # type: ignore[no-any-return]
    except ModelError as error:
        raise ModelError(f"{path} is damaged: {error}.") from error


def _prepare(model: Any) -> Any:
    """Write out the functions of a model, and bring its nodes in order."""
    if model.functions:
        import onnx.inliner

        check_functions(model)
        try:
            model = onnx.inliner.inline_local_functions(model)
        except Exception as error:  # of C++
            raise ModelError(f"its functions cannot be written out: {first_line(error)}") from error
    sort_nodes(model.graph)
    return model


def import_onnx(path: Path) -> Any:
    """Import the onnx package.

    Raises:
        MissingRuntimeError: it is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingRuntimeError(f"Reading {path} needs onnx: pip install 'explainable-model[onnx]'.") from error
    return onnx


def opset_of(model: Any) -> int:
    """The version of ONNX's own operators."""
    return max((o.version for o in model.opset_import if o.domain in STANDARD), default=0)


def _check_versions(onnx: Any, path: Path, model: Any) -> None:
    newest, opset = onnx.defs.onnx_opset_version(), opset_of(model)
    if opset > newest or model.ir_version > onnx.IR_VERSION:
        raise ModelError(
            f"{path} has opset {opset} and IR version {model.ir_version}; onnx {onnx.__version__} reads up to "
            f"{newest} and {onnx.IR_VERSION}. Update it (pip install -U onnx), or export with an older opset."
        )
    if opset and opset < OLDEST:
        raise ModelError(
            f"{path} has opset {opset}; expected {OLDEST} or newer. Convert it: "
            "onnx.version_converter.convert_version(model, 17)."
        )


def load_weights(onnx: Any, path: Path, model: Any) -> None:
    """Load the weights that lie in other files of the same folder.

    Raises:
        ModelError: one of them lies elsewhere, is missing or too short, or together they are too large.
    """
    folder = path.resolve().parent
    total, files = 0, dict[Path, int]()
    for tensor in _tensors(model.graph):
        if tensor.data_location == EXTERNAL:
            file, length = _check_external(path, folder, tensor)
            total, files[file] = total + length, file.stat().st_size
    if total > LARGEST:
        raise ModelError(
            f"The weights of {path} have {total} bytes; expected at most {LARGEST}, since ONNX Runtime is given the "
            "graph and its weights as one message. Halve them: save the file in float16."
        )
    if total > SHARED * sum(files.values()):
        raise ModelError(f"{path} reads {total} bytes of weights from {sum(files.values())} beside it; save it again.")
    for file in files:
        refuse_holes(file)
    if files:
        try:
            onnx.external_data_helper.load_external_data_for_model(model, str(folder))
        except Exception as error:
            raise ModelError(f"The weights of {path} cannot be read: {first_line(error)}.") from error


def _check_external(path: Path, folder: Path, tensor: Any) -> tuple[Path, int]:
    """The file that a tensor lies in, and how many bytes of it are read."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    file = folder if "\x00" in location else (folder / location).resolve()
    if not location or not file.is_relative_to(folder) or file == folder:
        raise ModelError(
            f"{path} says that its weights {tensor.name!r} lie in {location!r}; expected a file inside its own folder, "
            "since another one may be anything on this machine. Save it with the weights beside it."
        )
    if not file.is_file():
        raise ModelError(f"{path} needs {location} beside it, which holds its weights, and there is no such file.")
    size = file.stat().st_size
    try:
        offset = int(entries.get("offset") or 0)
        length = int(entries.get("length") or size - offset)
    except ValueError as error:
        raise ModelError(f"{path} is damaged: the place of its weights {tensor.name!r} is no number.") from error
    if not 0 <= offset <= offset + length <= size:
        raise ModelError(
            f"{location} has {size} bytes; the weights of {path} end at {offset + length}: truncated, or another file?"
        )
    try:
        wanted = count_bytes(tensor)
    except ModelError as error:
        raise ModelError(f"{path} is damaged: {error}.") from error
    if length != wanted:
        raise ModelError(
            f"{path} is damaged: its weights {tensor.name!r} need {wanted} bytes, and {location} has {length}."
        )
    return file, length


def _tensors(graph: Any) -> Iterator[Any]:
    """Every tensor of a graph and of the graphs inside its nodes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
        for inner in inner_graphs(node):
            yield from _tensors(inner)
