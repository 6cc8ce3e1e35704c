"""Whether rows of a user are what the table of lowerings holds."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch._ops import OpOverload, OpOverloadPacket

from explainable_model.errors import LoweringError
from explainable_model.lowering.rules.call import Lowering

EXPECTED = "def rule(call, grad, {arguments}): return {{{first!r}: gradient}}"


def check_lowerings(lowerings: Any) -> Mapping[OpOverload, Lowering]:
    """Refuse rows that would fail, or be overlooked, once the network has been traced.

    Raises:
        TypeError: no mapping, a key that is no operator overload, or a rule that is no function.
        LoweringError: a rule whose parameters are not ``call``, ``grad`` and the operator's arguments.
    """
    if not isinstance(lowerings, Mapping):
        raise TypeError(f"lowerings is {type(lowerings).__name__}; expected {{operator overload: rule}}.")
    for op, rule in lowerings.items():
        if not isinstance(op, OpOverload):
            raise TypeError(_not_an_overload(op))
        if not callable(rule):
            raise TypeError(f"lowerings[{op}] is {type(rule).__name__}; expected a function: {_signature(op)}.")
        problem = _parameter_problem(op, rule)
        if problem:
            raise LoweringError(f"The rule for {op} {problem}. Write {_signature(op)}. The schema is {op._schema}.")
    return lowerings


def _not_an_overload(op: Any) -> str:
    if isinstance(op, OpOverloadPacket):
        names: list[str] = op.overloads()  # type: ignore[no-untyped-call]
        overloads = ", ".join(f"torch.ops.{op}.{name}" for name in names if _takes_a_tensor(getattr(op, name)))
        return (
            f"lowerings has the operator packet {op}, which stands for several overloads; expected one of them as the "
            f"key: {overloads}."
        )
    return f"lowerings has the key {op!r}; expected an operator overload, such as torch.ops.aten.relu.default."


def _takes_a_tensor(op: OpOverload) -> bool:
    """Whether an overload is one of a traced graph: not of Python's numbers, and without an argument for its result."""
    arguments = op._schema.arguments
    return any("Tensor" in str(argument.type) for argument in arguments) and not any(a.is_out for a in arguments)


def _signature(op: OpOverload) -> str:
    arguments = [argument.name for argument in op._schema.arguments if not argument.has_default_value()]
    names = arguments or [argument.name for argument in op._schema.arguments]
    return EXPECTED.format(arguments=", ".join(arguments or ["**arguments"]), first=names[0] if names else "self")


def _parameter_problem(op: OpOverload, rule: Lowering) -> str:
    """What is wrong with the parameters of a rule, or an empty string."""
    parameters = list(inspect.signature(rule).parameters.values())
    kinds = {parameter.kind for parameter in parameters}
    arguments = {argument.name: argument for argument in op._schema.arguments}
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        leading = [p.name for p in positional[:2]]
        if len(leading) < 2 or leading[0] == "grad" or any(name in arguments for name in leading):
            return f"begins with the parameters ({', '.join(leading)}); expected call and grad"
    named = {p.name for p in positional[2:]} | {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    unknown = [p.name for p in parameters if p.name in named and p.default is p.empty and p.name not in arguments]
    if unknown:
        return f"asks for {', '.join(unknown)}, which the operator does not take"
    missing = [name for name, a in arguments.items() if not a.has_default_value() and name not in named]
    if missing and inspect.Parameter.VAR_KEYWORD not in kinds:
        return f"does not take the required argument {', '.join(missing)}"
    return ""
