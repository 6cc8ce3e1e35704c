"""Exact gradients of saturated probabilities in autograd's graph."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode

from explainable_model.attribution.saturation import is_attention, log_softmax_gradient, shifted, sigmoid_slope

SATURATED = 5000  # times the precision of a dtype: a distance to one that is off by more than 1e-4 of itself
SIGMOIDS = (torch.sigmoid, torch.special.expit, torch.nn.functional.sigmoid, Tensor.sigmoid)
VIEWS = ("UnsqueezeBackward", "ViewBackward", "ExpandBackward")


@contextmanager
def exact_softmax(root: Tensor) -> Iterator[None]:
    """Let autograd compute the gradient of each softmax of a graph as if it did not round.

    A hook shifts the gradient that enters a softmax, or a quotient ``a / sum(a)``. Attention matrices are left alone.
    """
    with ExitStack() as stack:
        for node in _nodes(root):
            kind = _kind(node)
            hook = HOOKS[kind](node) if kind in HOOKS else None
            if hook is not None:
                stack.callback(hook.remove)
        yield


def _nodes(root: Tensor) -> Iterator[Any]:
    seen: set[Node] = set()
    stack = [root.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        stack += [source for source, _ in node.next_functions]


def _kind(node: Any) -> str:
    return str(node.name()).rstrip("0123456789")


def _signed(dim: int) -> int:
    return dim - 2**64 if dim >= 2**63 else dim


def _hook_softmax(node: Any) -> Any:
    output, dim = node._saved_result.detach(), _signed(node._saved_dim)
    if is_attention(output, dim):
        return None
    return node.register_prehook(lambda grads: (shifted(grads[0], output, dim),))


def _hook_log_softmax(node: Any) -> Any:
    dim = _signed(node._saved_dim)

    def exact(at_inputs: tuple[Tensor, ...], at_outputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (log_softmax_gradient(at_outputs[0], node._saved_result, dim).to(at_inputs[0].dtype),)

    return node.register_hook(exact)


def _hook_quotient(node: Any) -> Any:
    """``a / a.sum(dim, keepdim=True)``, as a softmax written by hand ends."""
    (numerator, _), (denominator, _) = node.next_functions
    while denominator is not None and _kind(denominator) in VIEWS:
        denominator = denominator.next_functions[0][0]
    if denominator is None or _kind(denominator) != "SumBackward" or not hasattr(denominator, "_saved_dim"):
        return None
    if denominator.next_functions[0][0] is not numerator:
        return None
    with torch.no_grad():
        output = node._saved_self / node._saved_other
    dims = [_signed(dim) for dim in denominator._saved_dim]
    return node.register_prehook(lambda grads: (shifted(grads[0], output, dims),))


HOOKS: dict[str, Callable[[Any], Any]] = {
    "SoftmaxBackward": _hook_softmax,
    "LogSoftmaxBackward": _hook_log_softmax,
    "DivBackward": _hook_quotient,
}
"""What is done at a node of autograd's graph, if anything: it returns the hook's handle or ``None``."""


class Sigmoid(torch.autograd.Function):
    """A sigmoid whose gradient does not vanish where ``s(x)`` rounds to one.

    Autograd names its node ``SigmoidBackward``, as that of ATen's operator.
    """

    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        context.save_for_backward(tensor)
        return torch.sigmoid(tensor)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        (tensor,) = context.saved_tensors
        return gradients[0] * sigmoid_slope(tensor)


class ExactSigmoid(TorchFunctionMode):
    """Every sigmoid that a network calls inside is one with an exact gradient."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in SIGMOIDS and len(args) == 1 and not kwargs:
            result: Tensor = Sigmoid.apply(args[0])
            return result
        return func(*args, **(kwargs or {}))


def has_saturated_sigmoid(root: Tensor, final: Node | None) -> bool:
    """Whether a sigmoid with one value per image and class, other than the final one, rounds to one in a graph."""
    for node in _nodes(root):
        if node is not final and _kind(node) == "SigmoidBackward" and hasattr(node, "_saved_result"):
            output = node._saved_result.detach()
            if output.ndim <= 2 and bool((1 - output < SATURATED * torch.finfo(output.dtype).eps).any()):
                return True
    return False
