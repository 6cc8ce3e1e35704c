"""Put the network's head on the tokens of every block, so that each attention has a score of its own."""

from collections.abc import Sequence, Set
from typing import Any

import torch
from torch import Tensor, fx

from explainable_model.attribution.plan import Plan
from explainable_model.errors import ModelError
from explainable_model.lowering.backward.tail import Tail, carries_gradient, dependent_nodes, find_tail
from explainable_model.lowering.graph import insert_like, layer_of, output_nodes
from explainable_model.lowering.passes.tap_attention import SOFTMAX
from explainable_model.lowering.shapes import known

aten = torch.ops.aten
ADVICE = "Use 'rollout', 'vitreciprocam' or a method that explains at a layer."


def put_head_on_blocks(graph: fx.Graph, plan: Plan) -> None:
    """Make the differentiated score ``sum_l head(mean_t Z_l)``, LeGrad's, each term reached from its own block alone.

    ``Z_l`` are the tokens ``(N, T, K)`` that block ``l`` returns. The head is everything from ``Z_L`` of the last block
    to the scores; it runs on tokens that all equal their mean over ``t``, so that a head that reads the class token
    and one that averages the patches both see the mean. No gradient passes from one block to the one before it: the
    gradient of the sum by the attention of block ``l`` is that of the score of ``Z_l``.

    Args:
        graph: as from ``capture``, with marks on the attention of every block.
        plan: what is explained.

    Raises:
        ModelError: the head cannot be put on the tokens of the blocks; the error says why.
    """
    tail = find_tail(graph, plan)
    blocks = find_block_outputs(tail)
    head = _head_of(graph, tail, blocks[-1])
    users = {tokens: list(tokens.users) for tokens in blocks}
    outputs = graph.output_node()
    logits, class_idx, _, columns = output_nodes(graph)
    with graph.inserting_before(outputs):
        skipped = tail.skipped if plan.target.linear else frozenset()
        scores = [_copy_head(graph, head, skipped, {blocks[-1]: _mean(graph, tokens)}) for tokens in blocks]
        total = scores[0][tail.output]
        for score in (copies[tail.output] for copies in scores[1:]):
            total = insert_like(graph, total, aten.add.Tensor, total, score)
    outputs.args = ((logits, class_idx, total, columns),)
    for tokens, readers in users.items():
        with graph.inserting_after(tokens):
            still = insert_like(graph, tokens, aten.detach.default, tokens)
        for reader in readers:
            reader.replace_input_with(tokens, still)
    graph.eliminate_dead_code()


def find_block_outputs(tail: Tail) -> list[fx.Node]:
    """The tokens that each block returns, ``(N, T, K)``.

    A block ends at the last tokens before the next attention through which every path from its attention to the scores
    passes. The last block ends after as many such nodes as the others.

    Raises:
        ModelError: the attentions do not lie in a row of equal blocks.
    """
    if len(tail.taps) < 2:
        raise ModelError(f"LeGrad needs two blocks with attention or more, to tell a block from the head. {ADVICE}")
    cuts = [_cuts(tail, tap) for tap in tail.taps]
    order = {node: index for index, node in enumerate(tail.path)}
    inner = [
        [node for node in nodes if order[node] < order[following]]
        for nodes, following in zip(cuts, tail.taps[1:], strict=False)
    ]
    lengths = {len(nodes) for nodes in inner}
    last = cuts[-1][: max(lengths)]
    if len(lengths) > 1 or 0 in lengths or len(last) != max(lengths):
        raise ModelError(f"LeGrad needs a row of equal transformer blocks; the blocks of this network differ. {ADVICE}")
    return [nodes[-1] for nodes in inner] + [last[-1]]


def _cuts(tail: Tail, tap: fx.Node) -> list[fx.Node]:
    """The tokens through which every path from the attention to the scores passes, in order."""
    reached = {tap}
    for node in tail.path:
        if reached.intersection(node.all_input_nodes):
            reached.add(node)
    used = {tail.output}
    for node in reversed(tail.path):
        if node in reached and used.intersection(node.users):
            used.add(node)
    between = [node for node in tail.path if node in used and node in reached]
    place = {node: index for index, node in enumerate(between)}
    tokens = tap.meta["val"].shape[-1]
    cuts, furthest = [], 0
    for index, node in enumerate(between):
        # No edge jumps over a node that every path passes.
        if index and furthest <= index and _are_tokens(node, tokens):
            cuts.append(node)
        furthest = max([furthest, *(place[user] for user in node.users if user in place)])
    return cuts


def _are_tokens(node: fx.Node, count: Any) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.ndim == 3 and known(value.shape[1] == count)


def _head_of(graph: fx.Graph, tail: Tail, tokens: fx.Node) -> list[fx.Node]:
    """The nodes from the tokens of the last block to the scores.

    Raises:
        ModelError: the head reads more of the image than these tokens, or has an attention of its own.
    """
    nodes = dependent_nodes(tail, {tokens})
    head = {tokens, *nodes}
    from_image = {next(node for node in graph.nodes if node.op == "placeholder")}
    for node in graph.nodes:
        if node.op == "call_function" and carries_gradient(node) and from_image.intersection(node.all_input_nodes):
            from_image.add(node)
    for node in nodes:
        if node.target in SOFTMAX and node not in tail.skipped:
            raise ModelError(
                f"LeGrad puts the head on the tokens of each block; the head of this network has an attention of its "
                f"own, in {layer_of(node) or 'its forward'!r}. {ADVICE}"
            )
        for source in node.all_input_nodes:
            if source in from_image and source not in head:
                raise ModelError(
                    f"LeGrad puts the head on the tokens of each block; the head of this network also reads "
                    f"{layer_of(source) or str(source)!r}. {ADVICE}"
                )
    return nodes


def _mean(graph: fx.Graph, tokens: fx.Node) -> fx.Node:
    """Tokens that all equal the mean."""
    return insert_like(
        graph, tokens, aten.expand_as.default, insert_like(graph, tokens, aten.mean.dim, tokens, [1], True), tokens
    )


def _copy_head(
    graph: fx.Graph, head: Sequence[fx.Node], skipped: Set[fx.Node], copies: dict[fx.Node, fx.Node]
) -> dict[fx.Node, fx.Node]:
    """The head once more.

    Args:
        graph: to insert the copy into.
        head: the nodes to copy, in order.
        skipped: the final sigmoid or softmax, which the copy leaves out.
        copies: stands for the nodes that the head reads.

    Returns:
        The copy of each node.
    """
    copies = dict(copies)
    for node in head:
        if node in skipped:
            copies[node] = copies[node.all_input_nodes[0]]
        else:
            copies[node] = graph.node_copy(node, lambda source: copies.get(source, source))
    return copies
