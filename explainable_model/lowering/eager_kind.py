"""Finds how a network's output is to be read as probabilities, without a lowered graph."""

import re
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from explainable_model.attribution.calling import call_network
from explainable_model.attribution.plan import Plan
from explainable_model.attribution.prediction import find_prediction
from explainable_model.eager.buffers import frozen_parameters
from explainable_model.eager.kept_tensors import without_graphs_left
from explainable_model.explanation import OutputKind
from explainable_model.lowering.output_ending import OPAQUE, OutputEnding, Step, is_layer, walk_back
from explainable_model.lowering.output_kind import classify_output, declared_kind


def find_output_kind(
    model: nn.Module,
    image: Tensor,
    inputs: tuple[Tensor, ...] = (),
    plan: Plan | None = None,
) -> OutputKind | None:
    """Find the kind of a network's output, as ``lower`` finds it, from the autograd graph of one forward.

    Args:
        model: the network, in evaluation mode.
        image: ``(N, C, *spatial)``, an image that it accepts.
        inputs: its extra inputs.
        plan: how it is called, which part of its output is the prediction, and what is explained.

    Returns:
        The kind; ``None`` where the forward leaves no graph.

    Raises:
        ModelError: no part of the output is the prediction.
    """
    with torch.inference_mode(False), torch.enable_grad(), frozen_parameters(model), without_graphs_left(model):
        call, select, target = (None, None, None) if plan is None else (plan.forward, plan.output, plan.target)
        seen = image.detach().clone().requires_grad_().clone()  # no leaf: a network may write to its image
        logits = find_prediction(call_network(model, call, seen, inputs), select).tensor
    if logits.grad_fn is None:
        return None
    ending = replace(_find_ending(logits), declared=declared_kind(model, target, select))
    return classify_output(ending, logits.detach())


def _find_ending(logits: Tensor) -> OutputEnding:
    """The ending of an autograd graph, in which the parameters have no gradient."""

    def read(edge: tuple[Any, int]) -> Step | None:
        node, number = edge
        if node is None or node.name().endswith("AccumulateGrad"):
            return None
        sources = [edge for edge in node.next_functions if edge[0] is not None]  # others lead to numbers and weights
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            return Step(OPAQUE, sources)
        name = re.sub(r"Backward\d*$", "", node.name())
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
        shape = node._input_metadata[number].shape
        return Step(name, sources, int(shape[1]) if len(shape) > 1 else None, is_layer(name))

    return walk_back((logits.grad_fn, logits.output_nr), read)
