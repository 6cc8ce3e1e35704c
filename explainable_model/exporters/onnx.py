"""ONNX, for ONNX Runtime and every other program that reads ONNX."""

import ast
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explainable_model.artifact.limits import MAX_CONSTANT
from explainable_model.artifact.metadata import METADATA_KEY, PRECISIONS, Metadata, parse_metadata
from explainable_model.artifact.outputs import Declared, check_declared
from explainable_model.artifact.runner import Array, PredictingRunner, Runner
from explainable_model.artifact.shapes import dimension_names
from explainable_model.errors import ArtifactError, LoweringError, MissingRuntimeError, first_line, root_cause
from explainable_model.explanation import IMAGE, input_names, output_names
from explainable_model.exporters.format import Format, foreign_file
from explainable_model.exporters.guard.onnx_file import OnnxRecord, check_files, read_onnx
from explainable_model.exporters.guard.onnx_sizes import check_work
from explainable_model.exporters.guard.refusal import Refusal, not_shown_harmless, shorten
from explainable_model.exporters.onnx_opset import default_opset, known_opsets, write_opset
from explainable_model.telemetry import import_onnxruntime

if TYPE_CHECKING:
    from explainable_model.lowering.lowered import LoweredModel

NO_LAYER = "_empty_nn_module_stack_from_metadata_hook"  # torch gives this name to the nodes that compute sizes
PROVIDERS = ["CPUExecutionProvider"]
SIZES = 2**16  # bytes of a constant that says sizes
TENSOR_TYPES = {"float": "float32", "double": "float64"}
"""ONNX Runtime's names of types where PyTorch has others."""

PROTOBUF_LIMIT = 2**31 - 2**20  # a protobuf message holds less than 2 GiB; the graph needs some of it


