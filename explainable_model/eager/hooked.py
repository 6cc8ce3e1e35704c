"""A network as it stands: forward hooks capture activations, ``torch.autograd.grad`` differentiates."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from explainable_model.attribution.network import ForwardRun
from explainable_model.attribution.plan import IMAGE_LAYER, Plan
from explainable_model.attribution.targets import score_output
from explainable_model.eager import autograd
from explainable_model.eager.autograd import Graph, detached_run
from explainable_model.eager.tap import ActivationCapture, LayerTap
from explainable_model.errors import LayerError, ModelError


class HookedNetwork:
    """A module whose layers are listened to with forward hooks.

    The first tap that runs starts a new graph, so that autograd differentiates only what follows.

    Args:
        model: the network.
        plan: what is listened to and what is explained.
        taps: one per layer of the plan, shared by all threads.
    """

    def __init__(self, model: nn.Module, plan: Plan, taps: Sequence[LayerTap]) -> None:
        self._model, self._plan, self._taps = model, plan, taps

    def run(self, image: Tensor, class_idx: Tensor, inputs: Sequence[Tensor]) -> ForwardRun:
        """See ``DifferentiableNetwork.run``."""
        # What comes before the first tap runs without a graph. Where a layer sits under a no_grad of the
        # network's own, the tail would lose its graph as well: then everything runs with one.
        run = self._run(image, class_idx, inputs, torch.no_grad())
        return (
            run if run.state.scores.values.requires_grad else self._run(image, class_idx, inputs, torch.enable_grad())
        )

    def _run(self, image: Tensor, class_idx: Tensor, inputs: Sequence[Tensor], grad_mode: Any) -> ForwardRun:
        plan, names = self._plan, list(self._plan.tap_names)
        own = len(inputs) - plan.target.inputs  # the network's, before the target's
        captures = [ActivationCapture() for _ in names]
        with ExitStack() as stack:
            stack.enter_context(grad_mode)
            if plan.method.needs_curvature:
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))  # the fused kernels have no second derivative
            for name, tap, capture in zip(
                plan.named_taps, self._taps, captures[len(names) - len(self._taps) :], strict=True
            ):
                stack.enter_context(tap.listen(self._model.get_submodule(name), capture))
            # The network may write to its image.
            seen = captures[0](image, (image,)) if names[:1] == [IMAGE_LAYER] else image.clone()
            output = self._model(seen, *inputs[:own])
            scores = score_output(plan.target, output, plan.output, class_idx, inputs[own:], image.shape[0])
        activations = [_heard(self._model, name, capture) for name, capture in zip(names, captures, strict=True)]
        return detached_run(image, inputs, Graph(scores, activations, names))

    def gradients(self, run: ForwardRun, weights: Tensor | None = None) -> list[Tensor]:
        """See ``DifferentiableNetwork.gradients``."""
        try:
            return autograd.gradients(self._plan, run, weights)
        except ModelError as error:
            raise ModelError(f"{error}{_about_integers(self._model)}") from error

    def curvature(self, run: ForwardRun, tap: int) -> Tensor:
        """See ``CurvedNetwork.curvature``."""
        return autograd.curvature(self._plan, run, tap)


def _heard(model: nn.Module, name: str, capture: ActivationCapture) -> Tensor:
    if capture.activations is None:
        raise LayerError(
            f"target_layer {name!r} did not run, or returned no floating point tensor, in the forward of "
            f"{type(model).__name__}. Containers such as ModuleList never run themselves: name a layer in them."
            f"{_about_integers(model)}"
        )
    return capture.activations


def _about_integers(model: nn.Module) -> str:
    """What to do with a converted network; an empty string for others."""
    for name, module in model.named_modules():
        if ".quantized" in type(module).__module__:
            return (
                f" {name!r} computes in integers, which have no gradient: explain the network as it was "
                "before its conversion."
            )
    return ""
