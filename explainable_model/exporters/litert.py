"""LiteRT models (once TensorFlow Lite), for Android and small boards: one ``.tflite`` for one batch and image size."""

import contextlib
import logging
import struct
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explainable_model.artifact.metadata import METADATA_KEY, parse_metadata
from explainable_model.artifact.outputs import Declared, check_declared
from explainable_model.artifact.runner import Array, Runner
from explainable_model.errors import ArtifactError, LoweringError, first_line
from explainable_model.explanation import CLASS_IDX, input_names, output_names
from explainable_model.exporters.format import Format
from explainable_model.exporters.guard.litert_file import read_litert
from explainable_model.exporters.guard.litert_graph import check_litert
from explainable_model.exporters.guard.refusal import Refusal, not_shown_harmless

if TYPE_CHECKING:
    from explainable_model.lowering.lowered import LoweredModel

IDENTIFIER = b"TFL3"
ALIGNMENT = 16  # of weights, as LiteRT's schema demands


def write(lowered: "LoweredModel", path: Path, metadata: str) -> None:
    """Write a ``.tflite`` with named inputs and outputs and the metadata; ``class_idx`` is int32 there."""
    try:
        import litert_torch
    except ImportError as error:
        raise LITERT.missing_runtime(f"Exporting {path.name}") from error
    _check_types(lowered)
    names = input_names(len(lowered.example_inputs)), output_names(False)
    with _quiet(litert_torch.config):
        try:
            converted = litert_torch.convert(lowered.exported_program.module(), lowered.inputs).model_content()
        except Exception as error:  # of the converter and of MLIR, which share no class
            advice = "" if lowered.profile == "portable" else " Try profile='portable', which has fewer operators."
            raise LoweringError(
                f"{lowered.plan.model} cannot be translated to LiteRT: {first_line(error)}.{advice}"
            ) from error
    path.write_bytes(_name_and_describe(converted, metadata, names))


def _check_types(lowered: "LoweredModel") -> None:
    """Refuse numbers of 64 bits, which the converter would make shorter without a word, and half precision."""
    import torch

    wide = [str(each.dtype) for each in lowered.example_inputs if each.dtype in (torch.int64, torch.float64)]
    if lowered.precision != "float32" or wide:
        found = f"takes {wide[0].removeprefix('torch.')}" if wide else f"computes in {lowered.precision}"
        raise LoweringError(
            f"LiteRT computes in float32 and int32; {lowered.plan.model} {found}. Export network.float(), and give "
            "other inputs as int32."
        )


def _name_and_describe(content: bytes, metadata: str, names: tuple[list[str], list[str]]) -> bytes:
    """The model with our names of inputs and outputs, and with one more entry in its table of metadata."""
    schema = _import_schema("Exporting to LiteRT")
    model = schema.ModelT.InitFromPackedBuf(content)
    (graph,), (signature,) = model.subgraphs, model.signatureDefs
    for ends, prefix, ours in ((signature.inputs, b"args_", names[0]), (signature.outputs, b"output_", names[1])):
        for end in ends:
            end.name = ours[int(end.name.removeprefix(prefix))].encode()
            graph.tensors[end.tensorIndex].name = end.name
    buffer = schema.BufferT(data=np.frombuffer(metadata.encode(), np.uint8))
    model.metadata = [*(model.metadata or ()), schema.MetadataT(METADATA_KEY.encode(), len(model.buffers))]
    model.buffers = [*model.buffers, buffer]
    return pack(model, schema)


def pack(model: Any, schema: Any) -> bytes:
    """The model as a file, the numbers of each buffer aligned as the schema demands."""
    import flatbuffers

    class Aligned(schema.BufferT):  # type: ignore[misc]
        def __init__(self, data: Any) -> None:
            super().__init__(data=data)

        def Pack(self, builder: Any) -> Any:
            numbers = None
            if self.data is not None and not isinstance(self.data, int):
                values = np.asarray(self.data, np.uint8).tobytes()
                builder.StartVector(1, len(values), ALIGNMENT)
                builder.head -= len(values)
                builder.Bytes[builder.head : builder.head + len(values)] = values
                builder.vectorNumElems = len(values)
                numbers = builder.EndVector()
            schema.BufferStart(builder)
            if numbers is not None:
                schema.BufferAddData(builder, numbers)
            return schema.BufferEnd(builder)

    model.buffers = [Aligned(buffer.data) for buffer in model.buffers]
    builder = flatbuffers.Builder(sum(16 + _size(buffer.data) for buffer in model.buffers) + 2**16)
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _size(data: Any) -> int:
    return 0 if data is None or isinstance(data, int) else len(data)


