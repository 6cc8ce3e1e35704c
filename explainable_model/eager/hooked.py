"""A network as it stands: forward hooks capture activations, ``torch.autograd.grad`` differentiates."""

import warnings
from collections.abc import Sequence
from contextlib import nullcontext

from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from explainable_model.attribution.network import ForwardRun
from explainable_model.attribution.plan import IMAGE_LAYER, Plan
from explainable_model.attribution.targets import Scores, score_output
from explainable_model.eager import autograd
from explainable_model.eager.autograd import Graph, detached_run
from explainable_model.eager.saturation import ExactSigmoid, has_saturated_sigmoid
from explainable_model.eager.tap import ActivationCapture, LayerTap, run_with_tail
from explainable_model.errors import LayerError, ModelError, RepeatedLayerWarning


class HookedNetwork:
    """A module whose layers are captured with forward hooks.

    The first tap that runs starts a new graph, so that autograd differentiates only what follows.

    Args:
        model: the network.
        plan: which layers are captured and what is explained.
        taps: one per layer of the plan, shared by all threads.
    """

    def __init__(self, model: nn.Module, plan: Plan, taps: Sequence[LayerTap]) -> None:
        self._model, self._plan, self._taps = model, plan, taps

    def run(self, image: Tensor, class_idx: Tensor, inputs: Sequence[Tensor]) -> ForwardRun:
        """See ``DifferentiableNetwork.run``."""
        plan, names = self._plan, list(self._plan.tap_names)
        count = len(inputs) - plan.target.inputs  # the network's inputs come before the target's

        def score(seen: Tensor) -> Scores:
            output = self._model(seen, *inputs[:count])
            return score_output(plan.target, output, plan.output, class_idx, inputs[count:], image.shape)

        # The fused attention kernels have no second derivative.
        kernel = sdpa_kernel(SDPBackend.MATH) if plan.method.needs_curvature else nullcontext()
        with kernel:
            scores, captures = run_with_tail(self._model, names, self._taps, image, score, plan.call)
            if self._is_saturated(scores):
                with ExactSigmoid():
                    scores, captures = run_with_tail(self._model, names, self._taps, image, score, plan.call)
        activations = [self._captured(name, capture) for name, capture in zip(names, captures, strict=True)]
        return detached_run(image, inputs, Graph(scores, activations, names))

    def _is_saturated(self, scores: Scores) -> bool:
        """Whether autograd has lost the gradient of a sigmoid that is not the end of the network."""
        if not scores.values.requires_grad:
            return False
        final = autograd.final_activation(scores.logits) if self._plan.target.linear else None
        return has_saturated_sigmoid(scores.values, final)

    def _captured(self, name: str, capture: ActivationCapture) -> Tensor:
        """What a tap captured.

        Raises:
            LayerError: the layer did not run, or not as often as the plan asks.
        """
        model, call = self._model, self._plan.call
        if capture.activations is None and capture.calls:
            raise LayerError(
                f"target_layer {name!r} ran {capture.calls} time(s) in the forward of {type(model).__name__}; call is "
                f"{call}, expected 0 to {capture.calls - 1}, or -1 for the last."
            )
        if capture.activations is None:
            raise LayerError(
                f"target_layer {name!r} did not run, or returned no floating point tensor, in the forward of "
                f"{type(model).__name__}. Containers such as ModuleList never run themselves: name a layer in them."
                f"{_integer_hint(model)}"
            )
        if capture.calls > 1 and call is None and name in self._plan.layers and name != IMAGE_LAYER:
            warnings.warn(repeated_message(name, capture.calls), RepeatedLayerWarning, stacklevel=2)
        return capture.activations

    def gradients(self, run: ForwardRun, weights: Tensor | None = None) -> list[Tensor]:
        """See ``DifferentiableNetwork.gradients``."""
        try:
            return autograd.gradients(self._plan, run, weights)
        except ModelError as error:
            raise ModelError(f"{error}{_integer_hint(self._model)}") from error

    def curvature(self, run: ForwardRun, tap: int) -> Tensor:
        """See ``CurvedNetwork.curvature``."""
        return autograd.curvature(self._plan, run, tap)


def repeated_message(name: str, calls: int) -> str:
    """What to write for a layer that runs several times."""
    return (
        f"target_layer {name!r} runs {calls} times in one forward; the last call is explained. Choose one with call=0 "
        f"to call={calls - 1}, or say call=-1 for the last."
    )


def _integer_hint(model: nn.Module) -> str:
    """What to do with a converted network; an empty string for others."""
    for name, module in model.named_modules():
        if ".quantized" in type(module).__module__:
            return (
                f" {name!r} computes in integers, which have no gradient: explain the network as it was "
                "before its conversion."
            )
    return ""
