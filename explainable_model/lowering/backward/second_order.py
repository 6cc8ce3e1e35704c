"""Second derivatives: the graph of a gradient is a forward graph too, so it is differentiated once more."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch.fx.traceback import preserve_node_meta

from explainable_model.attribution.counting import counting
from explainable_model.attribution.network import ForwardRun
from explainable_model.attribution.plan import Plan
from explainable_model.attribution.targets import Scores
from explainable_model.lowering.backward.interpreter import run_backward, run_forward
from explainable_model.lowering.backward.networks import TracedNetwork
from explainable_model.lowering.backward.tail import find_tail
from explainable_model.lowering.dynamic_shapes import share_batch
from explainable_model.lowering.graph import TAP, output_nodes
from explainable_model.lowering.rules.call import Lowering
from explainable_model.lowering.rules.missing import missing_lowering

Trace = Callable[[nn.Module], fx.GraphModule]


class _FirstOrder(nn.Module):
    """``(logits, class_idx, products, columns, values, gradients)`` of a network.

    ``products`` ``(N, k)`` are ``(g * A).sum()`` for the gradient g and the activations A, which are held still. Their
    gradient is the Hessian times A. The graph keeps the mark of the target layer.
    """

    def __init__(self, traced: TracedNetwork, plan: Plan) -> None:
        super().__init__()
        self.network = traced.module
        self._traced, self._plan = traced, plan

    def forward(self, image: Tensor, class_idx: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        share_batch(image, class_idx, *inputs)
        name = self._plan.layers[-1]
        with preserve_node_meta():
            run = self._traced.run(image, class_idx, inputs, listen=lambda node, value: TAP(value, name))
            gradients = self._traced.gradients(run)[-1]
            held = run.activations[-1].detach().unsqueeze(1)
            products = (gradients * held).flatten(2).sum(2)
        scores = run.scores
        return scores.logits, scores.class_idx, products, scores.columns, scores.values, gradients


class SecondOrderNetwork:
    """A network whose gradients are part of its graph.

    Args:
        traced: the network.
        plan: what is explained, at one layer.
        lowerings: the vector-Jacobian product of each operator.
        trace: exports a module of the network's inputs.
    """

    def __init__(
        self,
        traced: TracedNetwork,
        plan: Plan,
        lowerings: Mapping[OpOverload, Lowering],
        trace: Trace,
    ) -> None:
        self.module = trace(_FirstOrder(traced, plan))
        self._tail = find_tail(self.module.graph, plan, required=False)  # behind a linear tail it is zero
        self._lowerings, self.classes = lowerings, traced.classes
        missing = self._tail.missing(lowerings)
        if missing:
            raise missing_lowering(missing)

    def run(self, image: Tensor, class_idx: Tensor, inputs: Sequence[Tensor]) -> ForwardRun:
        """See ``DifferentiableNetwork.run``."""
        values, saved = run_forward(self.module, self._tail, (image, class_idx, *inputs))
        logits, explained, _, columns, scores, _ = (values[node] for node in output_nodes(self.module.graph))
        activations = tuple(values[tap] for tap in self._tail.taps)
        explained_scores = Scores(logits, explained, scores, columns, self.classes)
        return ForwardRun(image, tuple(inputs), explained_scores, activations, (values, saved))

    def gradients(self, run: ForwardRun, weights: Tensor | None = None) -> list[Tensor]:
        """See ``DifferentiableNetwork.gradients``: of the explained scores, at the layer."""
        assert weights is None
        values, _ = run.state
        return [values[output_nodes(self.module.graph)[-1]]]

    def curvature(self, run: ForwardRun, tap: int) -> Tensor:
        """See ``CurvedNetwork.curvature``."""
        values, saved = run.state
        products = values[self._tail.output]
        column = counting(products, 1)
        curvatures = []
        for j in range(products.shape[1]):
            seed = (column == j).to(products.dtype).expand_as(products)
            at_taps = run_backward(self._tail, values, saved, seed, self._lowerings, through_final=True)
            curvatures.append(at_taps[tap])
        return torch.stack(curvatures, 1)