def write(lowered: "LoweredModel", path: Path, metadata: str, opset: int | None = None) -> None:
    """Write one ``.onnx`` file of an opset; weights of 2 GiB and more go to ``<name>.data`` beside it."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingRuntimeError(
            f"Exporting to ONNX needs {error.name}: pip install 'explainable-model[onnx]'."
        ) from error
    import torch

    from explainable_model.exporters.onnx_kept import put_back, translations
    from explainable_model.lowering.capture.export import quiet_export
    from explainable_model.lowering.capture.leftovers import release_inputs

    exported = lowered.exported_program
    with quiet_export():
        try:
            program = torch.onnx.export(
                exported,
                input_names=input_names(len(lowered.example_inputs)),
                output_names=output_names(
                    lowered.photo_io is not None and lowered.photo_io.look is not None,
                    has_boxes=lowered.plan.to_record()["detection"] is not None,
                ),
                opset_version=default_opset(lowered.kept if opset is None else ()),
                custom_translation_table=translations(lowered.kept),
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise LoweringError(
                f"{lowered.plan.model} cannot be translated to ONNX: {first_line(root_cause(error))}"
            ) from error
    assert program is not None
    if program.exported_program is not None:
        release_inputs(program.exported_program)
    write_opset(program.model, opset or default_opset(lowered.kept), str(lowered.plan.model))
    _rename(program.model, lowered.pixels)
    if lowered.profile == "portable":
        _check_portable(program.model)
    put_back(program.model, lowered.kept)
    _keep_names(program.model, lowered.input_names)
    program.model.metadata_props.update(lowered.notes)
    program.model.metadata_props[METADATA_KEY] = metadata
    weights = sum(buffer.numel() * buffer.element_size() for buffer in lowered.graph_module.buffers())
    weights += sum(kept.model.ByteSize() for kept in lowered.kept)
    program.save(path, external_data=weights > PROTOBUF_LIMIT)


def _check_portable(model: Any) -> None:
    from explainable_model.lowering.passes.portable import ONNX_OPERATORS, not_portable

    foreign = {f"ONNX {node.op_type}": str(node.name) for node in model.graph if node.op_type not in ONNX_OPERATORS}
    if foreign:
        raise not_portable(foreign)
    _unshare_weights(model)


def _unshare_weights(model: Any) -> None:
    """Copy weights that a transposed convolution shares: the exporter stores equal constants once."""
    import onnx_ir

    for node in model.graph:
        if node.op_type == "ConvTranspose" and len(node.inputs[1].uses()) > 1:
            shared = node.inputs[1]
            copy = onnx_ir.Value(
                name=f"{node.name}_weight", shape=shared.shape, type=shared.type, const_value=shared.const_value
            )
            model.graph.register_initializer(copy)
            node.replace_input_with(1, copy)


def _rename(model: Any, pixels: str | None) -> None:
    """Name nodes by layer and operator, and open dimensions ``batch`` or ``height``.

    The exporter's notes on the origin of each node are removed, since they hold paths of this machine.
    """
    counts: Counter[str] = Counter()
    shape = next(value.shape for value in model.graph.inputs if value.name == IMAGE)
    dimensions = dimension_names(len(shape), pixels)
    names = {str(size.value): name for size, name in zip(shape, dimensions, strict=True) if not isinstance(size, int)}
    for node in model.graph:
        scopes = ast.literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]"))
        layer = scopes[-2].removeprefix("model").removeprefix(".") if len(scopes) > 1 else ""
        if layer == NO_LAYER:
            layer = ""
        name = f"{layer.replace('.', '/') or 'explanation'}/{node.op_type}"
        counts[name] += 1
        node.name = name if counts[name] == 1 else f"{name}_{counts[name] - 1}"
        node.metadata_props.clear()
        for value in node.outputs:
            _name_open_dimensions(value, names)
    for value in (*model.graph.inputs, *model.graph.outputs):
        _name_open_dimensions(value, names)
    for value in list(model.graph.initializers.values()):
        value.name = value.name.removeprefix("network.")


def _keep_names(model: Any, names: Mapping[str, str]) -> None:
    """Give inputs the names that they have in the file that the network was read from."""
    if not names:
        return
    inputs = [value for value in model.graph.inputs if value.name in names]
    given = {names[value.name] for value in inputs}
    others = [*model.graph.initializers.values(), *(value for node in model.graph for value in node.outputs)]
    for value in others:
        if value.name in given:
            value.name = f"explanation/{value.name}"
    for value in inputs:
        value.name = names[value.name]


def _name_open_dimensions(value: Any, names: Mapping[str, str]) -> None:
    import onnx_ir

    if value.shape is not None:
        value.shape = onnx_ir.Shape(
            names.get(str(size.value), size) if isinstance(size, onnx_ir.SymbolicDim) else size for size in value.shape
        )


def name_companion(path: Path) -> Path:
    """The file that holds the weights of a network of 2 GiB and more."""
    return path.with_name(f"{path.name}.data")


def open_(path: Path, threads: int | None) -> tuple[Runner, str]:
    """Run with ONNX Runtime on the CPU, a graph whose memory can be told."""
    return _open(path, threads, is_bounded=True)


def open_trusted(path: Path, threads: int | None) -> tuple[Runner, str]:
    """Run a graph also where nothing tells how much memory it takes, such as one that selects values of the image."""
    return _open(path, threads, is_bounded=False)


def _open(path: Path, threads: int | None, *, is_bounded: bool) -> tuple[Runner, str]:
    text = _check(path, is_trusted=not is_bounded)
    metadata = parse_metadata(text, path)
    session = _session(path, threads)
    check_declared(map(_declare, session.get_inputs()), map(_declare, session.get_outputs()), metadata, path.name)
    if is_bounded:
        _check_work(path, metadata)
    names = output_names(metadata.look is not None, has_boxes=metadata.detection is not None)

    def run(*arrays: Array) -> Sequence[Array]:
        inputs = dict(zip(metadata.graph_inputs, arrays, strict=True))
        outputs: Sequence[Array] = session.run(names, inputs)
        return outputs

    def predict(*arrays: Array) -> Array:
        """ONNX Runtime runs the nodes that the logits depend on, and no others."""
        logits: Array = session.run(names[:1], dict(zip(metadata.graph_inputs, arrays, strict=True)))[0]
        return logits

    return PredictingRunner(run, predict), text


def _declare(value: Any) -> Declared:
    dtype = value.type.removeprefix("tensor(").removesuffix(")")
    shape = [size if isinstance(size, int) else None for size in value.shape]
    return Declared(value.name, TENSOR_TYPES.get(dtype, dtype), shape)


def read_metadata(path: Path) -> str:
    """The metadata text, one of the model's properties; no weights and no runtime are loaded."""
    try:
        return _metadata(read_onnx(path), path)
    except Refusal as refusal:
        raise not_shown_harmless(path, refusal) from refusal


