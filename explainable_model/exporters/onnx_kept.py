"""Puts the nodes of a file back into the ONNX graph of its explanation, where one operator stood for them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from explainable_model.errors import InputError, LoweringError, first_line
from explainable_model.exporters.format import Format
from explainable_model.networks.onnx.file import STANDARD, opset_of
from explainable_model.networks.onnx.kept import AS_IN_FILE, KEPT_GRAPH, KeptGraph

DOMAIN = "explainable_model"  # of the operator that stands for a value of the file until its nodes are put back

TYPES = (
    "float", "double", "float16", "bfloat16", "uint8", "int8", "uint16", "int16", "int32", "int64", "bool",
)  # fmt: skip
"""ONNX's names of the types that a value of a file may have."""


def check_kept(kept: Sequence[KeptGraph], fmt: Format, path: Path, precision: str | None) -> None:
    """Refuse another format, or other numbers, than those of the nodes of a file that are kept.

    Raises:
        InputError: how to read the file instead.
    """
    if not kept:
        return
    again = "read it with from_onnx(path, rounds=False), or with keep_graph=False"
    if fmt.name != "onnx":
        raise InputError(
            f"The network keeps the nodes of its ONNX file, which {fmt.runtime} does not run: write {path.stem}.onnx; "
            f"or {again}, to have the network in PyTorch's operators."
        )
    if precision is not None:
        raise InputError(
            f"The network keeps the nodes of its ONNX file as they are: leave out precision={precision!r}; or {again}."
        )


def translations(kept: Sequence[KeptGraph]) -> dict[Callable[..., Any], Callable[..., Any]] | None:
    """How PyTorch's exporter writes the operators that stand for the nodes of files; ``None`` where there are none."""
    if not kept:
        return None
    import onnxscript

    _register()
    kept_opset, plain = onnxscript.values.Opset(DOMAIN, 1), onnxscript.opset18
    counts = {graph.key: len(graph.values) for graph in kept}

    def translate_graph(inputs: Sequence[Any], key: str) -> Any:
        return tuple(kept_opset.KeptValue(*inputs, key=key, index=index) for index in range(counts[key]))

    def translate_value(self: Any, other: Any) -> Any:
        return plain.Identity(other)

    return {KEPT_GRAPH: translate_graph, AS_IN_FILE: translate_value}


def _register() -> None:
    """Tell onnx of the operator, once in a process: without it, onnxscript takes attributes for inputs."""
    from onnx import defs

    if defs.has("KeptValue", DOMAIN):
        return
    schema, parameter, attribute = defs.OpSchema, defs.OpSchema.FormalParameter, defs.OpSchema.Attribute
    types = [f"tensor({kind})" for kind in TYPES]
    inputs = parameter("inputs", "I", param_option=schema.FormalParameterOption.Variadic, is_homogeneous=False)
    defs.register_schema(
        schema(
            "KeptValue",
            DOMAIN,
            1,
            inputs=[inputs],
            outputs=[parameter("value", "O")],
            type_constraints=[("I", types, ""), ("O", types, "")],
            attributes=[
                attribute("key", schema.AttrType.STRING, "", required=True),
                attribute("index", schema.AttrType.INT, "", required=True),
            ],
        )
    )


def put_back(model: Any, kept: Sequence[KeptGraph]) -> None:
    """Replace the operators that stand for values of a file by the file's own nodes, which keep their names.

    Args:
        model: of onnx_ir; changed in place.
        kept: the graphs whose values it has.

    Raises:
        LoweringError: the file has another opset, and onnx cannot convert its nodes.
    """
    import onnx_ir
    import onnx_ir.passes.common as passes

    for graph in kept:
        nodes = [node for node in model.graph if node.domain == DOMAIN and _read(node, "key") == graph.key]
        if nodes:
            _put_back_one(model, nodes, onnx_ir.from_proto(_convert(graph, model)), graph)
    if kept:
        model.opset_imports.pop(DOMAIN, None)
        passes.RemoveUnusedNodesPass()(model)


def _read(node: Any, name: str) -> Any:
    attribute = node.attributes[name]
    return attribute.as_string() if name == "key" else attribute.as_int()


