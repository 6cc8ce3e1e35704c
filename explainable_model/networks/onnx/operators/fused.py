"""Operators that no file has, and that stand for several nodes of one."""

import torch.nn.functional as F

from explainable_model.networks.onnx.operators.call import Call, Operator
from explainable_model.networks.onnx.values import Value, tensor, tensors

FUSED_DOMAIN = "explainable_model.fused"


def attend(call: Call, query: Value, keys: Value, value: Value, mask: Value = None) -> Value:
    """Attention of any rank, whose keys are transposed: ``(..., width, tokens)``."""
    query, keys, value = tensors(query, keys, value)
    mask = None if mask is None else tensor(mask, query)
    return F.scaled_dot_product_attention(query, keys.transpose(-2, -1), value, attn_mask=mask, scale=call.get("scale"))


FUSED: dict[str, Operator] = {"ScaledDotProductAttention": Operator(attend, passive=True)}
"""Type of a node of the domain -> how its output is computed."""
