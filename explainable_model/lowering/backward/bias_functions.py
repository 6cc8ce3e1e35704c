"""``b = y - J x`` of an operator with output ``y``, inputs ``x`` and Jacobian ``J``; arguments come under ATen's names.

Source: Srinivas and Fleuret 2019, FullGrad, arXiv 1905.00780: biases, running averages of batch norm, and the implicit
biases of nonlinear functions.
"""

import math
import operator
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

Bias: TypeAlias = Callable[..., Tensor]
getitem = operator.getitem


def of_linear_map(output: Tensor, *, bias: Tensor, weight: Tensor, **_: Any) -> Tensor:
    """Convolutions and linear layers: the bias of each channel."""
    behind = 0 if weight.ndim == 2 else weight.ndim - 2
    return bias.detach().reshape(-1, *[1] * behind).expand_as(output)


def of_addmm(output: Tensor, *, self: Tensor, beta: float = 1, **_: Any) -> Tensor:
    """``beta self + mat1 mat2`` with a constant ``self``."""
    constant: Tensor = beta * self.detach()
    return constant.expand_as(output)


def of_shaped_constant(output: Tensor, **_: Any) -> Tensor:
    """A constant that takes the shape of an input."""
    return output * 1


def of_cat(output: Tensor, *, tensors: list[Tensor], dim: int = 0, **_: Any) -> Tensor:
    """Constants beside inputs, such as the coordinates of the pixels; ``tensors`` has zeros for the inputs."""
    return torch.cat([tensor.detach() for tensor in tensors], dim)


def of_stack(output: Tensor, *, tensors: list[Tensor], dim: int = 0, **_: Any) -> Tensor:
    """See ``of_cat``."""
    return torch.stack([tensor.detach() for tensor in tensors], dim)


def of_bound_by_other(output: Tensor, *, self: Tensor, other: Tensor, **_: Any) -> Tensor:
    """The larger, or the smaller, of an input and a constant: the constant where it is taken, its half in a tie."""
    return torch.where(output == self, torch.where(self == other, output / 2, 0.0), output)


def of_bound_by_self(output: Tensor, *, self: Tensor, other: Tensor, **_: Any) -> Tensor:
    """As ``of_bound_by_other``, with the constant first."""
    return of_bound_by_other(output, self=other, other=self)


def of_bilinear(output: Tensor, **_: Any) -> Tensor:
    """Products of two inputs: ``J x`` is twice the product."""
    return -output


def of_dynamic_map(output: Tensor, *, bias: Tensor, weight: Tensor, **_: Any) -> Tensor:
    """Convolutions and linear layers with a weight that the image makes, beside a constant bias."""
    return 2 * of_linear_map(output, bias=bias, weight=weight) - output


def of_quotient(output: Tensor, **_: Any) -> Tensor:
    """Quotients of two inputs: ``J x`` is zero."""
    return output * 1


def of_reciprocal(output: Tensor, **_: Any) -> Tensor:
    """A constant over an input: ``J x`` is minus the quotient."""
    return 2 * output


def of_added_constant(output: Tensor, *, self: Tensor, **_: Any) -> Tensor:
    """A constant that is added or subtracted."""
    return output - self


def of_constant_first(output: Tensor, *, self: Any, **_: Any) -> Tensor:
    """A constant to which an input is added, or from which it is subtracted."""
    constant: Tensor = torch.zeros_like(output) + self
    return constant


def of_padding(output: Tensor, *, self: Tensor, pad: Any, value: float, **_: Any) -> Tensor:
    """The value that is put around the input."""
    return output - torch.constant_pad_nd(self, pad, 0)


def of_batch_norm(
    output: Tensor, *, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor, running_var: Tensor,
    eps: float, **_: Any,
) -> Tensor:  # fmt: skip
    """The output for an input of zero."""
    scale = torch.rsqrt(running_var + eps)
    scale = scale if weight is None else scale * weight.detach()
    shift = -running_mean * scale if bias is None else bias.detach() - running_mean * scale
    return shift.reshape(-1, *[1] * (output.ndim - 2)).expand_as(output)


