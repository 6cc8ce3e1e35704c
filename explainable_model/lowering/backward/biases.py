"""The bias of every operator, for FullGrad: the part of its output that is not linear in its inputs."""

from collections.abc import Callable, Collection, Mapping, Set
from typing import Any, TypeAlias

import torch
from torch import fx
from torch._ops import OpOverload

from explainable_model.attribution.plan import BIASES, Plan
from explainable_model.errors import ModelError
from explainable_model.lowering.backward import bias_functions as bias
from explainable_model.lowering.backward.tail import find_tail
from explainable_model.lowering.graph import TAP, insert_like, layer_of
from explainable_model.lowering.rules.call import schema_arguments

aten = torch.ops.aten
Arguments: TypeAlias = Mapping[str, Any]  # ATen's name -> value, a node where it is a tensor
Choice: TypeAlias = Callable[[Collection[str], Arguments], bias.Bias | None]  # (names on the path, arguments) -> bias


def tap_biases(graph: fx.Graph, plan: Plan) -> None:
    """Mark the bias of every operator between the image and the scores: ``b = y - J x``, with its Jacobian ``J``.

    The mark is added to the output and ``b`` is subtracted, so the output stays as it is, and the gradient of a score
    by the mark is its gradient by the output. The image times its gradient and all biases times theirs add up to the
    score: every operator passes ``J x`` on.

    Args:
        graph: as from ``capture``, with a mark on the image.
        plan: what is explained.

    Raises:
        ModelError: the bias of an operator is not known; the error names it.
    """
    tail = find_tail(graph, plan)
    on_path = set(tail.path)
    skipped = tail.skipped if plan.target.linear else frozenset()
    for node in tail.path:
        if node not in skipped and (function := _bias_function(node, on_path)) is not None:
            on_path.add(_mark(graph, node, function, on_path))


def _bias_function(node: fx.Node, on_path: Set[fx.Node]) -> bias.Bias | None:
    op: Any = node.target
    if op in WITHOUT_BIAS:
        return None
    if op not in CHOICES:
        raise ModelError(
            f"FullGrad adds up the biases of all operators, and the bias of {op} (from "
            f"{layer_of(node) or 'the network itself'}) is not known: attention and rare operators have no row. Use "
            "'inputxgradient', 'integrated_gradients' or a method that explains at a layer."
        )
    arguments = _arguments(node)
    return CHOICES[op]([name for name, value in arguments.items() if _are_in(value, on_path)], arguments)


def _arguments(node: fx.Node) -> dict[str, Any]:
    op: Any = node.target
    return {argument.name: value for argument, value in schema_arguments(op, node.args, node.kwargs)}


def _is_in(value: Any, nodes: Set[fx.Node]) -> bool:
    return isinstance(value, fx.Node) and value in nodes


def _are_in(value: Any, nodes: Set[fx.Node]) -> bool:
    """As ``_is_in``; of a list, whether all parts are."""
    return all(_is_in(part, nodes) for part in value) if isinstance(value, (list, tuple)) else _is_in(value, nodes)


def _still(graph: fx.Graph, value: Any, on_path: Set[fx.Node]) -> Any:
    """An argument without a gradient; in a list, zeros stand for what the image reaches."""
    if isinstance(value, (list, tuple)):
        zeros = {part: insert_like(graph, part, aten.zeros_like.default, part) for part in value if part in on_path}
        return [zeros.get(part, part) for part in value]
    return insert_like(graph, value, aten.detach.default, value) if _is_in(value, on_path) else value


def _mark(graph: fx.Graph, node: fx.Node, function: bias.Bias, on_path: Set[fx.Node]) -> fx.Node:
    """Add the mark and subtract the bias; the result stands for the node from here on."""
    readers = list(node.users)
    following = node.next
    with graph.inserting_before(following):
        still = {name: _still(graph, value, on_path) for name, value in _arguments(node).items()}
        output = insert_like(graph, node, aten.detach.default, node)
        made = graph.call_function(function, (output,), still)
        made.meta.update(output.meta)
        value = insert_like(graph, node, aten.detach.default, made)  # of its parameters no gradient is wanted
        marked = insert_like(graph, node, TAP, value, BIASES)
        nothing = insert_like(graph, node, aten.sub.Tensor, marked, value)
        same = insert_like(graph, node, aten.add.Tensor, node, nothing)
    for reader in readers:
        reader.replace_input_with(node, same)
    return same


def _always(function: bias.Bias) -> Choice:
    return lambda on_path, arguments: function


def _linear_map(on_path: Collection[str], arguments: Arguments) -> bias.Bias | None:
    if "weight" in on_path:
        return bias.of_bilinear if arguments["bias"] is None else bias.of_dynamic_map
    return None if arguments["bias"] is None else bias.of_linear_map


def _addmm(on_path: Collection[str], arguments: Arguments) -> bias.Bias | None:
    return None if "self" in on_path else bias.of_addmm


def _bound(on_path: Collection[str], arguments: Arguments) -> bias.Bias | None:
    if len(on_path) == 2:
        return None
    return bias.of_bound_by_other if "self" in on_path else bias.of_bound_by_self


