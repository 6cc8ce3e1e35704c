"""Methods that read a transformer's attention: rollout and LeGrad."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, TypeAlias

import torch
from torch import Tensor

from explainable_model.attribution.counting import counting
from explainable_model.attribution.options import Ratio, Words
from explainable_model.methods.precision import in_float32

FUSED: Mapping[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda attention: attention.mean(1),
    "max": lambda attention: attention.amax(1),
    "min": lambda attention: attention.amin(1),
}
Heads: TypeAlias = Annotated[str, Words(tuple(FUSED))]


@in_float32
def rollout(attentions: Sequence[Tensor], prefix: int, *, heads: Heads = "mean", discard: Ratio = 0.0) -> Tensor:
    """How much each patch reaches the class token through all layers, residual connections included.

    ``R = B_L ... B_2 B_1`` with ``B_l = norm((mean_h A_lh + I) / 2)``, where ``A_lh`` is the attention of
    head ``h`` in layer ``l`` (rows are queries, of sum one) and ``norm`` divides rows by their sum. The
    map is the row of the class token over the columns of the patches. It explains no class.

    The paper's is the mean over heads, with all attention. The largest or smallest of the heads, and a share of the
    smallest attention that counts as zero, are common in public code; they make the map sharper.

    Where this differs from the paper: it leaves open what to do without a class token. Where the network
    averages its tokens, the map is the mean of the rows of all patches.

    Args:
        attentions: ``(N, heads, T, T)`` after the softmax, one for each layer from the first to the last.
        prefix: number of tokens before the patches: the class token first, then distillation and
            register tokens; zero where there is no class token.
        heads: ``mean``, ``max`` or ``min``: how the heads of a layer become one.
        discard: share of the entries of each layer's attention, the smallest ones, that count as zero.

    Returns:
        ``(N, T - prefix)``, not negative.

    Source: Abnar and Zuidema 2020, arXiv 2005.00928, section 3, equation 1.

    Example:
        >>> attention = torch.tensor([[[[0., 1.], [0., 1.]]]])
        >>> rollout([attention, attention], prefix=1)
        tensor([[0.7500]])
    """
    reached = _with_residual(attentions[0], heads, discard)
    for attention in attentions[1:]:
        reached = torch.matmul(_with_residual(attention, heads, discard), reached)
    if prefix == 0:
        return reached.mean(1)
    return reached[:, 0, prefix:]


@in_float32
def legrad(gradients: Sequence[Tensor], prefix: int) -> Tensor:
    """How much more attention to each patch would raise the scores of the layers.

    ``map_p = (1 / L) sum_l mean_h mean_i relu(g_lhip)``, where ``g_lhip`` is the derivative of the score
    by the attention that query ``i`` of head ``h`` in layer ``l`` pays to patch ``p``; queries are all
    tokens, keys the patches alone. The attention itself is not read. Each layer has a score of its own: the
    network's head on the mean of the tokens that the layer returns, the class token included. The caller scales
    the map to [0, 1]. The paper adds the layers up; their mean is the same map after that.

    Where this differs from the paper: nowhere. A head with an attention of its own, for which the paper has
    another equation, is refused.

    Args:
        gradients: ``(N, heads, T, T)``, by the attention after the softmax, one for each layer; rows are
            queries, columns keys.
        prefix: number of tokens before the patches.

    Returns:
        ``(N, T - prefix)``, not negative.

    Source: Bousselham et al. 2025, LeGrad, arXiv 2404.03214.

    Example:
        >>> legrad([torch.tensor([[[[9., 4.], [9., -8.]]]])], prefix=1)
        tensor([[2.]])
    """
    total = torch.stack([gradient.relu().mean((1, 2)) for gradient in gradients])
    return total.mean(0)[:, prefix:]


def _with_residual(attention: Tensor, heads: str, discard: float) -> Tensor:
    """``norm((mean_h A_h + I) / 2)``: ``(N, T, T)``."""
    mean = FUSED[heads](attention)
    dropped = int(discard * mean.shape[1] * mean.shape[2])
    if dropped > 0:
        smallest = mean.flatten(1).topk(dropped, 1, largest=False).values.amax(1)
        mean = torch.where(mean > smallest.reshape(-1, 1, 1), mean, torch.zeros_like(mean))
    count = counting(mean, 1)
    mixed = (mean + (count.unsqueeze(1) == count).to(mean.dtype)) / 2
    return mixed / mixed.sum(2, keepdim=True)
