"""Compute the parts of a graph ahead of time that do not depend on the image."""

from typing import Any

import torch
from torch import Tensor, fx, nn

from explainable_model.lowering.graph import add_constant, drop_unused_attributes, get_attribute

aten = torch.ops.aten
CONVOLUTIONS = (aten.conv1d.default, aten.conv2d.default, aten.conv3d.default)


def fold_batch_norm(module: fx.GraphModule) -> int:
    """Fold each batch norm into the convolution or linear layer before it: ``W' = W s, b' = (b - mean) s + beta``.

    ``s = gamma / sqrt(var + eps)``, computed in float64. A node between the two, such as the mark of
    the target layer, prevents the fold, so the value that is explained never changes.

    Returns:
        How many were folded.
    """
    count = 0
    for node in list(module.graph.nodes):
        if node.target is aten.batch_norm.default and _fold_one(module, node):
            count += 1
    module.graph.eliminate_dead_code()
    drop_unused_attributes(module)
    module.recompile()
    return count


def _fold_one(module: fx.GraphModule, norm: fx.Node) -> bool:
    layer = norm.args[0]
    if not isinstance(layer, fx.Node) or len(layer.users) != 1 or not _is_foldable(layer):
        return False
    weight_node, bias_node = layer.args[1], layer.args[2] if len(layer.args) > 2 else None
    weight, bias = _constant(module, weight_node), _constant(module, bias_node)
    gamma, beta, mean, var = (_constant(module, argument) for argument in norm.args[1:5])
    if weight is None or mean is None or var is None or (bias is None and bias_node is not None):
        return False
    eps = norm.args[7]
    assert isinstance(eps, float)
    scale = torch.rsqrt(var.double() + eps) * (1.0 if gamma is None else gamma.double())
    shift = ((0.0 if bias is None else bias.double()) - mean.double()) * scale
    folded = (weight.double() * scale.reshape(-1, *[1] * (weight.ndim - 1))).to(weight.dtype)
    shift = (shift if beta is None else shift + beta.double()).to(weight.dtype)
    with module.graph.inserting_before(layer):
        assert isinstance(weight_node, fx.Node)
        parent = str(weight_node.target).rpartition(".")[0]
        new_weight = add_constant(module, f"{parent}.folded_weight", folded)
        new_bias = add_constant(module, f"{parent}.folded_bias", shift)
    layer.args = (layer.args[0], new_weight, new_bias, *layer.args[3:])
    norm.replace_all_uses_with(layer)
    module.graph.erase_node(norm)
    return True


def _is_foldable(layer: fx.Node) -> bool:
    if layer.target is aten.linear.default:
        value = layer.meta.get("val")
        return isinstance(value, Tensor) and value.ndim == 2  # else the batch norm is not over the last dimension
    return layer.target in CONVOLUTIONS


def _constant(module: nn.Module, argument: Any) -> Tensor | None:
    return get_attribute(module, argument) if isinstance(argument, fx.Node) else None


def fold_constants(module: fx.GraphModule) -> int:
    """Evaluate every part of the graph that depends on parameters alone (such as flipped kernels).

    The results are contiguous: TorchScript would copy a strided kernel at every call.

    Returns:
        How many constants were made.
    """
    graph, values, count = module.graph, {}, 0
    with torch.no_grad():
        for node in graph.nodes:
            if node.op == "get_attr":
                value = get_attribute(module, node)
                if value is not None:
                    values[node] = value
            elif node.op == "call_function" and node.all_input_nodes and all(i in values for i in node.all_input_nodes):
                args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: values[n])
                values[node] = node.target(*args, **kwargs)
    for node in list(graph.nodes):
        result = values.get(node)
        if node.op == "get_attr" or not isinstance(result, Tensor) or all(u in values for u in node.users):
            continue
        with graph.inserting_before(node):
            constant = add_constant(module, f"constant_{count}", result.clone())
        node.replace_all_uses_with(constant)
        count += 1
    graph.eliminate_dead_code()
    drop_unused_attributes(module)
    module.recompile()
    return count