def open_(path: Path, threads: int | None) -> tuple[Runner, str]:
    """Run with LiteRT's interpreter a model that was written anew of what was checked, one call at a time."""
    try:
        content, text = read_litert(path)
        parse_metadata(text, path)
        schema = _import_schema(str(path))
        try:
            model = schema.ModelT.InitFromPackedBuf(content)
            check_litert(model, schema)
            content = pack(model, schema)
        except (struct.error, ValueError, TypeError, AttributeError, IndexError, OverflowError) as error:
            raise ArtifactError(f"{path} is damaged or not a LiteRT model ({error}); export it again.") from error
    except Refusal as refusal:
        raise not_shown_harmless(path, refusal) from refusal
    return _open(path, content, text, threads)


def open_trusted(path: Path, threads: int | None) -> tuple[Runner, str]:
    """Run with LiteRT's interpreter the model as it is."""
    try:
        content, text = read_litert(path)
    except Refusal as refusal:
        raise ArtifactError(f"{path} is damaged or not a LiteRT model: {refusal}; export it again.") from refusal
    _import_schema(str(path))
    return _open(path, content, text, threads)


def read_metadata(path: Path) -> str:
    """The metadata text, read without LiteRT."""
    try:
        return read_litert(path)[1]
    except Refusal as refusal:
        raise not_shown_harmless(path, refusal) from refusal


def _open(path: Path, content: bytes, text: str, threads: int | None) -> tuple[Runner, str]:
    from ai_edge_litert.interpreter import Interpreter

    metadata = parse_metadata(text, path)
    try:
        interpreter = Interpreter(model_content=content, num_threads=threads)
        interpreter.allocate_tensors()
        call = interpreter.get_signature_runner()
    except (ValueError, RuntimeError) as error:
        raise ArtifactError(f"LiteRT cannot run {path.name}: {first_line(error)}") from error
    inputs, outputs = call.get_input_details(), call.get_output_details()
    given, made = (map(_declare, each, each.values()) for each in (inputs, outputs))
    check_declared(given, made, metadata, path.name)
    names = output_names(metadata.look is not None)
    turn = threading.Lock()

    def run(*arrays: Array) -> Sequence[Array]:
        given = dict(zip(input_names(len(arrays) - 2), arrays, strict=True))
        given[CLASS_IDX] = given[CLASS_IDX].astype(np.int32)
        with turn:
            try:
                answer = call(**given)
            except (ValueError, RuntimeError) as error:
                raise ArtifactError(f"LiteRT cannot run {path.name}: {first_line(error)}") from error
        return [answer[name] for name in names]

    return run, text


def _declare(name: str, detail: Any) -> Declared:
    return Declared(name, np.dtype(detail["dtype"]).name, [int(size) for size in detail["shape"]])


def _import_schema(purpose: str) -> Any:
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise LITERT.missing_runtime(purpose) from error
    return schema_py_generated


@contextlib.contextmanager
def _quiet(config: Any) -> Iterator[None]:
    """Silence the progress, warnings and notes of the converter."""
    from explainable_model.lowering.capture.export import quiet_export

    before, progress = logging.root.manager.disable, config.show_progress
    logging.disable(logging.WARNING)
    config.show_progress = False
    try:
        with quiet_export(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        config.show_progress = progress
        logging.disable(before)


LITERT = Format(
    name="litert",
    suffixes=(".tflite",),
    runtime="LiteRT",
    packages=("ai_edge_litert", "litert_torch"),
    extra="litert",
    write=write,
    open=open_,
    open_trusted=open_trusted,
    read_metadata=read_metadata,
    fixed_size=True,
)
