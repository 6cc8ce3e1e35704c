"""Exact gradients in autograd's graph, of saturated probabilities above all."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode

from explainable_model.attribution.saturation import (
    is_attention,
    log_softmax_gradient,
    shifted,
    sigmoid_slope,
    tanh_slope,
)
from explainable_model.eager.hand_written import added_constant, log_sum_source, total_dims
from explainable_model.eager.memory_order import hook_batch_norm
from explainable_model.errors import SaturationWarning

SATURATED = 5000  # times the precision of a dtype: a distance to one that is off by more than 1e-4 of itself


@contextmanager
def exact_gradients(root: Tensor) -> Iterator[None]:
    """Let autograd compute the gradient of each softmax of a graph as if it did not round.

    A hook shifts the gradient that enters a softmax, or a quotient ``a / sum(a)``. Attention matrices are left alone.
    ``hook_batch_norm`` mends that of batch norm.
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
    """``a / a.sum(dim, keepdim=True)``, as a softmax written by hand ends, and ``a / (a + 1)``, a sigmoid."""
    if len(node.next_functions) < 2:
        return None
    numerator, denominator = node.next_functions
    dims = total_dims(denominator, numerator, _ndim(node))
    if dims is not None:
        return _shift_before(node, node._saved_self.detach() / node._saved_other.detach(), dims)
    if added_constant(denominator, numerator):
        return node.register_hook(lambda at_inputs, at_outputs: _quotient_gradients(node, at_outputs[0]))
    return None


