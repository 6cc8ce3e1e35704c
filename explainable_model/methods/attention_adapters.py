"""Methods that read the attention of every block: each a function of a ``MethodContext``."""

from typing import TYPE_CHECKING

from torch import Tensor

from explainable_model.attribution.batching import repeat, split
from explainable_model.attribution.layout import find_layout
from explainable_model.attribution.options import Ratio
from explainable_model.errors import LayerError, ModelError
from explainable_model.methods.attention import Heads
from explainable_model.methods.attention import legrad as legrad_map
from explainable_model.methods.attention import rollout as rollout_map
from explainable_model.methods.attention_relevance import agcam as agcam_map
from explainable_model.methods.attention_relevance import chefer as chefer_map
from explainable_model.methods.attention_relevance import gradeclip as gradeclip_map

if TYPE_CHECKING:
    from explainable_model.attribution.context import MethodContext


def legrad(context: "MethodContext", *, first: int = 0) -> Tensor:
    """See ``attention.legrad``; ``first`` is the first block that counts, negative from the last one.

    Raises:
        ModelError: the network has fewer blocks.
    """
    blocks = context.tap_gradients()
    if not -len(blocks) <= first < len(blocks):
        raise ModelError(f"Method 'legrad' has first={first}; the network has {len(blocks)} blocks with attention.")
    gradients = [gradient.flatten(0, 1) for _, gradient in blocks[first:]]
    grid, prefix = _token_grid(context, gradients[0])
    return split(legrad_map(gradients, prefix).reshape(-1, *grid), context.classes)


def rollout(context: "MethodContext", *, heads: Heads = "mean", discard: Ratio = 0.0) -> Tensor:
    """See ``attention.rollout``; every class gets the same map."""
    attentions = context.first.activations
    grid, prefix = _token_grid(context, attentions[0])
    cam = rollout_map(attentions, prefix, heads=heads, discard=discard).reshape(-1, *grid)
    return split(repeat(cam, context.classes), context.classes)


def chefer(context: "MethodContext") -> Tensor:
    """See ``attention_relevance.chefer``."""
    layers = context.tap_gradients()
    attentions = [repeat(attention, context.classes) for attention, _ in layers]
    gradients = [gradient.flatten(0, 1) for _, gradient in layers]
    grid, prefix = _token_grid(context, gradients[0])
    return split(chefer_map(attentions, gradients, prefix).reshape(-1, *grid), context.classes)


def agcam(context: "MethodContext") -> Tensor:
    """See ``attention_relevance.agcam``."""
    taps = context.tap_gradients()
    before, behind = taps[: len(taps) // 2], taps[len(taps) // 2 :]
    scores = [repeat(score, context.classes) for score, _ in before]
    gradients = [gradient.flatten(0, 1) for _, gradient in behind]
    grid, prefix = _token_grid(context, gradients[0])
    return split(agcam_map(scores, gradients, prefix).reshape(-1, *grid), context.classes)


def gradeclip(context: "MethodContext") -> Tensor:
    """See ``attention_relevance.gradeclip``: the attention of the last block.

    Raises:
        ModelError: the network has no class token.
    """
    taps = context.tap_gradients()
    blocks = len(taps) // 4
    (query, _), (turned, _), (value, _), (_, gradient) = (taps[part * blocks - 1] for part in range(1, 5))
    grid, prefix = _token_grid(context, query[..., :1])
    if prefix == 0:
        raise ModelError(
            "Method 'gradeclip' reads the attention of the class token, and this network has none. Use 'chefer', "
            "'legrad' or a method that explains at a layer."
        )
    query, key, value = (repeat(part, context.classes) for part in (query, turned.transpose(-1, -2), value))
    return split(gradeclip_map(query, key, value, gradient.flatten(0, 1), prefix).reshape(-1, *grid), context.classes)


def _token_grid(context: "MethodContext", attention: Tensor) -> tuple[tuple[int, ...], int]:
    shape = (*context.image.shape[:1], attention.shape[-2], 1)
    layout = find_layout(shape, context.image.shape, context.plan.patches)
    if layout is None or layout.kind != "tokens":
        raise LayerError(
            f"Method {context.plan.method.name!r} needs attention over the whole image; this network's is over "
            f"{attention.shape[-2]} tokens, which are no grid of an image of {tuple(context.size)} (windows, perhaps). "
            "Use a method that explains at a layer."
        )
    return layout.grid, layout.prefix
