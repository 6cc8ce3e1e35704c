"""Matrix products."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from explainable_model.errors import LoweringError
from explainable_model.lowering.call import Call, Gradients, Lowering
from explainable_model.lowering.one_hot import OneHot
from explainable_model.lowering.shapes import unbroadcast

aten = torch.ops.aten


def linear(call: Call, grad: Tensor | OneHot, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Gradients:
    """linear(Tensor input, Tensor weight, Tensor? bias=None) -> Tensor"""
    if isinstance(grad, OneHot):
        if not call.needs("weight") and not call.needs("bias"):
            return {"input": grad.rows(weight)}
        grad = grad.dense()
    return {
        "input": torch.matmul(grad, weight) if call.needs("input") else None,
        "weight": _over_rows(grad).t() @ _over_rows(input) if call.needs("weight") else None,
        "bias": unbroadcast(grad, bias) if call.needs("bias") else None,
    }


linear.takes_one_hot = True  # type: ignore[attr-defined]


def _over_rows(tensor: Tensor) -> Tensor:
    return tensor if tensor.ndim == 2 else tensor.flatten(0, -2)


def matmul(call: Call, grad: Tensor, self: Tensor, other: Tensor) -> Gradients:
    """matmul(Tensor self, Tensor other) -> Tensor"""
    return _product(call, "self", "other", grad, self, other)


def bmm(call: Call, grad: Tensor, self: Tensor, mat2: Tensor) -> Gradients:
    """bmm(Tensor self, Tensor mat2) -> Tensor; mm alike"""
    return _product(call, "self", "mat2", grad, self, mat2)


def _product(call: Call, left: str, right: str, grad: Tensor, a: Tensor, b: Tensor) -> Gradients:
    if a.ndim == 1:  # a vector is one row, its product one row less
        grad, a_rows = grad.unsqueeze(-1 if b.ndim == 1 else -2), a.unsqueeze(0)
    else:
        a_rows = a
    b_columns = b.unsqueeze(1) if b.ndim == 1 else b
    if b.ndim == 1:
        grad = grad.unsqueeze(-1)
    grad_a = grad_b = None
    if call.needs(left):
        grad_a = unbroadcast(torch.matmul(grad, b_columns.transpose(-2, -1)), a_rows)
        grad_a = grad_a.squeeze(0) if a.ndim == 1 and grad_a is not None else grad_a
    if call.needs(right):
        grad_b = unbroadcast(torch.matmul(a_rows.transpose(-2, -1), grad), b_columns)
        grad_b = grad_b.squeeze(1) if b.ndim == 1 and grad_b is not None else grad_b
    return {left: grad_a, right: grad_b}


def addmm(
    call: Call, grad: Tensor, self: Tensor, mat1: Tensor, mat2: Tensor, beta: Any = 1, alpha: Any = 1
) -> Gradients:
    """addmm(Tensor self, Tensor mat1, Tensor mat2, *, Scalar beta=1, Scalar alpha=1) -> Tensor"""
    product = grad if alpha == 1 else grad * alpha
    return {
        "self": unbroadcast(grad if beta == 1 else grad * beta, self) if call.needs("self") else None,
        "mat1": product @ mat2.t() if call.needs("mat1") else None,
        "mat2": mat1.t() @ product if call.needs("mat2") else None,
    }


def baddbmm(
    call: Call, grad: Tensor, self: Tensor, batch1: Tensor, batch2: Tensor, beta: Any = 1, alpha: Any = 1
) -> Gradients:
    """baddbmm(Tensor self, Tensor batch1, Tensor batch2, *, Scalar beta=1, Scalar alpha=1) -> Tensor"""
    product = grad if alpha == 1 else grad * alpha
    return {
        "self": unbroadcast(grad if beta == 1 else grad * beta, self) if call.needs("self") else None,
        "batch1": product @ batch2.transpose(1, 2) if call.needs("batch1") else None,
        "batch2": batch1.transpose(1, 2) @ product if call.needs("batch2") else None,
    }


def einsum(call: Call, grad: Tensor, equation: str, tensors: Sequence[Tensor]) -> Gradients:
    """einsum(str equation, Tensor[] tensors, *, int[]? path=None) -> Tensor"""
    inputs, output = _parse(equation)
    gradients: list[Tensor | None] = []
    for index, letters in enumerate(inputs):
        if not call.needs(f"tensors[{index}]"):
            gradients.append(None)
            continue
        others = [i for i in range(len(tensors)) if i != index]
        available = set(output).union(*(inputs[i] for i in others))
        if not set(letters) <= available or len(set(letters)) < len(letters):
            raise LoweringError(f"einsum {equation!r} sums operand {index} over an index of its own, or repeats one")
        terms = ",".join([output, *(inputs[i] for i in others)])
        gradients.append(torch.einsum(f"{terms}->{letters}", grad, *(tensors[i] for i in others)))
    return {"tensors": gradients}


def _parse(equation: str) -> tuple[list[str], str]:
    left, arrow, output = equation.replace(" ", "").partition("->")
    if not arrow or "..." in equation:
        raise LoweringError(f"einsum {equation!r}: only equations with '->' and without '...' have a lowering")
    return left.split(","), output


TABLE: Mapping[OpOverload, Lowering] = {
    aten.linear.default: linear,
    aten.matmul.default: matmul,
    aten.bmm.default: bmm,
    aten.mm.default: bmm,
    aten.addmm.default: addmm,
    aten.baddbmm.default: baddbmm,
    aten.einsum.default: einsum,
}
