"""The graph of a ``.pt2`` file: what it may hold, and the text that PyTorch receives instead of it."""

import json
import re
from typing import Any

from explainable_model.exporters.guard.expressions import SYMBOL, check_guard, check_size
from explainable_model.exporters.guard.operators import ATEN, SIZES
from explainable_model.exporters.guard.refusal import Refusal, shorten
from explainable_model.exporters.guard.size_nodes import check_size_nodes
from explainable_model.exporters.guard.structure import (
    dict_of,
    is_bool,
    is_float,
    is_int,
    is_name,
    is_path,
    is_small_shape,
    is_text,
    list_of,
    matches,
    one_of,
    optional,
    parse_json,
    record,
    union,
)

TARGET = re.compile(r"torch\.ops\.(\w+)\.(\w+)\.(\w+)", re.ASCII)
ITEM_SIZES = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 9: 4, 10: 8, 11: 16, 12: 1, 13: 2, 28: 2, 29: 1, 30: 1, 31: 1,
    32: 1, 33: 1, 34: 4, 35: 8,
}  # fmt: skip
"""Bytes of an element, by the number of its dtype in the schema of torch.export."""


def check_target(value: Any) -> Any:
    """A node calls an operator on tensors or a function on sizes, and no other function.

    Raises:
        Refusal: it calls something else; the message names it.
    """
    import torch

    if value in SIZES:
        return value
    found = TARGET.fullmatch(value) if isinstance(value, str) else None
    if found and found[1] == "aten" and found[2] in ATEN:
        packet = getattr(torch.ops.aten, found[2], None)
        if packet is not None and found[3] in packet.overloads() and "out" not in found[3].split("_"):
            return value
    raise Refusal(f"it calls {shorten(value)}, which is not among the operators that artifacts may call")


def check_structure(value: Any) -> Any:
    """The nesting of the inputs or outputs: tuples and an empty dictionary, as JSON inside JSON."""
    _check_tree(parse_json(str(value).encode(), "the nesting of its inputs"))
    return value


def _check_tree(tree: Any) -> None:
    shape = record(
        type=one_of("builtins.tuple", "builtins.list", "builtins.dict", None),
        context=one_of("null", "[]", None),
        children_spec=list_of(lambda child: child, 100),
    )
    if not isinstance(tree, list) or len(tree) != 2 or tree[0] != 1:
        raise Refusal("its inputs are nested in an unknown way")
    pending = [tree[1]]
    for _ in range(1000):
        if not pending:
            return
        pending += shape(pending.pop())["children_spec"]
    raise Refusal("its inputs are nested too deep")


