"""Replace in-place operators by functional ones without a second trace.

``ExportedProgram.run_decompositions`` does so for every graph, but takes longer than the export itself. Most networks
write in place only where nothing else reads the memory: an activation over the output of a convolution.
"""

from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import HigherOrderOperator, OpOverload

aten = torch.ops.aten
DROPOUT = (
    aten.dropout.default, aten.dropout_.default, aten.feature_dropout.default, aten.feature_dropout_.default,
    aten.alpha_dropout.default, aten.alpha_dropout_.default, aten.feature_alpha_dropout.default,
    aten.feature_alpha_dropout_.default,
)  # fmt: skip

# The schema of a composition of operators does not tell that it returns new memory. These do.
FRESH_COMPOSITES = frozenset(
    {aten.conv1d.default, aten.conv2d.default, aten.conv3d.default, aten.conv2d.padding, aten.linear.default,
     aten.batch_norm.default, aten.layer_norm.default, aten.group_norm.default, aten.instance_norm.default,
     aten.max_pool1d.default, aten.max_pool2d.default, aten.max_pool3d.default, aten.adaptive_avg_pool1d.default,
     aten.adaptive_avg_pool2d.default, aten.matmul.default, aten.scaled_dot_product_attention.default}
)  # fmt: skip
# These return a view, and their schema does not say so.
SILENT_VIEWS = ("aten::_unsafe", "aten::unsafe")


def functionalize(graph: fx.Graph) -> bool:
    """Replace every in-place operator by the functional one, where no other value shares the memory that it writes.

    An operator that writes to its argument is replaced if that argument has memory of its own and no earlier node
    shares it. Nodes that read the argument afterwards then read the result.

    Returns:
        Whether the graph is functional now; if not, it still holds every in-place operator.
    """
    _drop_dropout(graph)
    if any(isinstance(node.target, HigherOrderOperator) for node in graph.nodes):
        return False  # it holds a graph of its own
    order = {node: position for position, node in enumerate(graph.nodes)}
    exchanged: dict[fx.Node, OpOverload] = {}
    shared: dict[fx.Node, list[fx.Node]] = {}  # what made the memory -> it, and every operator that wrote there
    for node in order:
        if not _is_mutable(node):
            continue
        written, functional = node.args[0], _functional(node)
        origin = next((made for made, names in shared.items() if written in names), written)
        if functional is None or not isinstance(origin, fx.Node) or not _is_fresh(origin):
            return False
        names = shared.setdefault(origin, [origin])
        earlier = (user for name in names for user in name.users if order[user] < order[node])
        if not all(_is_fresh(user) or _is_mutable(user) for user in earlier):  # a mutable one returns what it wrote to
            return False
        names.append(node)
        exchanged[node] = functional
    for node, functional in exchanged.items():
        written, node.target = node.args[0], functional
        assert isinstance(written, fx.Node)
        written.replace_all_uses_with(node, lambda user, node=node: order[user] > order[node])  # type: ignore[misc]
    return True


def _drop_dropout(graph: fx.Graph) -> None:
    for node in list(graph.nodes):
        if node.target in DROPOUT and not node.args[2]:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def _is_mutable(node: fx.Node) -> bool:
    return isinstance(node.target, OpOverload) and node.target._schema.is_mutable


def _functional(node: fx.Node) -> OpOverload | None:
    """The operator that returns what this one writes, if it does so in the same dtype."""
    operator: Any = node.target
    name = operator._schema.name.removeprefix("aten::")
    packet = getattr(aten, name.removesuffix("_"), None) if name.endswith("_") else None
    values = [source.meta.get("val") for source in node.all_input_nodes]
    dtypes = {value.dtype for value in values if isinstance(value, Tensor)}
    return getattr(packet, operator._overloadname, None) if len(dtypes) == 1 else None


def _is_fresh(node: fx.Node) -> bool:
    """Whether an operator returns memory that none of its arguments shares (but for the one it wrote to)."""
    operator = node.target
    if not isinstance(operator, OpOverload):
        return node.op == "output"
    if operator in FRESH_COMPOSITES:
        return True
    views = any(value.alias_info is not None for value in operator._schema.returns)
    return not is_composite(operator) and not views and not operator._schema.name.startswith(SILENT_VIEWS)


def is_composite(operator: OpOverload) -> bool:
    """Whether an operator is only a name for a composition of others."""
    return bool(operator.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd))