def _quotient_gradients(node: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of ``a`` and ``d`` in ``a / d`` with ``d = a + c``, both through ``a``: ``c / d^2`` and nothing.

    Where the rounding of ``d`` has lost ``c``, it is one, as in a sigmoid.
    """
    whole = node._saved_other.detach()
    constant = whole - node._saved_self.detach()
    rounding = torch.finfo(whole.dtype).eps * whole.abs()
    constant = torch.where((constant - 1).abs() <= rounding, 1.0, constant)
    return grad / whole * (constant / whole), torch.zeros_like(whole)


def _ndim(node: Any) -> int:
    """How many dimensions the first operand of a quotient or product has; -1 where the node does not keep it."""
    kept = getattr(node, "_saved_self", None)
    return kept.ndim if isinstance(kept, Tensor) else -1


def _hook_product(node: Any) -> Any:
    """``a * (1 / a.sum(dim, keepdim=True))``."""
    if len(node.next_functions) < 2:
        return None
    for one, other in (node.next_functions, node.next_functions[::-1]):
        dims = total_dims(other, one, _ndim(node), inverted=True)
        if dims is not None:
            return _shift_before(node, node._saved_self.detach() * node._saved_other.detach(), dims)
    return None


def _shift_before(node: Any, output: Tensor, dims: list[int]) -> Any:
    return node.register_prehook(lambda grads: (shifted(grads[0], output, dims),))


def _hook_difference(node: Any) -> Any:
    """``x - logsumexp(x)``, a log-softmax written by hand."""
    if len(node.next_functions) < 2:
        return None
    found = log_sum_source(node.next_functions[1], node.next_functions[0])
    if found is None:
        return None
    output, dim = found

    def exact(at_inputs: tuple[Tensor, ...], at_outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return log_softmax_gradient(at_outputs[0], output, dim), torch.zeros_like(at_inputs[1])

    return node.register_hook(exact)


HOOKS: dict[str, Callable[[Any], Any]] = {
    "SoftmaxBackward": _hook_softmax,
    "LogSoftmaxBackward": _hook_log_softmax,
    "DivBackward": _hook_quotient,
    "MulBackward": _hook_product,
    "SubBackward": _hook_difference,
    "NativeBatchNormBackward": hook_batch_norm,
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


class Tanh(torch.autograd.Function):
    """A hyperbolic tangent whose gradient does not vanish where it rounds to one."""

    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        context.save_for_backward(tensor)
        return torch.tanh(tensor)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        (tensor,) = context.saved_tensors
        return gradients[0] * tanh_slope(tensor)


EXACT: dict[Any, type[Sigmoid] | type[Tanh]] = {
    **dict.fromkeys((torch.sigmoid, torch.special.expit, torch.nn.functional.sigmoid, Tensor.sigmoid), Sigmoid),
    **dict.fromkeys((torch.tanh, torch.nn.functional.tanh, Tensor.tanh), Tanh),
}


class ExactSigmoid(TorchFunctionMode):
    """Every sigmoid and every tanh that a network calls inside is one with an exact gradient."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in EXACT and len(args) == 1 and not kwargs:
            result: Tensor = EXACT[func].apply(args[0])
            return result
        return func(*args, **(kwargs or {}))


SATURATING = ("SigmoidBackward", "TanhBackward")


def has_saturated_sigmoid(root: Tensor, final: Node | None) -> bool:
    """Whether a sigmoid or tanh with one value per image and class, other than the final one, rounds to one."""
    for node in _nodes(root):
        if node is not final and _kind(node) in SATURATING and hasattr(node, "_saved_result"):
            output = node._saved_result.detach().abs()
            if output.ndim <= 2 and _is_below(1 - output):
                return True
    return False


def _is_below(distances: Tensor) -> bool:
    """Whether a distance to one is so small that its digits are lost."""
    return bool((distances < SATURATED * torch.finfo(distances.dtype).eps).any())


DISTANCES: dict[str, Callable[[Tensor], Tensor]] = {
    "LogBackward": lambda values: values,
    "ProdBackward": Tensor.abs,
    "Log1PBackward": lambda values: 1 + values,
    "LogitBackward": lambda values: torch.minimum(values, 1 - values),
    "AtanhBackward": lambda values: 1 - values.abs(),
}
DIFFERENCES = ("RsubBackward", "SubBackward")
ALWAYS = ("LogitBackward", "AtanhBackward", "Log1PBackward")


def warn_of_saturation(root: Tensor, final: Node | None) -> None:
    """Warn where the digits of a map are lost in float32, because a probability rounds to one.

    Args:
        root: the scores, with their graph.
        final: the node of the activation in which the network ends, which is not differentiated.
    """
    reason = _lost_digits(root)
    if reason is None and has_saturated_sigmoid(root, final):
        reason = "a sigmoid or tanh of a scripted module is saturated: it rounds to one, and its gradient to zero"
    if reason is not None:
        warnings.warn(
            f"The output is saturated, so the map may be wrong: {reason}. Explain a logit: give target= or output= for "
            "what comes before the probabilities, or run the network in float64: network.double().",
            SaturationWarning,
            stacklevel=6,
        )


def _overflows(node: Any) -> bool:
    """Whether the square of a divisor, which the gradient of the quotient needs, overflows."""
    kind = _kind(node)
    if kind == "DivBackward":
        divisor = getattr(node, "_saved_other", None)
    elif kind == "ReciprocalBackward":
        divisor = node._saved_result.detach().reciprocal()
    elif kind == "PowBackward" and getattr(node, "_saved_exponent", 1) == -1:
        divisor = node._saved_self
    else:
        return False
    if not isinstance(divisor, Tensor) or divisor.ndim > 2 or not divisor.is_floating_point():
        return False
    return bool((divisor.detach().abs() > torch.finfo(divisor.dtype).max ** 0.5).any())


def _lost_digits(root: Tensor) -> str | None:
    for node in _nodes(root):
        kind = _kind(node)
        if _overflows(node):
            return "an exponential is divided by a sum of exponentials that is too large: subtract the maximum first"
        if kind not in DISTANCES or not hasattr(node, "_saved_self"):
            continue
        values = node._saved_self.detach()
        source = node.next_functions[0][0]
        is_difference = kind in ALWAYS or (source is not None and _kind(source) in DIFFERENCES)
        if is_difference and values.ndim <= 2 and _is_below(DISTANCES[kind](values)):
            name = str(node.name()).split("Backward")[0].lower()
            return f"{name} takes the distance of a probability to one, and it rounds to zero"
    return None