_symbol = matches(SYMBOL.pattern)
_hint = union(as_int=is_int, as_bool=is_bool, as_float=is_float)
_expression = record(expr_str=check_size, maybe_hint=optional(_hint))
_size = union(as_expr=_expression, as_int=is_int)
_device = record(type=one_of("cpu"), maybe_index=optional(is_int))
_named = record(name=is_name)
_tensor_meta = record(
    dtype=is_int,
    sizes=list_of(_size, 64),
    requires_grad=is_bool,
    device=_device,
    strides=list_of(_size, 64),
    storage_offset=_size,
    layout=is_int,
)
_sym_int = union(as_name=is_name, as_int=is_int)
_sym_float = union(as_name=is_name, as_float=is_float)
_sym_bool = union(as_name=is_name, as_bool=is_bool)
_optional_tensor = union(as_tensor=_named, as_none=is_bool)
_argument = union(
    as_none=is_bool,
    as_tensor=_named,
    as_tensors=list_of(_named),
    as_int=is_int,
    as_ints=is_small_shape,
    as_float=is_float,
    as_floats=list_of(is_float),
    as_string=matches(r"[A-Za-z0-9_ ,.<>=+*/'()-]{0,400}"),
    as_sym_int=_sym_int,
    as_sym_ints=list_of(_sym_int, 64),
    as_scalar_type=is_int,
    as_memory_format=is_int,
    as_layout=is_int,
    as_device=_device,
    as_bool=is_bool,
    as_bools=list_of(is_bool),
    as_sym_bool=_sym_bool,
    as_sym_bools=list_of(_sym_bool),
    as_optional_tensors=list_of(_optional_tensor),
    as_sym_float=_sym_float,
    as_sym_floats=list_of(_sym_float),
    as_optional_tensor=_optional_tensor,
    as_complex=record(real=is_float, imag=is_float),
    as_nested_tensors=list_of(list_of(_named)),
)
_node = record(
    target=check_target,
    inputs=list_of(record(name=is_name, arg=_argument, maybe_kind=optional(is_int))),
    outputs=list_of(_argument),
    metadata=lambda value: {},  # where the node comes from: names of modules, lines of code, other programs
    maybe_is_hop_single_tensor_return=one_of(None),
    maybe_name=optional(is_name),
)
_nothing = one_of({}, [], None)
_graph = record(
    inputs=list_of(_argument),
    outputs=list_of(_argument),
    nodes=list_of(_node),
    tensor_values=dict_of(is_name, _tensor_meta),
    sym_int_values=dict_of(is_name, _size),
    sym_bool_values=dict_of(is_name, union(as_expr=_expression, as_bool=is_bool)),
    maybe_is_single_tensor_return=one_of(False),
    maybe_custom_obj_values=_nothing,
    maybe_sym_float_values=dict_of(is_name, union(as_expr=_expression, as_float=is_float)),
)
_signature = record(
    input_specs=list_of(
        union(
            user_input=record(arg=_argument),
            parameter=record(arg=_named, parameter_name=is_path),
            buffer=record(arg=_named, buffer_name=is_path, persistent=is_bool),
            tensor_constant=record(arg=_named, tensor_constant_name=is_path),
        )
    ),
    output_specs=list_of(union(user_output=record(arg=_argument))),
)
_call = record(
    inputs=list_of(_argument),
    outputs=list_of(_argument),
    in_spec=check_structure,
    out_spec=check_structure,
    maybe_forward_arg_names=optional(list_of(is_name)),
)
_program = record(
    graph_module=record(
        graph=_graph,
        signature=_signature,
        module_call_graph=list_of(record(fqn=is_path, signature=optional(_call))),
        maybe_metadata=lambda value: {},
        maybe_treespec_namedtuple_fields=_nothing,
    ),
    opset_version=dict_of(one_of("aten"), is_int),
    range_constraints=dict_of(_symbol, record(min_val=optional(is_int), max_val=optional(is_int))),
    schema_version=record(major=is_int, minor=is_int),
    maybe_verifiers=list_of(one_of("TRAINING", "ATEN"), 2),
    maybe_torch_version=is_text,
    maybe_guards_code=list_of(check_guard, 10_000),
)


def check_program(content: bytes) -> bytes:
    """Check the graph, and write it anew from what was checked.

    Raises:
        Refusal: it holds something that the exporter does not write.
    """
    program = _program(parse_json(content, "its graph"))
    check_size_nodes(program["graph_module"]["graph"]["nodes"])
    return json.dumps(program).encode()


def check_payload(content: bytes, sizes: dict[str, int], prefix: str) -> bytes:
    """Check the list of weights or constants against the entries that hold them.

    Args:
        content: the list as JSON.
        sizes: bytes of each entry, by its name.
        prefix: how the names of the entries begin.

    Raises:
        Refusal: it names a pickle or another entry, a tensor reaches beyond its entry, or an entry holds none.
    """
    payload = record(
        path_name=matches(rf"{prefix}_\d{{1,9}}"), is_param=is_bool, use_pickle=one_of(False), tensor_meta=_tensor_meta
    )
    config = record(config=dict_of(is_path, payload))(parse_json(content, "its list of weights"))
    for name, row in config["config"].items():
        _check_extent(name, row["tensor_meta"], sizes.get(row["path_name"]))
    unused = sizes.keys() - {row["path_name"] for row in config["config"].values()}
    if unused:
        raise Refusal(f"no weight lies in its entry {shorten(min(unused))}")
    return json.dumps(config).encode()


def _check_extent(name: str, meta: dict[str, Any], available: int | None) -> None:
    shape, strides = ([size.get("as_int", -1) for size in meta[key]] for key in ("sizes", "strides"))
    offset, item = meta["storage_offset"].get("as_int", -1), ITEM_SIZES.get(meta["dtype"], 0)
    if available is None or not item or available % item or len(shape) != len(strides):
        raise Refusal(f"the entry of the weight {shorten(name)} is missing or of another type")
    if min([0, offset, *shape, *strides]) < 0:
        raise Refusal(f"the weight {shorten(name)} has a negative size")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    empty = 0 in shape
    count = 0 if empty else 1
    for size in shape:
        count *= size
    if count * item > available or (not empty and (last + 1) * item > available) or (empty and available):
        raise Refusal(f"the weight {shorten(name)} is larger than its entry")
