"""Fourier transforms and complex numbers. The gradient of a complex tensor is autograd's: ``dL/d re + i dL/d im``."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from explainable_model.errors import LoweringError
from explainable_model.lowering.rules import concat, views
from explainable_model.lowering.rules.call import Call, Gradients, Lowering
from explainable_model.lowering.rules.concat import surrounded
from explainable_model.lowering.shapes import known

aten = torch.ops.aten


def real_to_complex(
    call: Call, grad: Tensor, self: Tensor, dim: Sequence[int], normalization: int, onesided: bool
) -> Gradients:
    """_fft_r2c(Tensor self, int[] dim, int normalization, bool onesided) -> Tensor"""
    if onesided:  # the half that was left out has no gradient
        last = dim[-1] % self.ndim
        pairs = torch.view_as_real(grad)
        grad = torch.view_as_complex(surrounded(pairs, last, 0, self.shape[last] - grad.shape[last]).contiguous())
    return {"self": torch.view_as_real(aten._fft_c2c(grad, dim, normalization, False)).select(-1, 0)}


def complex_to_real(
    call: Call, grad: Tensor, self: Tensor, dim: Sequence[int], normalization: int, last_dim_size: Any
) -> Gradients:
    """_fft_c2r(Tensor self, int[] dim, int normalization, SymInt last_dim_size) -> Tensor"""
    gradient = aten._fft_r2c(grad, dim, normalization, True)
    last = dim[-1] % self.ndim
    twice = grad.shape[last] - gradient.shape[last]  # the frequencies that the full spectrum has twice
    if not known(twice == 0):
        parts = [
            gradient.narrow(last, 0, 1),
            gradient.narrow(last, 1, twice) * 2,
            gradient.narrow(last, 1 + twice, gradient.shape[last] - 1 - twice),
        ]
        gradient = torch.cat(parts, last)
    return {"self": gradient}


def complex_to_complex(
    call: Call, grad: Tensor, self: Tensor, dim: Sequence[int], normalization: int, forward: bool
) -> Gradients:
    """_fft_c2c(Tensor self, SymInt[] dim, int normalization, bool forward) -> Tensor"""
    return {"self": aten._fft_c2c(grad, dim, normalization, not forward)}


def to_pairs(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """view_as_real(Tensor(a) self) -> Tensor(a)"""
    return {"self": torch.view_as_complex(grad.contiguous())}


def from_pairs(call: Call, grad: Tensor, self: Tensor) -> Gradients:
    """view_as_complex(Tensor(a) self) -> Tensor(a)"""
    return {"self": torch.view_as_real(grad)}


def from_parts(call: Call, grad: Tensor, real: Tensor, imag: Tensor) -> Gradients:
    """complex(Tensor real, Tensor imag) -> Tensor"""
    pairs = torch.view_as_real(grad)
    return {"real": pairs.select(-1, 0), "imag": pairs.select(-1, 1)}


def refuse_complex(op: OpOverload, arguments: Mapping[str, Any]) -> None:
    """Refuse complex arguments of an operator whose rule is right for real ones alone.

    Raises:
        LoweringError: the operator and its complex argument.
    """
    complex_names = [n for n, v in arguments.items() if isinstance(v, complex) or _holds_complex(v)]
    divides_by_real = op in (aten.div.Tensor, aten.div.Scalar) and isinstance(arguments["other"], (int, float))
    if complex_names and op not in COMPLEX and not divides_by_real:
        raise LoweringError(
            f"Cannot lower {op} of complex numbers (its {complex_names[0]!r}): the rule is for real ones. Write it "
            "with the real and imaginary parts, from torch.view_as_real, or pass lowerings= with one that conjugates."
        )


def _holds_complex(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_holds_complex, value))
    return isinstance(value, Tensor) and value.is_complex()


TABLE: Mapping[OpOverload, Lowering] = {
    aten._fft_r2c.default: real_to_complex,
    aten._fft_c2r.default: complex_to_real,
    aten._fft_c2c.default: complex_to_complex,
    aten.view_as_real.default: to_pairs,
    aten.view_as_complex.default: from_pairs,
    aten.complex.default: from_parts,
}

COMPLEX = frozenset(
    {
        *TABLE, *views.TABLE, *concat.TABLE, aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.neg.default,
        aten.abs.default, aten.sum.default, aten.sum.dim_IntList, aten.mean.default, aten.mean.dim, aten.clone.default,
        aten.alias.default, aten.contiguous.default, aten.constant_pad_nd.default,
    }
)  # fmt: skip
"""Operators whose rules hold for complex numbers too."""