def _shaped(on_path: Collection[str], arguments: Arguments) -> bias.Bias | None:
    return None if "self" in on_path else bias.of_shaped_constant


def _joined(function: bias.Bias) -> Choice:
    return lambda on_path, arguments: None if "tensors" in on_path else function


def _sum(on_path: Collection[str], arguments: Arguments) -> bias.Bias | None:
    if len(on_path) == 2:
        return None
    return bias.of_added_constant if "self" in on_path else bias.of_constant_first


def _padding(on_path: Collection[str], arguments: Arguments) -> bias.Bias | None:
    return bias.of_padding if arguments["value"] else None


def _product(on_path: Collection[str], arguments: Arguments) -> bias.Bias | None:
    return bias.of_bilinear if len(on_path) > 1 else None


def _quotient(on_path: Collection[str], arguments: Arguments) -> bias.Bias | None:
    if "other" not in on_path:
        return None
    return bias.of_quotient if "self" in on_path else bias.of_reciprocal


CONVOLUTIONS = (aten.conv1d.default, aten.conv2d.default, aten.conv3d.default, aten.conv1d.padding, aten.conv2d.padding,
                aten.conv3d.padding, aten.convolution.default, aten.conv_transpose1d.default,
                aten.conv_transpose2d.input, aten.conv_transpose3d.input)  # fmt: skip

CHOICES: Mapping[OpOverload, Choice] = {
    **dict.fromkeys(CONVOLUTIONS, _linear_map),
    aten.linear.default: _linear_map,
    aten.addmm.default: _addmm,
    aten.pad.default: _padding,
    aten.constant_pad_nd.default: _padding,
    aten.add.Tensor: _sum,
    aten.sub.Tensor: _sum,
    aten.add.Scalar: _sum,
    aten.sub.Scalar: _sum,
    aten.mul.Tensor: _product,
    aten.matmul.default: _product,
    aten.bmm.default: _product,
    aten.mm.default: _product,
    aten.div.Tensor: _quotient,
    aten.expand_as.default: _shaped,
    aten.cat.default: _joined(bias.of_cat),
    aten.stack.default: _joined(bias.of_stack),
    aten.maximum.default: _bound,
    aten.minimum.default: _bound,
    aten.batch_norm.default: _always(bias.of_batch_norm),
    aten.layer_norm.default: _always(bias.of_layer_norm),
    aten.group_norm.default: _always(bias.of_group_norm),
    aten.hardtanh.default: _always(bias.of_hardtanh),
    aten.relu6.default: _always(bias.of_relu6),
    aten.clamp.default: _always(bias.of_clamp),
    aten.silu.default: _always(bias.of_silu),
    aten.gelu.default: _always(bias.of_gelu),
    aten.sigmoid.default: _always(bias.of_sigmoid),
    aten.tanh.default: _always(bias.of_tanh),
    aten.hardswish.default: _always(bias.of_hardswish),
    aten.hardsigmoid.default: _always(bias.of_hardsigmoid),
    aten.elu.default: _always(bias.of_elu),
}
"""Operator -> its bias, which may depend on the arguments that the image reaches."""

WITHOUT_BIAS = frozenset(
    {TAP, bias.getitem, aten.relu.default, aten.leaky_relu.default, aten.rrelu.default, aten.prelu.default,
     aten.hardshrink.default, aten.abs.default,
     aten.neg.default, aten.mul.Scalar, aten.div.Scalar, aten.max_pool1d.default, aten.max_pool2d.default,
     aten.max_pool3d.default, aten.max_pool2d_with_indices.default, aten.max_pool3d_with_indices.default,
     aten.avg_pool1d.default, aten.avg_pool2d.default, aten.avg_pool3d.default, aten.adaptive_avg_pool1d.default,
     aten.adaptive_avg_pool2d.default, aten.adaptive_avg_pool3d.default, aten._adaptive_avg_pool2d.default,
     aten._adaptive_avg_pool3d.default, aten.adaptive_max_pool2d.default, aten.mean.default, aten.mean.dim,
     aten.sum.default, aten.sum.dim_IntList, aten.amax.default, aten.amin.default, aten.max.dim,
     aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.flatten.using_ints,
     aten.unflatten.int, aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims, aten.unsqueeze.default,
     aten.permute.default, aten.transpose.int, aten.t.default, aten.expand.default,
     aten.alias.default, aten.clone.default, aten.contiguous.default, aten.dropout.default, aten._to_copy.default,
     aten.to.dtype, aten.slice.Tensor, aten.select.int, aten.narrow.default,
     aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default, aten.unbind.int, aten.index_select.default,
     aten.gather.default, aten.flip.default, aten.roll.default, aten.movedim.int, aten.pixel_shuffle.default,
     aten.pixel_unshuffle.default, aten.channel_shuffle.default, aten.upsample_nearest2d.vec,
     aten.upsample_nearest2d.default, aten.upsample_bilinear2d.vec, aten.upsample_bilinear2d.default,
     aten.zeros_like.default}
)  # fmt: skip
"""Operators that are linear or piecewise linear without a bias."""
