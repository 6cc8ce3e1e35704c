"""Gradients of a run whose graph autograd keeps."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from explainable_model.attribution.final_activation import FINAL_ACTIVATIONS, REARRANGEMENTS, backward_node
from explainable_model.attribution.network import ForwardRun
from explainable_model.attribution.plan import Plan
from explainable_model.attribution.scores import one_hot
from explainable_model.attribution.targets import Scores
from explainable_model.eager.saturation import exact_gradients
from explainable_model.errors import ModelError


class Graph(NamedTuple):
    """The tensors of a run with the graph that autograd has kept.

    Attributes:
        scores: the scores, with their graph.
        activations: the output of each tap, with its graph.
        names: the names of the taps.
        values: the value of every node, where the network ran as a graph.
    """

    scores: Scores
    activations: list[Tensor]
    names: list[str]
    values: Any = None


def detached_run(image: Tensor, inputs: Sequence[Tensor], graph: Graph) -> ForwardRun:
    """A run whose tensors carry no graph; its state keeps the graph."""
    scores = graph.scores
    plain = Scores(scores.logits.detach(), scores.class_idx, scores.values.detach(), scores.columns, scores.classes)
    return ForwardRun(image, tuple(inputs), plain, tuple(tensor.detach() for tensor in graph.activations), graph)


def gradients(plan: Plan, run: ForwardRun, weights: Tensor | None) -> list[Tensor]:
    """See ``DifferentiableNetwork.gradients``: all classes of an image in one backward pass.

    Raises:
        ModelError: the prediction does not depend on a layer.
    """
    graph: Graph = run.state
    scores = graph.scores
    if weights is None:
        seeds = torch.stack([one_hot(column, scores.values) for column in scores.columns.unbind(1)])
    else:
        seeds = weights.transpose(0, 1)
    tap_gradients = _differentiate(graph, seeds, through_final=not plan.target.linear)
    return [
        _require_gradient(plan, name, tensor, gradient, len(seeds))
        for name, tensor, gradient in zip(graph.names, graph.activations, tap_gradients, strict=True)
    ]


def _differentiate(graph: Graph, seeds: Tensor, *, through_final: bool) -> list[Tensor | None]:
    """``(k, N, ...)`` for the output of each tap, or ``None``."""
    scores, several = graph.scores, len(seeds) > 1
    if not scores.values.requires_grad:
        return [None for _ in graph.activations]
    with torch.enable_grad():
        tap_gradients = score_gradient(
            scores.logits,
            scores.values,
            seeds if several else seeds[0],
            graph.activations,
            through_final=through_final,
            keep_graph=True,
            batched=several,
        )
    return [gradient if gradient is None or several else gradient.unsqueeze(0) for gradient in tap_gradients]


def _require_gradient(plan: Plan, name: str, activations: Tensor, gradient: Tensor | None, count: int) -> Tensor:
    """``(N, k, ...)``; zeros for a side tap that the score does not depend on."""
    if gradient is not None:
        return gradient.transpose(0, 1)
    if name not in plan.layers:
        return torch.zeros_like(activations).unsqueeze(1).expand(-1, count, *[-1] * (activations.ndim - 1))
    raise ModelError(
        f"The prediction of {plan.model} does not depend on target_layer {name!r} through "
        "anything that can be differentiated (a detach(), a no_grad() or an unused branch lies between). "
        "Choose a layer on the path to the output."
    )


def _differentiate_again(inner: Tensor, activations: Tensor) -> Tensor | None:
    """Gradient of a gradient.

    Raises:
        ModelError: PyTorch has no second derivative of an operator.
    """
    try:
        (product,) = torch.autograd.grad([inner], [activations], retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        if "is not implemented" not in str(error):
            raise
        raise ModelError(f"The method needs second derivatives, and PyTorch has none here: {error}.") from error
    return product


def curvature(plan: Plan, run: ForwardRun, tap: int) -> Tensor:
    """See ``DifferentiableNetwork.curvature``: the gradient of ``(g * A).sum()`` with A held still."""
    graph: Graph = run.state
    activations = graph.activations[tap]
    products = []
    for column in graph.scores.columns.unbind(1):
        with torch.enable_grad():
            (gradient,) = score_gradient(
                graph.scores.logits,
                graph.scores.values,
                one_hot(column, graph.scores.values),
                [activations],
                through_final=not plan.target.linear,
                create_graph=True,
            )
            product = None
            if gradient is not None and gradient.requires_grad:
                inner = (gradient * activations.detach()).sum()
                product = _differentiate_again(inner, activations)
        products.append(torch.zeros_like(run.activations[tap]) if product is None else product)
    return torch.stack(products, 1)


FINAL_NODES = frozenset(map(backward_node, FINAL_ACTIVATIONS))
REARRANGING_NODES = frozenset(map(backward_node, REARRANGEMENTS))


def score_gradient(
    logits: Tensor,
    values: Tensor,
    seed: Tensor,
    activations: Sequence[Tensor],
    *,
    through_final: bool = False,
    keep_graph: bool = False,
    create_graph: bool = False,
    batched: bool = False,
) -> list[Tensor | None]:
    """Gradient of ``(values * seed).sum()`` with respect to the activations.

    Where the network ends in sigmoid or softmax, the score is the logit before it: the gradient starts at the input
    of that function, so that a saturated prediction, whose own derivative rounds to zero, still has a map.

    Args:
        logits: the network's output, with its graph.
        values: ``(N, S)``, the scores.
        seed: ``(N, S)``, the weight of each; ``(k, N, S)`` where ``batched``.
        activations: the tensors of that graph to differentiate for.
        through_final: differentiate a final sigmoid or softmax as well.
        keep_graph: leave the graph in place for another call.
        create_graph: make the gradient itself differentiable.
        batched: several seeds in one backward pass.

    Returns:
        A tensor shaped like each of the activations (with k in front where ``batched``), or ``None``
        where the score does not depend on them.
    """
    with exact_gradients(values):
        activation = final_activation(logits) if logits.requires_grad and not through_final else None
        outputs: Sequence[Any] = [values]
        if activation is not None:
            edge = GradientEdge(activation, 0)
            (under_final,) = torch.autograd.grad(
                [values], [edge], [seed], retain_graph=True, allow_unused=True, is_grads_batched=batched
            )
            if under_final is not None:  # else the scores do not come from the prediction
                node, output = activation.next_functions[0]
                if node is None:
                    return [None for _ in activations]
                outputs, seed = [GradientEdge(node, output)], under_final
        at_activations = torch.autograd.grad(
            outputs,
            list(activations),
            [seed],
            retain_graph=keep_graph or create_graph,
            create_graph=create_graph,
            allow_unused=True,
            is_grads_batched=batched,
        )
    return list(at_activations)


def final_activation(logits: Tensor) -> Node | None:
    """Autograd's node of the sigmoid or softmax in which a network ends, if it does."""
    node: Node | None = get_gradient_edge(logits).node
    while node is not None:
        kind = node.name().rstrip("0123456789")
        if kind in FINAL_NODES:
            return node
        if kind not in REARRANGING_NODES:
            return None
        node = node.next_functions[0][0]
    return None
