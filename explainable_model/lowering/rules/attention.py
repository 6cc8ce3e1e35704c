"""Scaled dot product attention."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from explainable_model.lowering.rules.call import Call, Gradients, Lowering
from explainable_model.lowering.shapes import unbroadcast, unflatten

aten = torch.ops.aten
MASKED = -3.0e38  # stands for minus infinity, which gives NaN in rows that are masked altogether


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Attention step by step, keeping the probabilities for the gradient."""
    probabilities = _probabilities(query, key, attn_mask, is_causal, scale, enable_gqa)
    output = torch.matmul(probabilities, _repeat_heads(value, query, enable_gqa))
    return output, {"probabilities": probabilities}


def attend_whole(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention as one operator in four dimensions, where it is fused and ONNX has it; otherwise step by step."""
    if query.ndim == key.ndim == value.ndim == 4:
        return aten.scaled_dot_product_attention.default(  # type: ignore[no-any-return]
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    return attend(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)[0]


def _probabilities(
    query: Tensor, key: Tensor, attn_mask: Tensor | None, is_causal: bool, scale: float | None, enable_gqa: bool
) -> Tensor:
    key = _repeat_heads(key, query, enable_gqa)
    scores = torch.matmul(query * _scale(query, scale), key.transpose(-2, -1))
    floor = max(MASKED, torch.finfo(scores.dtype).min)
    if is_causal:
        one_matrix = scores[(slice(0, 1),) * (scores.ndim - 2)]
        allowed = torch.ones_like(one_matrix, dtype=torch.bool).tril()
        return torch.softmax(torch.where(allowed, scores, floor), -1)
    if attn_mask is None:
        return torch.softmax(scores, -1)
    if attn_mask.dtype != torch.bool:
        return torch.softmax(scores + attn_mask.clamp_min(floor / 2), -1)
    # A row that is masked altogether attends to nothing, as in ATen.
    return torch.softmax(torch.where(attn_mask, scores, floor), -1) * attn_mask.to(scores.dtype)


def _scale(query: Tensor, scale: float | None) -> float:
    return 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale


def _repeat_heads(tensor: Tensor, query: Tensor, enable_gqa: bool) -> Tensor:
    if not enable_gqa:
        return tensor
    return tensor.repeat_interleave(query.shape[-3] // tensor.shape[-3], -3)


def scaled_dot_product_attention(
    call: Call,
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Gradients:
    """scaled_dot_product_attention(Tensor query, Tensor key, Tensor value, Tensor? attn_mask=None,
    float dropout_p=0.0, bool is_causal=False, *, float? scale=None, bool enable_gqa=False) -> Tensor
    """
    saved = call.saved.get("probabilities")
    probabilities = _probabilities(query, key, attn_mask, is_causal, scale, enable_gqa) if saved is None else saved
    full_key, full_value = _repeat_heads(key, query, enable_gqa), _repeat_heads(value, query, enable_gqa)
    at_probabilities = torch.matmul(grad, full_value.transpose(-2, -1))
    at_scores = probabilities * (at_probabilities - (at_probabilities * probabilities).sum(-1, keepdim=True))
    factor = _scale(query, scale)
    at_key = torch.matmul(at_scores.transpose(-2, -1), query) * factor if call.needs("key") else None
    at_value = torch.matmul(probabilities.transpose(-2, -1), grad) if call.needs("value") else None
    return {
        "query": unbroadcast(torch.matmul(at_scores, full_key) * factor, query) if call.needs("query") else None,
        "key": _sum_heads(at_key, key, enable_gqa),
        "value": _sum_heads(at_value, value, enable_gqa),
        "attn_mask": unbroadcast(at_scores, attn_mask) if call.needs("attn_mask") else None,
    }


def _sum_heads(grad: Tensor | None, like: Tensor, enable_gqa: bool) -> Tensor | None:
    if grad is None or not enable_gqa:
        return None if grad is None else unbroadcast(grad, like)
    heads = like.shape[-3]
    return unflatten(grad, -3, (heads, grad.shape[-3] // heads)).sum(-3)


TABLE: Mapping[OpOverload, Lowering] = {
    aten.scaled_dot_product_attention.default: scaled_dot_product_attention,
}

SAVING_FORWARDS: Mapping[Any, Any] = {
    aten.scaled_dot_product_attention.default: attend,
}

FORWARDS: Mapping[OpOverload, Callable[..., Tensor]] = {
    aten.scaled_dot_product_attention.default: attend_whole,
}
