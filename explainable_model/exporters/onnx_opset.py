"""ONNX graphs in another opset: an operator that it lacks is written in operators that it has, or refused by name.

PyTorch's exporter writes opset 18 and converts to no older one. A runtime reads no opset that is newer than it is.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from explainable_model.errors import LoweringError
from explainable_model.exporters.onnx_forms import NEWER, OLDER, WRITTEN, NoForm, Writer

if TYPE_CHECKING:
    from explainable_model.networks.onnx.kept import KeptGraph

OLDEST = 13


def known_opsets() -> range:
    """The opsets that an artifact can be written in: from 13 to the newest one of the installed onnx."""
    import onnx

    return range(OLDEST, onnx.defs.onnx_opset_version() + 1)


def default_opset(kept: Sequence["KeptGraph"]) -> int:
    """The opset where none is asked for: 18, or that of a file whose nodes are kept."""
    from explainable_model.networks.onnx.file import opset_of

    return max([WRITTEN, *(opset_of(each.model) for each in kept)])


def write_opset(model: Any, opset: int, network: str) -> None:
    """Write a graph of opset 18 in another opset, and in the oldest IR version that has it.

    Args:
        model: of onnx_ir; changed in place. Nodes of other domains stay.
        opset: the version of ONNX's operators.
        network: its name, for the message.

    Raises:
        LoweringError: an operator has no form in the opset; the message says which opset has it.
    """
    import onnx_ir.passes.common as passes
    from onnx import helper

    refused: dict[str, int] = {}
    for node in list(model.graph) if model.opset_imports.get("") != opset else []:
        if node.domain == "":
            _write_node(model.graph, node, opset, refused)
    if refused:
        needed = f"{max(refused.values())} or newer" if opset < WRITTEN else str(WRITTEN)
        raise LoweringError(
            f"{network} cannot be written in opset {opset}, which has no {', '.join(refused)}. Export with "
            f"opset={needed}."
        )
    model.opset_imports[""] = opset
    model.ir_version = helper.find_min_ir_version_for([helper.make_opsetid("", opset)], ignore_unknown=True)
    passes.RemoveUnusedNodesPass()(model)


def _write_node(graph: Any, node: Any, opset: int, refused: dict[str, int]) -> None:
    import onnx_ir

    if any(
        each.type in (onnx_ir.AttributeType.GRAPH, onnx_ir.AttributeType.GRAPHS) for each in node.attributes.values()
    ):
        refused[f"form of {node.op_type} with a graph inside"] = WRITTEN
        return
    since, form = (OLDER if opset < WRITTEN else NEWER).get(node.op_type, (WRITTEN, None))
    if form is not None and (opset < since if opset < WRITTEN else opset >= since):
        writer = Writer(node, graph, opset)
        try:
            result = form(writer)
        except NoForm as reason:
            refused[reason.missing] = reason.since
            return
        made = result if isinstance(result, list) else [result]
        onnx_ir.convenience.replace_nodes_and_values(
            graph, node, [node], writer.written, node.outputs[: len(made)], made
        )
    else:
        writer = Writer(node, graph, opset, [node])
    for each in writer.written:
        each.version = opset
        problem = find_problem(each, opset)
        if problem:
            newer = (version for version in range(opset + 1, WRITTEN + 1) if not find_problem(each, version))
            refused[problem] = next(newer, WRITTEN)


def find_problem(node: Any, opset: int) -> str:
    """The part of a node that the opset does not have: the operator, an attribute or a type; empty if it has all."""
    from onnx import defs

    try:
        schema = defs.get_schema(node.op_type, opset, "")
    except defs.SchemaError:
        return str(node.op_type)
    unknown = node.attributes.keys() - schema.attributes.keys()
    if unknown:
        return f"{node.op_type} with {', '.join(sorted(unknown))}"
    if len(node.inputs) > schema.max_input or len(node.outputs) > schema.max_output:
        return f"{node.op_type} of so many inputs or outputs"
    return next(_find_types(node, schema), "")


def _find_types(node: Any, schema: Any) -> Iterator[str]:
    import onnx_ir

    for position, value in enumerate(node.inputs):
        if value is None or not isinstance(value.type, onnx_ir.TensorType):  # unknown, or a list of tensors
            continue
        allowed = schema.inputs[min(position, len(schema.inputs) - 1)].types
        if f"tensor({value.dtype.name.lower()})" not in allowed:
            yield f"{node.op_type} of {value.dtype.name.lower()}"