def _check(path: Path, *, is_trusted: bool) -> str:
    """The metadata text of a file whose graph and weights are those of an artifact."""
    try:
        record = read_onnx(path)
        metadata = _metadata(record, path)
        check_files(path, record)
        if record.foreign is not None and not is_trusted:
            raise Refusal(f"it calls the operator {shorten(record.foreign)} of another domain")
    except Refusal as refusal:
        raise not_shown_harmless(path, refusal) from refusal
    return metadata


def _metadata(record: OnnxRecord, path: Path) -> str:
    if record.metadata is None:
        raise foreign_file(path)
    return record.metadata


def _check_work(path: Path, metadata: Metadata) -> None:
    """Refuse a graph that takes much memory; ONNX Runtime has accepted it, and only a session with weights runs it."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it cannot tell is our error
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC  # computes sizes
    options.add_session_config_entry("optimization.constant_folding_max_output_size_in_bytes", str(SIZES))

    def infer(skeleton: bytes) -> Sequence[Any]:
        session = onnxruntime.InferenceSession(skeleton, options, providers=PROVIDERS, enable_fallback=0)
        values: Sequence[Any] = session.get_outputs()
        return values

    known, own = metadata.to_dict()["inputs"], metadata.input_names
    inputs = [(own.get(name, name), known[name]["dtype"], shape) for name, shape in metadata.input_shapes.items()]
    try:
        check_work(memoryview(path.read_bytes()), inputs, infer)
    except Refusal as refusal:
        raise not_shown_harmless(path, refusal) from refusal


def _session(path: Path, threads: int | None) -> Any:
    try:
        onnxruntime = import_onnxruntime()
    except ImportError as error:
        raise MissingRuntimeError(
            f"{path} needs ONNX Runtime: pip install onnxruntime, or 'explainable-model[onnx]'."
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave the CPU to others
    largest = max(path.stat().st_size, MAX_CONSTANT)  # a small file cannot make the runtime compute a large constant
    options.add_session_config_entry("optimization.constant_folding_max_output_size_in_bytes", str(largest))
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        # the fallback would try the same again, and print that it does
        return onnxruntime.InferenceSession(str(path), options, providers=PROVIDERS, enable_fallback=0)
    except Exception as error:  # onnxruntime's own exceptions share no public base class
        reason = first_line(error)
        if "NOT_IMPLEMENTED" in reason or ("INVALID_GRAPH" in reason and "Type Error" in reason):
            raise ArtifactError(
                f"ONNX Runtime has no kernel for a part of {path.name}: {reason}. Its CPU kernels are mostly for "
                "float32: export network.float() with a float32 image."
            ) from error
        raise ArtifactError(f"{path} is damaged or not an ONNX model ONNX Runtime can load: {reason}") from error


ONNX = Format(
    name="onnx",
    suffixes=(".onnx",),
    runtime="onnxruntime",
    packages=("onnxruntime", "onnx", "onnxscript"),
    extra="onnx",
    write=write,
    open=open_,
    open_trusted=open_trusted,
    read_metadata=read_metadata,
    companion=name_companion,
    precisions=PRECISIONS,
    opsets=known_opsets,
    quick=True,
)
