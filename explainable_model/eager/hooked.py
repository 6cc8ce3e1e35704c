"""A network as it stands: forward hooks capture activations, ``torch.autograd.grad`` differentiates."""

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.attention import SDPBackend, sdpa_kernel

from explainable_model.attribution.calling import call_network
from explainable_model.attribution.containers import Path
from explainable_model.attribution.network import DifferentiableNetwork, ForwardRun
from explainable_model.attribution.plan import IMAGE_LAYER, Plan
from explainable_model.attribution.targets import Scores, score_output
from explainable_model.eager import autograd
from explainable_model.eager.autograd import Graph, detached_run
from explainable_model.eager.kept_tensors import without_graphs_left
from explainable_model.eager.reversal import ReversalCheck
from explainable_model.eager.rounding import without_rounding
from explainable_model.eager.saturation import ExactSigmoid, has_saturated_sigmoid, warn_of_saturation
from explainable_model.eager.tap import ActivationCapture, ActivationShift, LayerTap, run_with_tail
from explainable_model.errors import LayerError, ModelError, RepeatedLayerWarning

Capture = Callable[[Tensor, Sequence[Tensor]], DifferentiableNetwork]  # (image, inputs) -> the network as a graph


class HookedNetwork:
    """A module whose layers are captured with forward hooks.

    The first tap that runs starts a new graph, so that autograd differentiates only what follows. A network that
    overwrites values which its gradient needs is differentiated as an exported graph, which writes nothing in place.

    Args:
        model: the network.
        plan: which layers are captured and what is explained.
        taps: one per layer of the plan, shared by all threads.
        reversal: refuses gradients that a function of the user's has turned round; shared by all runs of the network.
        capture: exports the network; ``None`` where autograd's refusal is to be raised.
    """

    def __init__(
        self,
        model: nn.Module,
        plan: Plan,
        taps: Sequence[LayerTap],
        reversal: ReversalCheck,
        capture: Capture | None = None,
    ) -> None:
        self._model, self._plan, self._taps, self._capture = model, plan, taps, capture
        self._reversal = reversal
        self._calls: dict[str, int] = {}

    def run(self, image: Tensor, class_idx: Tensor, inputs: Sequence[Tensor]) -> ForwardRun:
        """See ``DifferentiableNetwork.run``."""
        try:
            return self._run(image, class_idx, inputs)
        except RuntimeError as error:
            return self._exported(image, inputs, error).run(image, class_idx, inputs)

    def _run(self, image: Tensor, class_idx: Tensor, inputs: Sequence[Tensor]) -> ForwardRun:
        plan, names = self._plan, list(self._plan.tap_names)
        count = len(inputs) - plan.target.inputs  # the network's inputs come before the target's

        def score(seen: Tensor) -> Scores:
            output = call_network(self._model, plan.forward, seen, inputs[:count])
            return score_output(plan.target, output, plan.output, class_idx, inputs[count:], image.shape)

        # The fused attention kernels have no second derivative.
        kernel = sdpa_kernel(SDPBackend.MATH) if plan.method.needs_curvature else nullcontext()
        with kernel:
            scores, captures = run_with_tail(self._model, names, self._taps, image, score, plan.call)
            if self._is_saturated(scores):
                with ExactSigmoid():
                    scores, captures = run_with_tail(self._model, names, self._taps, image, score, plan.call)
        self._warn_of_saturation(scores)
        self._refuse_several(scores, dict(zip(names, captures, strict=True)))
        self._calls = {name: capture.calls for name, capture in zip(names, captures, strict=True)}
        activations = [self._captured(name, capture) for name, capture in zip(names, captures, strict=True)]
        return detached_run(image, inputs, Graph(scores, activations, names))

    def _refuse_several(self, scores: Scores, captures: dict[str, ActivationCapture]) -> None:
        """Refuse a layer of which the prediction reads several maps, unless the user says how its output is read."""
        for name in self._plan.layers if self._plan.reshape_transform is None else ():
            capture = captures[name]
            with torch.enable_grad():
                read = capture.find_read(scores.first.sum()) if capture.others else []
            if read and capture.activations is not None:
                shapes = [f"[{path_text(path)}] {tuple(capture.others[path].shape)}" for path in read]
                raise LayerError(
                    f"target_layer {name!r} returns several maps that the prediction of {type(self._model).__name__} "
                    f"depends on: {tuple(capture.activations.shape)}, {', '.join(shapes)}. Name the layer inside of it "
                    "that makes the one to explain, or several (find_layers(model, image) lists them), or say with "
                    "reshape_transform=lambda maps: maps that the first is meant."
                )

    def _exported(self, image: Tensor, inputs: Sequence[Tensor], error: RuntimeError) -> DifferentiableNetwork:
        """The network as a graph, where autograd refused its operations in place; any other error is raised."""
        if "multiple views" in str(error):
            raise ModelError(
                f"{type(self._model).__name__} writes in place to one of several views (of split, chunk or unbind), "
                "which neither autograd nor torch.export allows. Write the result to a new tensor: part = part * 2 "
                f"instead of part *= 2. PyTorch says: {str(error).splitlines()[0]}"
            ) from error
        if self._capture is None or not is_in_place_refusal(error):
            raise error
        return self._capture(image, inputs)

    def _run_again(self, run: ForwardRun, error: RuntimeError) -> ForwardRun:
        """The same run of the exported graph."""
        asked = run.scores.class_idx
        class_idx = asked.squeeze(1) if self._plan.top_k is None else asked
        return self._exported(run.image, run.inputs, error).run(run.image, class_idx, run.inputs)

    def _is_saturated(self, scores: Scores) -> bool:
        """Whether autograd has lost the gradient of a sigmoid that is not the end of the network."""
        if not scores.values.requires_grad:
            return False
        return has_saturated_sigmoid(scores.values, self._final(scores))

    def _final(self, scores: Scores) -> Node | None:
        return autograd.final_activation(scores.logits) if self._plan.target.linear else None

    def _warn_of_saturation(self, scores: Scores) -> None:
        if scores.values.requires_grad and scores.values.device.type == "cpu":
            warn_of_saturation(scores.values, self._final(scores))

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
                f"{integer_hint(model)}"
            )
        warn_if_repeated(self._plan, name, capture.calls)
        return capture.activations

    def gradients(self, run: ForwardRun, weights: Tensor | None = None) -> list[Tensor]:
        """See ``DifferentiableNetwork.gradients``."""
        try:
            self._refuse_reversed(run)
            found = autograd.gradients(self._plan, run, weights)
            if weights is not None or run.image.device.type != "cpu":
                return found
            return without_rounding(run, found, partial(autograd.gradients, self._plan, run))
        except ModelError as error:
            raise ModelError(f"{error}{integer_hint(self._model)}") from error
        except RuntimeError as error:
            return autograd.gradients(self._plan, self._run_again(run, error), weights)

    def _refuse_reversed(self, run: ForwardRun) -> None:
        """See ``ReversalCheck``; the network runs again only where it has functions of the user's."""
        graph: Graph = run.state
        scores, count = graph.scores, len(run.inputs) - self._plan.target.inputs
        if not scores.values.requires_grad:
            return

        def score_at(tap: int, change: Tensor) -> Tensor:
            name, image = graph.names[tap], run.image
            listening: AbstractContextManager[None] = nullcontext()
            if name == IMAGE_LAYER:
                image = image + change
            else:
                call = self._plan.call if self._plan.call is not None else -1
                shift = ActivationShift(call if call >= 0 else self._calls[name] - 1, change)
                taps = dict(zip(self._plan.named_taps, self._taps, strict=True))
                listening = taps[name].listen(self._model.get_submodule(name), shift)
            with without_graphs_left(self._model), torch.no_grad(), listening:
                output = call_network(self._model, self._plan.forward, image.clone(), run.inputs[:count])
                asked = run.scores.class_idx
                class_idx = asked.squeeze(1) if self._plan.top_k is None else asked
                target, select = self._plan.target, self._plan.output
                again = score_output(target, output, select, class_idx, run.inputs[count:], run.image.shape)
            return again.values.gather(1, scores.columns[:, :1]).sum()

        with torch.enable_grad():
            explained = scores.first
        key = (*graph.names, self._plan.call, tuple(run.image.shape[1:]), run.image.dtype, run.image.device)
        self._reversal.refuse(self._model, key, explained, graph.activations, score_at)

    def curvature(self, run: ForwardRun, tap: int) -> Tensor:
        """See ``CurvedNetwork.curvature``."""
        try:
            return autograd.curvature(self._plan, run, tap)
        except RuntimeError as error:
            return autograd.curvature(self._plan, self._run_again(run, error), tap)


def path_text(path: Path) -> str:
    """The place of a tensor in a container, as it is written."""
    return "][".join(map(repr, path))


def is_in_place_refusal(error: RuntimeError) -> bool:
    """Whether autograd refused an operation that overwrites a value which the gradient needs."""
    return any(words in str(error) for words in ("inplace operation", "modified inplace", "in-place operation"))


def warn_if_repeated(plan: Plan, name: str, calls: int) -> None:
    """Warn that the last of several calls of a layer is explained, where the user chose none."""
    if calls > 1 and plan.call is None and name in plan.layers:
        warnings.warn(
            f"target_layer {name!r} runs {calls} times in one forward; the last call is explained. Choose one with "
            f"call=0 to call={calls - 1}, or say call=-1 for the last.",
            RepeatedLayerWarning,
            stacklevel=3,
        )


def integer_hint(model: nn.Module) -> str:
    """What to do with a converted network; an empty string for others."""
    for name, module in model.named_modules():
        if ".quantized" in type(module).__module__:
            return (
                f" {name!r} computes in integers, which have no gradient: explain the network as it was "
                "before its conversion."
            )
    return ""
