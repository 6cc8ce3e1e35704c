"""Which file of rules an operator without one belongs to."""

from collections import Counter
from collections.abc import Mapping
from difflib import SequenceMatcher
from typing import Any

from torch._ops import OpOverload

from explainable_model.errors import LoweringError
from explainable_model.lowering.rules import FAMILIES

ALIKE = 0.6  # of two names: ``hardshrink`` and ``softshrink``, but not ``take`` and ``tanh``


def missing_lowering(missing: Mapping[OpOverload, str]) -> LoweringError:
    """The error for operators without a lowering.

    Args:
        missing: the operators, each with a layer where it is met.
    """
    named = ", ".join(f"{op} (from {layer or 'the network itself'})" for op, layer in missing.items())
    files = sorted({rules_file(op) for op in missing})
    return LoweringError(
        f"Cannot lower {named}: no vector-Jacobian product is known. Pass lowerings={{operator: rule}}, or add a row "
        f"to TABLE in {' and '.join(files)}, where the neighbors are."
    )


def rules_file(op: OpOverload) -> str:
    """The file whose table has the operators that are most like this one, by name or else by arguments."""
    rows = [(family, row) for family in FAMILIES for row in family.TABLE]
    likeness = {id(family): 0.0 for family in FAMILIES}
    for family, row in rows:
        likeness[id(family)] = max(likeness[id(family)], _likeness(_stem(op), _stem(row)))
    best = max(FAMILIES, key=lambda family: likeness[id(family)])
    if likeness[id(best)] < ALIKE:
        same = Counter(id(family) for family, row in rows if _argument_types(row) == _argument_types(op))
        best = max(FAMILIES, key=lambda family: (same[id(family)], likeness[id(family)]))
    return f"lowering/rules/{best.__name__.rpartition('.')[2]}.py"


def _stem(op: OpOverload) -> str:
    return str(op._schema.name.partition("::")[2].strip("_"))


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other, autojunk=False).ratio()


def _argument_types(op: Any) -> tuple[str, ...]:
    schema = op._schema
    return (*(str(argument.type) for argument in schema.arguments), "->", *(str(r.type) for r in schema.returns))
