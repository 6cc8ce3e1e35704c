"""The types of a lowering, and how its arguments are bound to ATen's names."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeAlias

from torch import Tensor
from torch._ops import OpOverload

from explainable_model.errors import LoweringError

Gradients: TypeAlias = Mapping[str, Tensor | Sequence[Tensor | None] | None]
"""Gradient per ATen argument name; a sequence for an argument that is a list of tensors."""

Lowering: TypeAlias = Callable[..., Gradients]
"""``(call, grad, **arguments) -> Gradients``: the operator's vector-Jacobian product.

``grad`` is the gradient of the operator's output. For an operator with several outputs it is a list, with ``None`` for
an output without a gradient. The arguments come under ATen's names. An argument that the function does not name must
have its default value.
"""


@dataclass(frozen=True)
class Call:
    """One call of an operator on the way from the target layer to the score.

    Attributes:
        op: the operator.
        output: what it returned, a tensor or a list of them.
        needed: names of the arguments whose gradient is needed; ``tensors[1]`` inside a list.
        saved: what the forward kept for the gradient, such as attention probabilities.
    """

    op: OpOverload
    output: Any
    needed: frozenset[str]
    saved: Mapping[str, Tensor] = field(default_factory=dict)

    def needs(self, name: str) -> bool:
        """Whether the gradient of this argument is needed."""
        return name in self.needed


@cache
def _parameters(lowering: Lowering) -> frozenset[str] | None:
    """Names of the arguments that a lowering takes; ``None`` for one that takes any."""
    parameters = inspect.signature(lowering).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return None
    return frozenset(parameters)


def schema_arguments(op: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """Pairs of (schema argument, value), with defaults filled in."""
    pairs = []
    for position, argument in enumerate(op._schema.arguments):
        if position < len(args):
            pairs.append((argument, args[position]))
        else:
            pairs.append((argument, kwargs.get(argument.name, argument.default_value)))
    return pairs


def bind(lowering: Lowering, op: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments for a lowering.

    Raises:
        LoweringError: an argument that the lowering does not support has another than its default
            value.
    """
    bound = {}
    supported = _parameters(lowering)
    for argument, value in schema_arguments(op, args, kwargs):
        if supported is None or argument.name in supported:
            bound[argument.name] = value
        elif argument.has_default_value() and value != argument.default_value:
            raise LoweringError(
                f"Cannot lower {op} with {argument.name}={value!r}: its lowering supports "
                f"{argument.name}={argument.default_value!r} only. Pass lowerings={{{op}: ...}} with one that does."
            )
    return bound


def gradient_for(call: Call, gradients: Gradients, name: str, value: Tensor) -> Tensor | None:
    """The gradient that a lowering gave for one argument; ``None`` stands for zero.

    Args:
        call: what was called.
        gradients: what the lowering returned.
        name: the argument; ``tensors[1]`` inside a list.
        value: what the argument was.

    Raises:
        LoweringError: the lowering returned no mapping, nothing for this argument, or a gradient of another shape.
    """
    argument, _, index = name.rstrip("]").partition("[")
    if not isinstance(gradients, Mapping):
        kind = "a tensor" if isinstance(gradients, Tensor) else type(gradients).__name__
        raise LoweringError(
            f"The rule for {call.op} returned {kind}; expected a mapping from the name of each "
            f"argument to its gradient. Write return {{{argument!r}: gradient}}."
        )
    if argument not in gradients:
        raise LoweringError(
            f"Cannot lower {call.op} where its {argument!r} depends on the target layer: its lowering differentiates "
            f"with respect to {', '.join(gradients)} only. Pass lowerings={{{call.op}: ...}} with one that does."
        )
    gradient = gradients[argument]
    if gradient is not None and not isinstance(gradient, Tensor):
        gradient = gradient[int(index)]
    if gradient is not None and _differ(gradient, value):
        raise LoweringError(
            f"The rule for {call.op} returned a gradient of shape {tuple(gradient.shape)} for {name!r}, whose shape is "
            f"{tuple(value.shape)}; expected the shape of the argument. Sum over the dimensions that were broadcast."
        )
    return gradient


def _differ(gradient: Tensor, value: Tensor) -> bool:
    """Whether two shapes differ for certain; sizes that are open are not compared."""
    if gradient.ndim != value.ndim:
        return True
    sizes = zip(gradient.shape, value.shape, strict=True)
    return any(isinstance(one, int) and isinstance(other, int) and one != other for one, other in sizes)
