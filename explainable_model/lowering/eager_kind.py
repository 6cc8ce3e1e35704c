"""Finds how a network's output is to be read as probabilities, without a lowered graph."""

import re
from typing import Any

import torch
from torch import Tensor, nn

from explainable_model.attribution.calling import Caller, call_network
from explainable_model.attribution.prediction import Select, find_prediction
from explainable_model.eager.buffers import frozen_parameters
from explainable_model.eager.kept_tensors import without_graphs_left
from explainable_model.explanation import OutputKind
from explainable_model.lowering.output_kind import LAYERS, PROBABILITIES, OutputEnding, classify_output

ACTIVATIONS = {name.replace("_", ""): name for name in PROBABILITIES}  # as autograd writes them


def find_output_kind(
    model: nn.Module,
    image: Tensor,
    inputs: tuple[Tensor, ...] = (),
    output: Select = None,
    forward: Caller = None,
) -> OutputKind | None:
    """Find the kind of a network's output, as ``lower`` finds it, from the autograd graph of one forward.

    Args:
        model: the network, in evaluation mode.
        image: ``(N, C, *spatial)``, an image that it accepts.
        inputs: its extra inputs.
        output: which part of its output is the prediction.
        forward: how it is called.

    Returns:
        The kind; ``None`` where the forward leaves no graph.

    Raises:
        ModelError: no part of the output is the prediction.
    """
    with torch.inference_mode(False), torch.enable_grad(), frozen_parameters(model), without_graphs_left(model):
        seen = image.detach().clone().requires_grad_().clone()  # no leaf: a network may write to its image
        logits = find_prediction(call_network(model, forward, seen, inputs), output).tensor
    if logits.grad_fn is None:
        return None
    return classify_output(_find_ending(logits.grad_fn), logits.detach())


def _find_ending(output: Any) -> OutputEnding:
    """Walk back from the autograd node of the prediction to the last layers with weights."""
    activations: set[str] = set()
    passed: set[str] = set()
    raw, stack, seen = False, [output], set[Any]()
    while stack:
        node = stack.pop()
        if node in seen or node is None or node.name().endswith("AccumulateGrad"):
            continue
        seen.add(node)
        name = re.sub(r"Backward\d*$", "", node.name()).lower()
        if name in ACTIVATIONS:
            activations.add(ACTIVATIONS[name])
        elif any(layer in name for layer in LAYERS):
            raw = True
        else:
            passed.add(name)
            stack += [parent for parent, _ in node.next_functions]
    return OutputEnding(frozenset(activations), frozenset(passed), raw)
