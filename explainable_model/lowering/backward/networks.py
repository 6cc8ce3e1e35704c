"""A network as a graph: what the artifact is traced from, and what eager methods that need the tail alone run on."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload

from explainable_model.attribution.batching import split
from explainable_model.attribution.network import Pass
from explainable_model.attribution.plan import ATTENTION_LAYERS, Plan
from explainable_model.attribution.targets import Custom, Scores
from explainable_model.eager import autograd
from explainable_model.eager.autograd import Graph, detached_pass
from explainable_model.lowering.backward.copied_tail import copied_tail, run_tail
from explainable_model.lowering.backward.guided import guided_kernels, guided_lowerings
from explainable_model.lowering.backward.interpreter import (
    Environment,
    Kernel,
    Listener,
    Tail,
    find_tail,
    run_backward,
    run_forward,
)
from explainable_model.lowering.capture.export import at_least_two, capture, graph_of
from explainable_model.lowering.dynamic_shapes import OpenDims
from explainable_model.lowering.graph import output_nodes
from explainable_model.lowering.passes.tap_attention import tap_attention
from explainable_model.lowering.rules.call import Lowering
from explainable_model.lowering.rules.one_hot import OneHot


def scores_of(module: fx.GraphModule, values: Mapping[fx.Node, Any], classes: int) -> Scores:
    """What the graph returned."""
    logits, class_idx, scores, columns = (values[node] for node in output_nodes(module.graph))
    return Scores(logits, class_idx, scores, columns, classes)


class TracedNetwork:
    """A graph whose gradients are vector-Jacobian products, so that running it can be traced.

    Args:
        module: graph with the outputs ``(logits, class_idx, values, columns)``.
        tail: the part of it that is differentiated.
        plan: what is explained.
        lowerings: the vector-Jacobian product of each operator.
        classes: how many classes can be explained.
    """

    def __init__(
        self, module: fx.GraphModule, tail: Tail, plan: Plan, lowerings: Mapping[OpOverload, Lowering], classes: int
    ) -> None:
        self._module, self._tail, self._plan = module, tail, plan
        self._lowerings, self._classes = lowerings, classes

    def run(
        self, image: Tensor, class_idx: Tensor, inputs: Sequence[Tensor], *, listen: Listener | None = None
    ) -> Pass:
        """See ``Network.run``; ``listen`` is shown the output of each tap, and may exchange it."""
        values, saved = run_forward(self._module, self._tail, (image, class_idx, *inputs), listen=listen)
        activations = tuple(values[tap] for tap in self._tail.taps)
        scores = scores_of(self._module, values, self._classes)
        return Pass(image, tuple(inputs), scores, activations, (values, saved))

    def gradients(self, run: Pass, weights: Tensor | None = None, *, guided: bool = False) -> list[Tensor]:
        """See ``Network.gradients``: several classes of an image are copies of its tail's values, in one batch."""
        values, saved = run.state
        count = run.scores.columns.shape[1]
        if count > 1:
            values, saved = copied_tail(self._tail, values, saved, count)
        if weights is None:
            seed: Tensor | OneHot = OneHot(run.scores.columns.flatten(), values[self._tail.output])
        else:
            seed = weights.flatten(0, 1)
        table = guided_lowerings(self._lowerings) if guided else self._lowerings
        found = run_backward(self._tail, values, saved, seed, table, through_final=not self._plan.target.linear)
        return [split(gradient, count) for gradient in found]

    def curvature(self, run: Pass, tap: int) -> Tensor:
        """Never asked for: methods that need second derivatives run on a ``SecondOrderNetwork``."""
        raise NotImplementedError("a graph without its gradients has no second derivatives")

    def tail(self, run: Pass, tap: int, activations: Tensor, copies: int) -> Tensor:
        """See ``Network.tail``."""
        values, _ = run.state
        return scores_after(self._tail, values, tap, activations, copies)


def scores_after(tail: Tail, values: Environment, tap: int, activations: Tensor, copies: int) -> Tensor:
    """``(N * copies, S)`` for other activations at a tap."""
    copied, _ = run_tail(tail, values, {tail.taps[tap]: activations}, copies)
    result: Tensor = copied[tail.output]
    return result


class CapturedNetwork:
    """The same graph, run eagerly with autograd.

    Args:
        module, tail, plan, classes: as for ``TracedNetwork``.
    """

    def __init__(self, module: fx.GraphModule, tail: Tail, plan: Plan, classes: int) -> None:
        self._module, self._tail, self._plan, self._classes = module, tail, plan, classes

    def run(self, image: Tensor, class_idx: Tensor, inputs: Sequence[Tensor]) -> Pass:
        """See ``Network.run``."""
        return self._run(image, class_idx, inputs, {})

    def _run(self, image: Tensor, class_idx: Tensor, inputs: Sequence[Tensor], kernels: Mapping[Any, Kernel]) -> Pass:
        kept: dict[fx.Node, Tensor] = {}

        def listen(node: fx.Node, value: Tensor) -> Tensor:
            kept[node] = value if value.requires_grad else value.detach().requires_grad_()
            torch.set_grad_enabled(True)
            return kept[node]

        with torch.no_grad():
            arguments = (image, class_idx, *inputs)
            values, _ = run_forward(self._module, self._tail, arguments, kernels=kernels, listen=listen)
        scores = scores_of(self._module, values, self._classes)
        activations = [kept[tap] for tap in self._tail.taps]
        return detached_pass(image, inputs, Graph(scores, activations, list(self._tail.names), values))

    def gradients(self, run: Pass, weights: Tensor | None = None, *, guided: bool = False) -> list[Tensor]:
        """See ``Network.gradients``."""
        if guided:
            asked = run.scores.class_idx
            class_idx = asked.squeeze(1) if self._plan.top_k is None else asked
            run = self._run(run.image, class_idx, run.inputs, guided_kernels())
        return autograd.gradients(self._plan, run, weights)

    def curvature(self, run: Pass, tap: int) -> Tensor:
        """See ``Network.curvature``."""
        return autograd.curvature(self._plan, run, tap)

    def tail(self, run: Pass, tap: int, activations: Tensor, copies: int) -> Tensor:
        """See ``Network.tail``."""
        with torch.no_grad():
            return scores_after(self._tail, run.state.values, tap, activations, copies)


def captured_network(model: nn.Module, plan: Plan, image: Tensor, inputs: Sequence[Tensor]) -> CapturedNetwork:
    """The network as a graph for images of this size.

    Raises:
        LoweringError: the network cannot be traced.
        LayerError, ModelError: as ``find_tail``.
    """
    example, *others = (at_least_two(each.detach()) for each in (image, *inputs))
    with torch.enable_grad():
        module = graph_of(capture(model, plan, example, others, OpenDims()))
    if ATTENTION_LAYERS in plan.tap_names:
        tap_attention(module.graph)
    return CapturedNetwork(module, find_tail(module.graph, plan), plan, count_classes(module, plan))


def count_classes(module: fx.GraphModule, plan: Plan) -> int:
    """How many classes can be explained."""
    logits, _, values, _ = (node.meta["val"] for node in output_nodes(module.graph))
    if not isinstance(plan.target, Custom):
        return int(values.shape[1])
    return int(logits.shape[1]) if logits.ndim > 1 else 1
