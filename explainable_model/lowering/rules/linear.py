"""Matrix products."""

import string
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from explainable_model.errors import LoweringError
from explainable_model.lowering.rules.call import Call, Gradients, Lowering
from explainable_model.lowering.rules.one_hot import OneHot
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
        "weight": _flatten_rows(grad).t() @ _flatten_rows(input) if call.needs("weight") else None,
        "bias": unbroadcast(grad, bias) if call.needs("bias") else None,
    }


linear.takes_one_hot = True  # type: ignore[attr-defined]


def _flatten_rows(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1, tensor.shape[-1])


def matmul(call: Call, grad: Tensor, self: Tensor, other: Tensor) -> Gradients:
    """matmul(Tensor self, Tensor other) -> Tensor"""
    return _differentiate_product(call, "self", "other", grad, self, other)


def mv(call: Call, grad: Tensor, self: Tensor, vec: Tensor) -> Gradients:
    """mv(Tensor self, Tensor vec) -> Tensor"""
    return _differentiate_product(call, "self", "vec", grad, self, vec)


def dot(call: Call, grad: Tensor, self: Tensor, tensor: Tensor) -> Gradients:
    """dot(Tensor self, Tensor tensor) -> Tensor"""
    return _differentiate_product(call, "self", "tensor", grad, self, tensor)


def bmm(call: Call, grad: Tensor, self: Tensor, mat2: Tensor) -> Gradients:
    """bmm(Tensor self, Tensor mat2) -> Tensor; mm alike"""
    return _differentiate_product(call, "self", "mat2", grad, self, mat2)


def _differentiate_product(call: Call, left: str, right: str, grad: Tensor, a: Tensor, b: Tensor) -> Gradients:
    # A vector is one row on the left and one column on the right; the product has dropped that dimension.
    rows, columns = (a.unsqueeze(0) if a.ndim == 1 else a), (b.unsqueeze(1) if b.ndim == 1 else b)
    grad = grad.unsqueeze(-1) if b.ndim == 1 else grad
    grad = grad.unsqueeze(-2) if a.ndim == 1 else grad
    at_a = at_b = None
    if call.needs(left):
        at_a = unbroadcast(torch.matmul(grad, columns.transpose(-2, -1)), rows)
    if call.needs(right):
        at_b = unbroadcast(torch.matmul(rows.transpose(-2, -1), grad), columns)
    return {
        left: at_a.squeeze(0) if at_a is not None and a.ndim == 1 else at_a,
        right: at_b.squeeze(1) if at_b is not None and b.ndim == 1 else at_b,
    }


def addmm(
    call: Call, grad: Tensor, self: Tensor, mat1: Tensor, mat2: Tensor, beta: Any = 1, alpha: Any = 1
) -> Gradients:
    """addmm(Tensor self, Tensor mat1, Tensor mat2, *, Scalar beta=1, Scalar alpha=1) -> Tensor"""
    return _differentiate_sum(call, grad, self, "mat1", "mat2", mat1, mat2, beta, alpha)


def baddbmm(
    call: Call, grad: Tensor, self: Tensor, batch1: Tensor, batch2: Tensor, beta: Any = 1, alpha: Any = 1
) -> Gradients:
    """baddbmm(Tensor self, Tensor batch1, Tensor batch2, *, Scalar beta=1, Scalar alpha=1) -> Tensor; addbmm, which
    sums the products over the batch, alike
    """
    return _differentiate_sum(call, grad, self, "batch1", "batch2", batch1, batch2, beta, alpha)


def addmv(call: Call, grad: Tensor, self: Tensor, mat: Tensor, vec: Tensor, beta: Any = 1, alpha: Any = 1) -> Gradients:
    """addmv(Tensor self, Tensor mat, Tensor vec, *, Scalar beta=1, Scalar alpha=1) -> Tensor"""
    return _differentiate_sum(call, grad, self, "mat", "vec", mat, vec, beta, alpha)


