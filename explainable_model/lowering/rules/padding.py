"""Padding: the gradient of constant padding is a crop, that of other padding a separable linear map."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.nn import functional

from explainable_model.lowering.rules.call import Call, Gradients, Lowering
from explainable_model.lowering.rules.resample import matrix_of, separable_gradient
from explainable_model.lowering.shapes import known

aten = torch.ops.aten


def pad(
    call: Call, grad: Tensor, self: Tensor, pad: Sequence[Any], mode: str = "constant", value: Any = None
) -> Gradients:
    """pad(Tensor self, SymInt[] pad, str mode="constant", float? value=None) -> Tensor"""
    if mode == "constant":
        return constant_pad(call, grad, self, pad)
    spatial = len(pad) // 2
    matrices = []
    for i in reversed(range(spatial)):  # ATen names the last dimension first
        around = list(pad[2 * i : 2 * i + 2])
        matrices.append(matrix_of(lambda t, a=around: functional.pad(t, a, mode), self.shape[-1 - i]))  # type: ignore[misc]
    return {"self": separable_gradient(grad, matrices)}


def constant_pad(call: Call, grad: Tensor, self: Tensor, pad: Sequence[Any], value: Any = 0) -> Gradients:
    """constant_pad_nd(Tensor self, SymInt[] pad, Scalar value=0) -> Tensor"""
    if not all(known(p >= 0) for p in pad):
        return {"self": aten.constant_pad_nd(grad, [-p for p in pad], 0.0)}
    for i, before in enumerate(pad[::2]):
        if not (known(before == 0) and known(pad[2 * i + 1] == 0)):
            dim = self.ndim - 1 - i
            grad = grad.narrow(dim, before, self.shape[dim])
    return {"self": grad}


def reflection_pad(call: Call, grad: Tensor, self: Tensor, padding: Sequence[Any]) -> Gradients:
    """reflection_pad2d(Tensor self, SymInt[4] padding) -> Tensor; reflection_pad1d, reflection_pad3d alike"""
    return pad(call, grad, self, padding, "reflect")


def replication_pad(call: Call, grad: Tensor, self: Tensor, padding: Sequence[Any]) -> Gradients:
    """replication_pad2d(Tensor self, SymInt[4] padding) -> Tensor; replication_pad1d, replication_pad3d alike"""
    return pad(call, grad, self, padding, "replicate")


TABLE: Mapping[OpOverload, Lowering] = {
    aten.pad.default: pad,
    aten.constant_pad_nd.default: constant_pad,
    aten.reflection_pad1d.default: reflection_pad,
    aten.reflection_pad2d.default: reflection_pad,
    aten.reflection_pad3d.default: reflection_pad,
    aten.replication_pad1d.default: replication_pad,
    aten.replication_pad2d.default: replication_pad,
    aten.replication_pad3d.default: replication_pad,
}
