"""The gradient of a score for a layer's output by plain autograd over the whole network."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.packages.case import Case, read_logits
from explainable_model.attribution.frames import layout_of
from explainable_model.attribution.layout import patch_embedding


class _Kept:
    """Forward hooks that keep the output of a layer, and the output that holds the logits."""

    def __init__(self, call: int) -> None:
        self.call = call
        self.layers: list[Tensor] = []
        self.logits: list[Any] = []

    def keep_layer(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        first = next(value for value in _walk(output) if value.is_floating_point())
        if not first.requires_grad:  # under a no_grad of the network, or before any parameter
            first = first.detach().requires_grad_()
        self.layers.append(first)
        return _exchange(output, first)

    def keep_logits(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.logits.append(output)


def _walk(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    values = output.values() if hasattr(output, "values") else output if isinstance(output, (tuple, list)) else []
    return [tensor for value in values for tensor in _walk(value)]


def _exchange(output: Any, first: Tensor) -> Any:
    """The output with its first tensor exchanged for a copy, so that later writes do not touch what was kept."""
    if isinstance(output, Tensor):
        return first.clone()
    if hasattr(output, "items"):
        done, changed = False, {}
        for key, value in output.items():
            is_first = not done and bool(_walk(value))
            changed[key] = _exchange(value, first) if is_first else value
            done |= is_first
        return type(output)(**changed)
    values = list(output)
    place = next(i for i, value in enumerate(values) if _walk(value))
    values[place] = _exchange(values[place], first)
    return type(output)(*values) if hasattr(output, "_fields") else type(output)(values)


def compute_reference_gradients(
    case: Case, model: nn.Module, layer: str, image: Tensor, inputs: Sequence[Tensor], classes: Tensor
) -> Tensor:
    """``(N, K, *grid)``: the gradients of the classes' scores."""
    kept = _Kept(case.arguments.get("call", -1))
    handles = [model.get_submodule(layer).register_forward_hook(kept.keep_layer)]
    if case.scores_at is not None:
        handles.append(model.get_submodule(case.scores_at).register_forward_hook(kept.keep_logits))
    target = case.arguments.get("target")
    count = len(inputs) - getattr(target, "inputs", 0)
    try:
        with torch.enable_grad():
            output = model(image.clone().requires_grad_(), *inputs[:count])
            output = kept.logits[-1] if case.scores_at is not None else output
            scores = _score(case, output, classes, inputs[count:])
            activations = kept.layers[kept.call]
            (gradients,) = torch.autograd.grad(scores.sum(), activations)
    finally:
        for handle in handles:
            handle.remove()
    patches = patch_embedding(model)
    return layout_of(layer, gradients, image, None, patches, case.arguments.get("frames"))(gradients)


def _score(case: Case, output: Any, classes: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    target = case.arguments.get("target")
    if case.read_scores is None and callable(target):
        return target(output, classes)
    scores = (case.read_scores or read_logits)(output, *inputs)
    return scores.gather(1, classes[:, None])
