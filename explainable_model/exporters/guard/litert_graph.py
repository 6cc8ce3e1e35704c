"""What a LiteRT model of this library never holds: loops, calls, variables, operators of others, numbers elsewhere.

The interpreter was written for models of its user. It therefore receives a file that is written anew of objects that
were read and checked here, so that no offset leads out of the file, and no index out of a list.
"""

import math
from collections.abc import Iterable
from typing import Any

from explainable_model.artifact.limits import MAX_WORK
from explainable_model.exporters.guard.refusal import Refusal, shorten

OPERATORS = frozenset(
    {
        "ABS", "ADD", "ADD_N", "ARG_MAX", "ARG_MIN", "AVERAGE_POOL_2D", "BATCH_MATMUL", "BROADCAST_TO", "CAST", "CEIL",
        "CONCATENATION", "CONV_2D", "CONV_3D", "CONV_3D_TRANSPOSE", "COS", "CUMSUM", "DEPTHWISE_CONV_2D",
        "DEPTH_TO_SPACE", "DEQUANTIZE", "DIV", "ELU", "EMBEDDING_LOOKUP", "EQUAL", "EXP", "EXPAND_DIMS", "FILL",
        "FLOOR", "FLOOR_DIV", "FLOOR_MOD", "FULLY_CONNECTED", "GATHER", "GATHER_ND", "GELU", "GREATER", "GREATER_EQUAL",
        "HARD_SWISH", "L2_NORMALIZATION", "LEAKY_RELU", "LESS", "LESS_EQUAL", "LOG", "LOGICAL_AND", "LOGICAL_NOT",
        "LOGICAL_OR", "LOGISTIC", "LOG_SOFTMAX", "MAXIMUM", "MAX_POOL_2D", "MEAN", "MINIMUM", "MIRROR_PAD", "MUL",
        "NEG", "NOT_EQUAL", "ONE_HOT", "PACK", "PAD", "PADV2", "POW", "PRELU", "QUANTIZE", "RANGE", "REDUCE_ALL",
        "REDUCE_ANY", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1",
        "RESHAPE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "REVERSE_V2", "ROUND", "RSQRT", "SCATTER_ND", "SELECT",
        "SELECT_V2", "SHAPE", "SIGN", "SIN", "SLICE", "SOFTMAX", "SPACE_TO_DEPTH", "SPLIT", "SPLIT_V", "SQRT", "SQUARE",
        "SQUARED_DIFFERENCE", "SQUEEZE", "STRIDED_SLICE", "SUB", "SUM", "TANH", "TILE", "TOPK_V2", "TRANSPOSE",
        "TRANSPOSE_CONV", "UNPACK", "WHERE", "ZEROS_LIKE",
    }
)  # fmt: skip
"""Operators that compute tensors of tensors, and have no state."""

BYTES = {"FLOAT32": 4, "FLOAT16": 2, "INT32": 4, "UINT8": 1, "INT64": 8, "BOOL": 1, "INT16": 2, "INT8": 1}
"""Bytes of an element, by the name of its type; models of this library have no other types."""

ABSENT = -1  # the index of an optional input that is left out


def check_litert(model: Any, schema: Any) -> None:
    """Check a model that was read into objects.

    Args:
        model: ``ModelT`` of LiteRT's schema.
        schema: the module of the schema.

    Raises:
        Refusal: it holds something that the exporter does not write.
    """
    if model.externalBuffers or model.externalBufferGroups:
        raise Refusal("its weights lie in another file")
    if len(model.subgraphs or ()) != 1:
        raise Refusal(f"it has {len(model.subgraphs or ())} graphs, as models with loops and calls have")
    (graph,) = model.subgraphs
    _check_operators(model, graph, {number: name for name, number in vars(schema.BuiltinOperator).items()})
    kinds = {number: name for name, number in vars(schema.TensorType).items() if name in BYTES}
    buffers = model.buffers or []
    if any(buffer.offset or buffer.size for buffer in buffers):
        raise Refusal("its weights lie behind the model")
    total = sum(_check_tensor(tensor, buffers, kinds) for tensor in graph.tensors or ())
    if total > MAX_WORK:
        raise Refusal(f"a call would take {total / 2**30:.0f} GiB of memory")
    _check_ends(model, graph)


def _check_operators(model: Any, graph: Any, names: dict[Any, str]) -> None:
    used = []
    for code in model.operatorCodes or ():
        name = names.get(max(code.builtinCode, code.deprecatedBuiltinCode), "an unknown operator")
        if name not in OPERATORS or code.customCode is not None:
            raise Refusal(f"it has the operator {shorten(name)}")
        used.append(name)
    tensors = range(len(graph.tensors or ()))
    for operator in graph.operators or ():
        if not 0 <= operator.opcodeIndex < len(used):
            raise Refusal("an operator has no name")
        if operator.largeCustomOptionsOffset or operator.largeCustomOptionsSize or _length(operator.customOptions):
            raise Refusal(f"an operator {used[operator.opcodeIndex]} has options of its own")
        if _length(operator.mutatingVariableInputs) or _length(operator.intermediates):
            raise Refusal(f"an operator {used[operator.opcodeIndex]} has a state")
        _check_indices(operator.inputs, tensors, ABSENT)
        _check_indices(operator.outputs, tensors, 0)


def _check_tensor(tensor: Any, buffers: list[Any], kinds: dict[Any, str]) -> int:
    """Check one tensor; its bytes."""
    if tensor.type not in kinds:
        raise Refusal(f"it has a tensor of the type {tensor.type}")
    if tensor.isVariable or tensor.sparsity is not None or tensor.variantTensors:
        raise Refusal("it has a tensor that keeps a state, or a sparse one")
    if tensor.externalBuffer or not 0 <= tensor.buffer < len(buffers):
        raise Refusal("the numbers of a tensor lie outside of the file")
    shape = [int(size) for size in (tensor.shape if tensor.shape is not None else ())]
    if any(size < 0 for size in (*shape, *(tensor.shapeSignature if tensor.shapeSignature is not None else ()))):
        raise Refusal("it has a tensor of open size")
    if len(shape) > 8:
        raise Refusal("it has a tensor of more than 8 dimensions")
    size = math.prod(shape) * BYTES[kinds[tensor.type]]
    held = _length(buffers[tensor.buffer].data)
    if held and held != size:
        raise Refusal(f"a weight has {held} bytes, and its shape asks for {size}")
    return 0 if held else size


def _check_ends(model: Any, graph: Any) -> None:
    tensors = range(len(graph.tensors or ()))
    for indices in (graph.inputs, graph.outputs):
        _check_indices(indices, tensors, 0)
    for signature in model.signatureDefs or ():
        if signature.subgraphIndex != 0:
            raise Refusal("a signature is that of another graph")
        for end in (*(signature.inputs or ()), *(signature.outputs or ())):
            _check_indices([end.tensorIndex], tensors, 0)
    for entry in model.metadata or ():
        if not 0 <= entry.buffer < len(model.buffers or ()):
            raise Refusal("its metadata lie outside of the file")


def _check_indices(indices: Iterable[Any] | None, known: range, least: int) -> None:
    for index in () if indices is None else indices:
        if index not in known and not (least == ABSENT and index == ABSENT):
            raise Refusal("an index leads to no tensor")


def _length(values: Any) -> int:
    """The number of values of an optional list; a flatbuffer that has none is read as ``None`` or as zero."""
    return 0 if values is None or isinstance(values, int) else len(values)
