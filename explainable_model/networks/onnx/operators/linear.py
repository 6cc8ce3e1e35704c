"""Matrix products."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explainable_model.errors import ModelError
from explainable_model.networks.onnx.operators.call import Call, Operator
from explainable_model.networks.onnx.values import Value, tensor, tensors

ATTENTION_ATTRIBUTES = {
    "is_causal",
    "kv_num_heads",
    "q_num_heads",
    "qk_matmul_output_mode",
    "scale",
    "softcap",
    "softmax_precision",
}


def gemm(call: Call, a: Value, b: Value, c: Value = None) -> Value:
    a, b = tensors(a, b)
    product = (a.t() if call.get("transA") else a) @ (b.t() if call.get("transB") else b)
    if call.get("alpha", 1.0) != 1.0:
        product = product * call.get("alpha")
    if c is None:
        return product
    c = tensor(c, product)
    return product + (c if call.get("beta", 1.0) == 1.0 else c * call.get("beta"))


def matmul(call: Call, a: Value, b: Value) -> Value:
    a, b = tensors(a, b)
    return torch.matmul(a, b)


def einsum(call: Call, *values: Value) -> Value:
    return torch.einsum(call.get("equation"), *tensors(*values))


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer of a weight ``(out, in)`` and a bias ``(out,)``."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer


def build_gemm(call: Call, inputs: Sequence[Value]) -> nn.Module | None:
    weight, bias = inputs[1], inputs[2] if len(inputs) > 2 else None
    if not isinstance(weight, Tensor) or call.get("transA") or call.get("alpha", 1.0) != 1.0:
        return None
    weight = weight if call.get("transB") else weight.t().contiguous()
    if len(inputs) > 2:
        if not isinstance(bias, Tensor) or call.get("beta", 1.0) != 1.0 or bias.numel() not in (1, weight.shape[0]):
            return None
        if bias.ndim > 1 and bias.shape[-1] != bias.numel():
            return None
        bias = bias.flatten().expand(weight.shape[0]).contiguous()
    return linear(weight, bias)


def build_matmul(call: Call, inputs: Sequence[Value]) -> nn.Module | None:
    weight = inputs[1]
    if not isinstance(weight, Tensor) or weight.ndim != 2 or not weight.is_floating_point():
        return None
    return linear(weight.t().contiguous(), None)


def attention(call: Call, q: Value, k: Value, v: Value, mask: Value = None, *cache: Value) -> Value:
    """Scaled dot product attention, of heads ``(N, heads, tokens, width)`` or of tokens ``(N, tokens, K)``.

    Raises:
        ModelError: it keeps a cache, caps its scores, or returns more than its result.
    """
    other = set(call.attributes) - ATTENTION_ATTRIBUTES
    if any(value is not None for value in cache) or call.outputs > 1 or call.get("softcap", 0.0) or other:
        raise ModelError("Attention with a cache, a softcap, a window or several outputs is not read")
    if mask is not None and call.get("is_causal"):
        raise ModelError("Attention with a mask that is causal as well is not read")
    merged = q.ndim == 3
    heads, key_heads = call.get("q_num_heads"), call.get("kv_num_heads")
    if merged:
        q = q.unflatten(2, (heads, -1)).transpose(1, 2)
        k, v = (x.unflatten(2, (key_heads, -1)).transpose(1, 2) for x in (k, v))
    if q.shape[1] != k.shape[1]:
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    mask = None if mask is None else tensor(mask, q)
    found = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=bool(call.get("is_causal", 0)), scale=call.get("scale")
    )
    return found.transpose(1, 2).flatten(2) if merged else found


TABLE: dict[str, Operator] = {
    "Attention": Operator(attention, passive=True),
    "Einsum": Operator(einsum, passive=True),
    "Gemm": Operator(gemm, build=build_gemm, passive=True),
    "MatMul": Operator(matmul, build=build_matmul, passive=True),
}