def _convert(kept: KeptGraph, model: Any) -> Any:
    """The file's graph in the opset of the explanation."""
    from onnx import helper, version_converter

    wanted = model.opset_imports[""]
    proto = type(kept.model)()
    proto.CopyFrom(kept.model)
    if not any(each.domain in STANDARD for each in proto.opset_import):
        proto.opset_import.append(helper.make_opsetid("", wanted))
    if opset_of(proto) != wanted:
        try:
            proto = version_converter.convert_version(proto, wanted)
        except Exception as error:  # of the C++ part of onnx
            raise LoweringError(
                f"The nodes of the file are of opset {opset_of(kept.model)}, and onnx cannot convert them to {wanted}: "
                f"{first_line(error)}. Export with another opset=, or read the file with keep_graph=False."
            ) from error
    for node in proto.graph.node:
        del node.metadata_props[:]  # where it came from, which may hold paths of another machine
        node.doc_string = ""
    return proto


def _put_back_one(model: Any, stand_ins: Sequence[Any], file: Any, kept: KeptGraph) -> None:
    import onnx_ir

    theirs = file.graph
    model.ir_version = max(model.ir_version, file.ir_version)
    used = {node.domain for node in theirs} - set(STANDARD)
    model.opset_imports.update({domain: v for domain, v in file.opset_imports.items() if domain in used})
    by_name = {value.name: value for value in _values(theirs)}
    _make_room(model, theirs)
    for given, value in zip(_inputs(theirs), stand_ins[0].inputs, strict=True):
        onnx_ir.convenience.replace_all_uses_with(given, value)
    weights = list(theirs.initializers.values())
    theirs.initializers.clear()
    for weight in weights:
        model.graph.register_initializer(weight)
    nodes = list(theirs)
    theirs.outputs.clear()
    theirs.remove(nodes)
    model.graph.insert_before(stand_ins[0], nodes)
    for stand_in in stand_ins:
        value = kept.values[_read(stand_in, "index")]
        found, old = by_name[value], stand_in.outputs[0]
        name = old.name if old.is_graph_output() else None
        onnx_ir.convenience.replace_all_uses_with(old, found, replace_graph_outputs=True)
        if name is not None:
            old.name, found.name = None, name
            found.shape = old.shape
            found.type = found.type or onnx_ir.TensorType(onnx_ir.DataType.from_numpy(kept.dtype_of(value)))
    model.graph.remove(list(stand_ins), safe=True)
    _share_weights(model, weights)


def _inputs(graph: Any) -> list[Any]:
    """The inputs without the weights that older files list among them, the image first as in ``KeptGraph``."""
    return [value for value in graph.inputs if value.name not in graph.initializers]


def _values(graph: Any) -> Iterator[Any]:
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs


def _make_room(model: Any, theirs: Any) -> None:
    """Rename what has the name of a node or value of the file; inputs and outputs of the artifact keep theirs."""
    ours = model.graph
    fixed = {value.name for value in (*ours.inputs, *ours.outputs)}
    for value in list(_values(theirs)):
        if value.name in fixed:
            value.name = f"{value.name}_in_file"
    taken = {value.name for value in _values(theirs)}
    for value in list(_values(ours)):
        if value.name in taken and value.name not in fixed:
            value.name = f"explanation/{value.name}"
    names = {node.name for node in theirs if node.name}
    for node in ours:
        if node.name in names:
            node.name = f"explanation/{node.name}"


def _share_weights(model: Any, weights: Sequence[Any]) -> None:
    """Let the explanation read the weights of the file where they are equal, so that none is stored twice."""
    import onnx_ir

    known = {_content(weight): weight for weight in weights if weight.const_value is not None}
    own = {weight.name for weight in weights}
    for value in list(model.graph.initializers.values()):
        same = known.get(_content(value)) if value.name not in own and value.const_value is not None else None
        if same is not None:
            onnx_ir.convenience.replace_all_uses_with(value, same)
            del model.graph.initializers[value.name]


def _content(value: Any) -> tuple[Any, ...]:
    constant = value.const_value
    return constant.dtype, tuple(constant.shape), hash(constant.tobytes())