def _differentiate_sum(
    call: Call, grad: Tensor, self: Tensor, left: str, right: str, a: Tensor, b: Tensor, beta: Any, alpha: Any
) -> Gradients:
    product = _differentiate_product(call, left, right, grad if alpha == 1 else grad * alpha, a, b)
    at_self = unbroadcast(grad if beta == 1 else grad * beta, self) if call.needs("self") else None
    return {"self": at_self, **product}


def cdist(
    call: Call, grad: Tensor, x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: int | None = None
) -> Gradients:
    """cdist(Tensor x1, Tensor x2, float p=2, int? compute_mode=None) -> Tensor"""
    if p != 2:
        raise LoweringError(f"cdist with p={p!r}: only Euclidean distances have a lowering")
    # The gradient of a distance points along the line between its two points; of equal points it is zero.
    pull = torch.where(call.output == 0, 0.0, grad / call.output)
    at_x1 = at_x2 = None
    if call.needs("x1"):
        at_x1 = unbroadcast(x1 * pull.sum(-1, keepdim=True) - torch.matmul(pull, x2), x1)
    if call.needs("x2"):
        back = pull.transpose(-2, -1)
        at_x2 = unbroadcast(x2 * back.sum(-1, keepdim=True) - torch.matmul(back, x1), x2)
    return {"x1": at_x1, "x2": at_x2}


def einsum(call: Call, grad: Tensor, equation: str, tensors: Sequence[Tensor]) -> Gradients:
    """einsum(str equation, Tensor[] tensors, *, int[]? path=None) -> Tensor"""
    inputs, output = _parse(equation, tensors)
    gradients: list[Tensor | None] = []
    for index, (letters, tensor) in enumerate(zip(inputs, tensors, strict=True)):
        if not call.needs(f"tensors[{index}]"):
            gradients.append(None)
            continue
        if len(set(letters)) < len(letters):
            raise LoweringError(f"einsum {equation!r} reads the diagonal of operand {index}, which has no lowering")
        others = [i for i in range(len(tensors)) if i != index]
        available = set(output).union(*(inputs[i] for i in others))
        kept = "".join(letter for letter in letters if letter in available)
        terms = ",".join([output, *(inputs[i] for i in others)])
        gradient = torch.einsum(f"{terms}->{kept}", grad, *(tensors[i] for i in others))
        for dim, letter in enumerate(letters):  # a letter of this operand alone was summed, so its gradient is repeated
            gradient = gradient if letter in available else gradient.unsqueeze(dim)
        gradients.append(
            unbroadcast(
                gradient.expand([-1 if n in available else s for n, s in zip(letters, tensor.shape, strict=True)]),
                tensor,
            )
        )
    return {"tensors": gradients}


def _parse(equation: str, tensors: Sequence[Tensor]) -> tuple[list[str], str]:
    """The letters of each operand and of the output, with "..." and a missing output spelled out."""
    left, arrow, output = equation.replace(" ", "").partition("->")
    inputs = left.split(",")
    ranks = [tensor.ndim - len(term.replace("...", "")) for term, tensor in zip(inputs, tensors, strict=True)]
    rest = "".join(letter for letter in string.ascii_letters if letter not in equation)[: max(ranks)]
    if not arrow:
        letters = left.replace(",", "").replace("...", "")
        output = ("..." if "..." in left else "") + "".join(sorted(n for n in letters if letters.count(n) == 1))
    spelled = [term.replace("...", rest[len(rest) - rank :]) for term, rank in zip(inputs, ranks, strict=True)]
    return spelled, output.replace("...", rest)


TABLE: Mapping[OpOverload, Lowering] = {
    aten.linear.default: linear,
    aten.matmul.default: matmul,
    aten.bmm.default: bmm,
    aten.mm.default: bmm,
    aten.mv.default: mv,
    aten.dot.default: dot,
    aten.addmm.default: addmm,
    aten.addmv.default: addmv,
    aten.baddbmm.default: baddbmm,
    aten.addbmm.default: baddbmm,
    aten.cdist.default: cdist,
    aten.einsum.default: einsum,
}
