"""Mark the values of a captured graph that a method reads and no layer returns."""

from torch import fx

from explainable_model.attribution.plan import ATTENTION_TAPS, BIASES, Plan
from explainable_model.lowering.backward.biases import tap_biases
from explainable_model.lowering.backward.layer_scores import put_head_on_blocks
from explainable_model.lowering.passes.tap_attention import tap_attention


def tap_graph(graph: fx.Graph, plan: Plan) -> None:
    """Mark what the method reads.

    Args:
        graph: as from ``capture``.
        plan: what is explained.

    Raises:
        ModelError, LoweringError: the network does not have it.
    """
    attention = [name for name in plan.side_taps if name in ATTENTION_TAPS]
    if attention:
        tap_attention(graph, attention)
    if plan.method.scores_blocks:
        put_head_on_blocks(graph, plan)
    if BIASES in plan.side_taps:
        tap_biases(graph, plan)