def of_layer_norm(
    output: Tensor, *, input: Tensor, normalized_shape: Any, weight: Tensor | None, bias: Tensor | None, eps: float,
    **_: Any,
) -> Tensor:  # fmt: skip
    """Normalized inputs keep their size when the input grows, so ``J x`` is what ``eps`` leaves of it."""
    normal = torch.layer_norm(input, normalized_shape, None, None, eps)
    dims = list(range(-len(normalized_shape), 0))
    linear = normal * (1 - (normal * normal).mean(dims, keepdim=True))
    return output - (linear if weight is None else linear * weight.detach())


def of_group_norm(
    output: Tensor, *, input: Tensor, num_groups: int, weight: Tensor | None, bias: Tensor | None, eps: float,
    **_: Any,
) -> Tensor:  # fmt: skip
    """As ``of_layer_norm``, over the channels of each group and space."""
    normal = torch.group_norm(input, num_groups, None, None, eps)
    groups = normal.reshape(normal.shape[0], num_groups, -1)
    linear = (groups * (1 - (groups * groups).mean(2, keepdim=True))).reshape(normal.shape)
    if weight is not None:
        linear = linear * weight.detach().reshape(-1, *[1] * (output.ndim - 2))
    return output - linear


def of_clamp(output: Tensor, *, self: Tensor, min: Any = None, max: Any = None, **_: Any) -> Tensor:
    """The bound where the input is beyond it."""
    inside = torch.ones_like(self, dtype=torch.bool)
    if min is not None:
        inside = inside & (self > min)
    if max is not None:
        inside = inside & (self < max)
    return torch.where(inside, 0.0, output)


def of_hardtanh(output: Tensor, *, self: Tensor, min_val: float = -1, max_val: float = 1, **_: Any) -> Tensor:
    """See ``of_clamp``."""
    return of_clamp(output, self=self, min=min_val, max=max_val)


def of_relu6(output: Tensor, *, self: Tensor, **_: Any) -> Tensor:
    """See ``of_clamp``."""
    return of_clamp(output, self=self, min=0, max=6)


def of_silu(output: Tensor, *, self: Tensor, **_: Any) -> Tensor:
    """``y = x s`` and ``y' = s + x s (1 - s)`` with the sigmoid ``s``."""
    gate = torch.sigmoid(self)
    return -self * self * gate * (1 - gate)


def of_gelu(output: Tensor, *, self: Tensor, approximate: str = "none", **_: Any) -> Tensor:
    """``y = x F(x)`` and ``y' = F + x F'``, so the bias is ``-x^2 F'``."""
    if approximate == "none":
        return -self * self * torch.exp(-self * self / 2) / math.sqrt(2 * math.pi)
    factor = math.sqrt(2 / math.pi)
    curve = torch.tanh(factor * (self + 0.044715 * self**3))
    return -self * self * 0.5 * (1 - curve * curve) * factor * (1 + 3 * 0.044715 * self * self)


def of_sigmoid(output: Tensor, *, self: Tensor, **_: Any) -> Tensor:
    """``y' = y (1 - y)``."""
    return output - self * output * (1 - output)


def of_tanh(output: Tensor, *, self: Tensor, **_: Any) -> Tensor:
    """``y' = 1 - y^2``."""
    return output - self * (1 - output * output)


def of_hardswish(output: Tensor, *, self: Tensor, **_: Any) -> Tensor:
    """``y = x (x + 3) / 6`` between -3 and 3."""
    return torch.where(self.abs() < 3, -self * self / 6, 0.0)


def of_hardsigmoid(output: Tensor, *, self: Tensor, **_: Any) -> Tensor:
    """``y = (x + 3) / 6`` between -3 and 3."""
    return torch.where(self.abs() < 3, 0.5, output)


def of_elu(
    output: Tensor, *, self: Tensor, alpha: float = 1, scale: float = 1, input_scale: float = 1, **_: Any
) -> Tensor:
    """``y = scale alpha (exp(input_scale x) - 1)`` below zero."""
    slope = (output + scale * alpha) * input_scale
    return torch.where(self > 0, torch.zeros_like(output), output - self * slope)
