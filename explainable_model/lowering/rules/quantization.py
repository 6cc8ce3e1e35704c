"""Fake quantization: the forward rounds, the gradient passes unchanged where the value is inside the range."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from explainable_model.lowering.rules.arithmetic import mask
from explainable_model.lowering.rules.call import Call, Gradients, Lowering

aten = torch.ops.aten

# PyTorch's operators cannot be traced with an open batch size, so fake quantizers are traced as this one.
_library: Any = torch.library.Library("explainable_model", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.define("fake_quantize(Tensor self, Tensor scale, Tensor zero_point, int quant_min, int quant_max) -> Tensor")


def fake_quantize(
    call: Call, grad: Tensor, self: Tensor, scale: Any, zero_point: Any, quant_min: int, quant_max: int
) -> Gradients:
    """fake_quantize_per_tensor_affine(Tensor self, float scale, int zero_point, int quant_min, int quant_max)
    -> Tensor; explainable_model::fake_quantize alike
    """
    inside = _round(self, scale, zero_point)
    return {"self": mask(grad, (inside >= quant_min) & (inside <= quant_max))}


def fake_quantize_channels(
    call: Call, grad: Tensor, self: Tensor, scale: Tensor, zero_point: Tensor, axis: int, quant_min: int, quant_max: int
) -> Gradients:
    """fake_quantize_per_channel_affine(Tensor self, Tensor scale, Tensor zero_point, int axis, int quant_min,
    int quant_max) -> Tensor
    """
    scale, zero_point = _along(scale, self, axis), _along(zero_point, self, axis)
    return fake_quantize(call, grad, self, scale, zero_point, quant_min, quant_max)


def with_mask(call: Call, grad: Any, self: Tensor, **_: Any) -> Gradients:
    """fake_quantize_per_tensor_affine_cachemask(Tensor self, ...) -> (Tensor output, Tensor mask) and
    fake_quantize_per_channel_affine_cachemask
    """
    return {"self": mask(grad[0], call.output[1])}


# The same values in operators that every runtime has


def _round(values: Tensor, scale: Any, zero_point: Any) -> Tensor:
    return torch.round(values * (1 / scale) + zero_point)


def _along(values: Tensor, like: Tensor, axis: int) -> Tensor:
    shape = [1] * like.ndim
    shape[axis] = -1
    return values.reshape(shape).to(like.dtype)


def _quantize(self: Tensor, scale: Any, zero_point: Any, quant_min: int, quant_max: int) -> Tensor:
    output: Tensor = (_round(self, scale, zero_point).clamp(quant_min, quant_max) - zero_point) * scale
    return output


def _quantize_channels(
    self: Tensor, scale: Tensor, zero_point: Tensor, axis: int, quant_min: int, quant_max: int
) -> Tensor:
    return _quantize(self, _along(scale, self, axis), _along(zero_point, self, axis), quant_min, quant_max)


def _quantize_with_mask(
    self: Tensor, scale: Any, zero_point: Any, quant_min: int, quant_max: int
) -> tuple[Tensor, Tensor]:
    inside = _round(self, scale, zero_point)
    output = _quantize(self, scale, zero_point, quant_min, quant_max)
    return output, (inside >= quant_min) & (inside <= quant_max)


def _quantize_channels_with_mask(
    self: Tensor, scale: Tensor, zero_point: Tensor, axis: int, quant_min: int, quant_max: int
) -> tuple[Tensor, Tensor]:
    return _quantize_with_mask(self, _along(scale, self, axis), _along(zero_point, self, axis), quant_min, quant_max)


_library.impl("fake_quantize", _quantize, "CompositeExplicitAutograd")
FAKE_QUANTIZE: OpOverload = torch.ops.explainable_model.fake_quantize.default

TABLE: Mapping[OpOverload, Lowering] = {
    FAKE_QUANTIZE: fake_quantize,
    aten.fake_quantize_per_tensor_affine.default: fake_quantize,
    aten.fake_quantize_per_tensor_affine.tensor_qparams: fake_quantize,
    aten.fake_quantize_per_channel_affine.default: fake_quantize_channels,
    aten.fake_quantize_per_tensor_affine_cachemask.default: with_mask,
    aten.fake_quantize_per_channel_affine_cachemask.default: with_mask,
}

FORWARDS: Mapping[OpOverload, Callable[..., Any]] = {
    FAKE_QUANTIZE: _quantize,
    aten.fake_quantize_per_tensor_affine.default: _quantize,
    aten.fake_quantize_per_tensor_affine.tensor_qparams: _quantize,
    aten.fake_quantize_per_channel_affine.default: _quantize_channels,
    aten.fake_quantize_per_tensor_affine_cachemask.default: _quantize_with_mask,
    aten.fake_quantize_per_channel_affine_cachemask.default: _quantize_channels_with_mask,
}
