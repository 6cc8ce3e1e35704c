"""Methods that weight a transformer's attention by its gradient: Chefer's relevance, AGCAM and Grad-ECLIP."""

from collections.abc import Sequence

import torch
from torch import Tensor

from explainable_model.attribution.counting import counting
from explainable_model.attribution.postprocess import minmax
from explainable_model.methods.precision import in_float32

# Relevance beyond is cut off, so that the product of many layers stays finite.
LARGEST = 1e15


@in_float32
def chefer(attentions: Sequence[Tensor], gradients: Sequence[Tensor], prefix: int) -> Tensor:
    """How much each patch reaches the class token, where attention counts as far as it raises the score.

    ``R_l = R_{l-1} + Abar_l R_{l-1}`` with ``R_0 = I`` and ``Abar_l = mean_h relu(g_lh * A_lh)``. The map is the row
    of the class token over the columns of the patches.

    Where this differs from the paper: it leaves open what to do without a class token. Where the network averages its
    tokens, the map is the mean of the rows of all patches, as in ``rollout``.

    Args:
        attentions: ``(N, heads, T, T)`` after the softmax, one for each layer from the first to the last.
        gradients: the same shapes: derivative of the score by these attentions.
        prefix: number of tokens before the patches: the class token first, then distillation and register tokens;
            zero where there is no class token.

    Returns:
        ``(N, T - prefix)``, not negative.

    Source: Chefer et al. 2021, arXiv 2103.15679.

    Example:
        >>> attention = torch.tensor([[[[0.5, 0.5], [0., 1.]]]])
        >>> chefer([attention, attention], [torch.ones(1, 1, 2, 2)] * 2, prefix=1)
        tensor([[1.7500]])
    """
    layers = [
        (gradient * attention).relu().mean(1).clamp_max(LARGEST)
        for attention, gradient in zip(attentions, gradients, strict=True)
    ]
    # One row of the product is asked for: from the last layer on, rows times matrices give it.
    reached = _start(layers[0], prefix)
    for layer in reversed(layers):
        reached = (reached + torch.matmul(reached, layer)).clamp_max(LARGEST)
    return reached[:, 0, prefix:]


@in_float32
def agcam(scores: Sequence[Tensor], gradients: Sequence[Tensor], prefix: int) -> Tensor:
    """Attention of the class token to each patch, before the softmax, weighted by positive gradients.

    ``map_p = sum_l sum_h relu(g_lh0p) sigmoid(s_lh0p)`` with ``s`` the scaled products of query and key, and ``g`` the
    derivative of the class's score by the attention after the softmax. The softmax makes one patch large at the cost
    of the others; the sigmoid judges each by itself.

    Where this differs from the paper: it leaves open what to do without a class token; there the map is the mean of
    the rows of all patches.

    Args:
        scores: ``(N, heads, T, T)`` before the softmax, one for each layer.
        gradients: the same shapes, by the attention after the softmax.
        prefix: see ``chefer``.

    Returns:
        ``(N, T - prefix)``, not negative.

    Source: Leem and Seo 2024, Attention Guided CAM, arXiv 2402.04563, equations 2 and 7 in the count of the authors'
    code, which sums over heads and layers.

    Example:
        >>> agcam([torch.zeros(1, 1, 2, 2)], [torch.tensor([[[[9., 3.], [9., 9.]]]])], prefix=1)
        tensor([[1.5000]])
    """
    layers = [(gradient.relu() * score.sigmoid()).sum(1) for score, gradient in zip(scores, gradients, strict=True)]
    return torch.matmul(_start(layers[0], prefix), torch.stack(layers).sum(0))[:, 0, prefix:]


@in_float32
def gradeclip(query: Tensor, key: Tensor, value: Tensor, gradients: Tensor, prefix: int) -> Tensor:
    """``map_p = w_p sum_c g_c v_pc``: what each patch hands to the class token in the last attention.

    ``g`` is the derivative of the score by the attention's output for the class token, ``v_p`` the value of patch
    ``p``, both over all heads, and ``w_p = s(cos(q_0, k_p))`` the cosine of the class token's query with the patch's
    key, scaled to [0, 1] over the patches. It stands for the softmax, which leaves most patches near zero.

    Where this differs from the authors' code: for CLIP, that runs the last attention anew with one head, and projects
    queries and keys by the weights of the attention's output before it compares them. Here they are the network's own.

    Args:
        query: ``(N, heads, T, d)``.
        key: the same shape.
        value: ``(N, heads, T, e)``.
        gradients: ``(N, heads, T, e)``: derivative of the score by the attention's output, before its projection.
        prefix: number of tokens before the patches, at least one.

    Returns:
        Signed map ``(N, T - prefix)``; the paper's is its positive part.

    Source: Zhao et al. 2024, Grad-ECLIP, arXiv 2502.18816; the terms as in the authors'
    code.

    Example:
        >>> key = torch.tensor([[[[0., 0.], [2., 0.], [0., 1.]]]])
        >>> query, value = torch.tensor([[[[1., 0.]]]]).expand(1, 1, 3, 2), torch.ones(1, 1, 3, 1)
        >>> gradeclip(query, key, value, 3 * value, prefix=1)
        tensor([[3., 0.]])
    """
    asked = query[:, :, :1].transpose(1, 2).flatten(2)
    keys = key[:, :, prefix:].transpose(1, 2).flatten(2)
    lengths = keys.square().sum(2).sqrt() * asked.square().sum(2).sqrt()
    products = (asked * keys).sum(2)
    # A key of length zero points nowhere: its cosine is zero.
    cosines = products / torch.where(lengths > 0, lengths, torch.ones_like(lengths))
    handed = (gradients[:, :, :1] * value[:, :, prefix:]).sum((1, 3))
    return minmax(cosines) * handed


def _start(like: Tensor, prefix: int) -> Tensor:
    """``(N, 1, T)``: one at the class token, or the mean over all tokens where there is none."""
    count = counting(like, 1)
    chosen = torch.ones_like(count) / (count.amax() + 1) if prefix == 0 else (count == 0).to(count.dtype)
    return torch.zeros_like(like[:, :1]) + chosen.to(like.dtype)
