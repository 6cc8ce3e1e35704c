"""A network as a graph: artifacts are traced from it, and eager methods run its tail alone on it."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload

from explainable_model.attribution.batching import split
from explainable_model.attribution.boxes import BoxScore
from explainable_model.attribution.network import ForwardRun
from explainable_model.attribution.plan import Plan
from explainable_model.attribution.targets import Custom, Scores
from explainable_model.eager import autograd
from explainable_model.eager.autograd import Graph, detached_run
from explainable_model.eager.hooked import warn_if_repeated
from explainable_model.errors import LoweringError, TraceError
from explainable_model.lowering.backward.copied_tail import copied_tail, run_tail
from explainable_model.lowering.backward.graph_taps import tap_graph
from explainable_model.lowering.backward.guided import guided_kernels, guided_lowerings
from explainable_model.lowering.backward.interpreter import (
    Environment,
    Kernel,
    Listener,
    run_backward,
    run_forward,
)
from explainable_model.lowering.backward.tail import Tail, find_tail
from explainable_model.lowering.capture.export import at_least_two, capture, graph_of
from explainable_model.lowering.dynamic_shapes import DynamicDims
from explainable_model.lowering.graph import TAP, output_nodes
from explainable_model.lowering.rules.call import Lowering
from explainable_model.lowering.rules.one_hot import OneHot


def scores_of(module: fx.GraphModule, values: Mapping[fx.Node, Any], classes: int) -> Scores:
    """The scores among the values of a graph."""
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
        self.module, self.classes = module, classes
        self._tail, self._plan, self._lowerings = tail, plan, lowerings

    def run(
        self, image: Tensor, class_idx: Tensor, inputs: Sequence[Tensor], *, listen: Listener | None = None
    ) -> ForwardRun:
        """See ``DifferentiableNetwork.run``; ``listen`` is shown the output of each tap, and may exchange it."""
        values, saved = run_forward(self.module, self._tail, (image, class_idx, *inputs), listen=listen)
        activations = tuple(values[tap] for tap in self._tail.taps)
        scores = scores_of(self.module, values, self.classes)
        return ForwardRun(image, tuple(inputs), scores, activations, (values, saved))

    def gradients(self, run: ForwardRun, weights: Tensor | None = None) -> list[Tensor]:
        """See ``DifferentiableNetwork.gradients``; an image's classes are copies of its tail's values in one batch."""
        values, saved = run.state
        count = run.scores.columns.shape[1]
        if count > 1:
            values, saved = copied_tail(self._tail, values, saved, count)
        if weights is None:
            seed: Tensor | OneHot = OneHot(run.scores.columns.flatten(), values[self._tail.output])
        else:
            seed = weights.flatten(0, 1)
        through_final = not self._plan.target.linear
        at_taps = run_backward(self._tail, values, saved, seed, self._lowerings, through_final=through_final)
        return [split(gradient, count) for gradient in at_taps]

    def tail(self, run: ForwardRun, tap: int, activations: Tensor, copies: int) -> Tensor:
        """See ``ReplayableNetwork.tail``."""
        values, _ = run.state
        return scores_after(self._tail, values, tap, activations, copies)

    def guided(self, run: ForwardRun) -> tuple["TracedNetwork", ForwardRun]:
        """See ``ReplayableNetwork.guided``; the run serves both, for the forward is the same."""
        table = guided_lowerings(self._lowerings)
        return TracedNetwork(self.module, self._tail, self._plan, table, self.classes), run


def scores_after(tail: Tail, values: Environment, tap: int, activations: Tensor, copies: int) -> Tensor:
    """``(N * copies, S)`` for other activations at a tap."""
    copied = run_tail(tail, values, {tail.taps[tap]: activations}, copies)
    result: Tensor = copied[tail.output]
    return result


class CapturedNetwork:
    """A graph that runs eagerly, with gradients by autograd.

    Args:
        module, tail, plan, classes: as for ``TracedNetwork``.
        kernels: functions that replace some operators.
        batch: the only batch size that the graph takes; ``None`` for any.
    """

    def __init__(
        self,
        module: fx.GraphModule,
        tail: Tail,
        plan: Plan,
        classes: int,
        kernels: Mapping[Any, Kernel] = MappingProxyType({}),
        batch: int | None = None,
    ) -> None:
        self._module, self._tail, self._plan, self._classes, self._kernels = module, tail, plan, classes, kernels
        self.batch = batch

    def run(self, image: Tensor, class_idx: Tensor, inputs: Sequence[Tensor]) -> ForwardRun:
        """See ``DifferentiableNetwork.run``."""
        self._check_batch(len(image))
        kept: dict[fx.Node, Tensor] = {}

        def listen(node: fx.Node, value: Tensor) -> Tensor:
            kept[node] = value if value.requires_grad else value.detach().requires_grad_()
            torch.set_grad_enabled(True)
            return kept[node]

        with torch.no_grad():
            arguments = (image, class_idx, *inputs)
            values, _ = run_forward(self._module, self._tail, arguments, kernels=self._kernels, listen=listen)
        scores = scores_of(self._module, values, self._classes)
        activations = [kept[tap] for tap in self._tail.taps]
        return detached_run(image, inputs, Graph(scores, activations, list(self._tail.names), values))

    def gradients(self, run: ForwardRun, weights: Tensor | None = None) -> list[Tensor]:
        """See ``DifferentiableNetwork.gradients``."""
        return autograd.gradients(self._plan, run, weights)

    def curvature(self, run: ForwardRun, tap: int) -> Tensor:
        """See ``CurvedNetwork.curvature``."""
        return autograd.curvature(self._plan, run, tap)

    def tail(self, run: ForwardRun, tap: int, activations: Tensor, copies: int) -> Tensor:
        """See ``ReplayableNetwork.tail``."""
        self._check_batch(len(run.image) * copies, " Or give chunk_size=1.")
        with torch.no_grad():
            return scores_after(self._tail, run.state.values, tap, activations, copies)

    def guided(self, run: ForwardRun) -> tuple["CapturedNetwork", ForwardRun]:
        """See ``ReplayableNetwork.guided``; autograd keeps another graph, so the network runs again."""
        network = CapturedNetwork(
            self._module, self._tail, self._plan, self._classes, guided_kernels(), batch=self.batch
        )
        class_idx = run.scores.class_idx
        if self._plan.top_k is None:
            class_idx = class_idx.squeeze(1)
        return network, network.run(run.image, class_idx, run.inputs)

    def _check_batch(self, size: int, remedy: str = "") -> None:
        """Refuse what a graph with sizes written into it would compute wrongly, or fail at without a reason."""
        if self.batch not in (None, size):
            raise LoweringError(
                f"{self._plan.model} takes one batch size only, here {self.batch}: its forward reads the size as a "
                f"number, for example with len(x). Method {self._plan.method.name!r} runs {size} copies at once. Read "
                f"x.shape[0] instead, or choose a method without copies, such as 'gradcam'.{remedy}"
            )


def captured_network(model: nn.Module, plan: Plan, image: Tensor, inputs: Sequence[Tensor]) -> CapturedNetwork:
    """The network as a graph for images of this size: for any batch, or where the network refuses that, for this one.

    Raises:
        LoweringError: the network cannot be traced.
        LayerError, ModelError: as ``find_tail``.
    """
    given = [each.detach() for each in (image, *inputs)]
    try:
        return _captured(model, plan, [at_least_two(each) for each in given])
    except TraceError:
        # Where something else than the open batch is wrong with the network, this raises it.
        return _captured(model, plan, given, batch=len(image))


def _captured(model: nn.Module, plan: Plan, example: Sequence[Tensor], batch: int | None = None) -> CapturedNetwork:
    with torch.enable_grad():
        dims = DynamicDims(batch=batch is None)
        module = graph_of(capture(model, plan, example[0], example[1:], dims))
    tap_graph(module.graph, plan)
    marks = [str(node.args[1]) for node in module.graph.nodes if node.target is TAP]
    for name in plan.layers:
        warn_if_repeated(plan, name, marks.count(name))
    return CapturedNetwork(module, find_tail(module.graph, plan), plan, count_classes(module, plan), batch=batch)


def count_classes(module: fx.GraphModule, plan: Plan) -> int:
    """How many classes can be explained."""
    logits, _, values, _ = (node.meta["val"] for node in output_nodes(module.graph))
    if isinstance(plan.target, BoxScore):
        return plan.target.max_boxes
    if not isinstance(plan.target, Custom):
        return int(values.shape[1])
    if plan.target.classes is not None:
        return plan.target.classes
    return int(logits.shape[1]) if logits.ndim > 1 else 1
