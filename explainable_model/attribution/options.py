"""Options of methods: keyword arguments whose annotation says which values they take."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Any, TypeAlias


@dataclass(frozen=True)
class Range:
    """The values that a number may have.

    Attributes:
        low: the smallest; ``None`` for no bound.
        high: the largest; ``None`` for no bound.
    """

    low: int | None = None
    high: int | None = None

    def holds(self, value: float) -> bool:
        """Whether a number is finite and lies between the bounds."""
        return (
            math.isfinite(value)
            and (self.low is None or self.low <= value)
            and (self.high is None or value <= self.high)
        )

    def __str__(self) -> str:
        bounds = [f"of at least {self.low}"] if self.low is not None else []
        bounds += [f"of at most {self.high}"] if self.high is not None else []
        return " and ".join(bounds)


Count: TypeAlias = Annotated[int, Range(1)]
Several: TypeAlias = Annotated[int, Range(2)]
Seed: TypeAlias = Annotated[int, Range(0, 2**31 - 2)]
NotNegative: TypeAlias = Annotated[float, Range(0)]

KINDS: dict[type, tuple[type, str]] = {
    bool: (bool, "True or False"),
    int: (Integral, "an integer"),
    float: (Real, "a finite number"),
}


def options_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The options of a method and their defaults."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def check_option(method: str, function: Callable[..., Any], name: str, value: Any) -> None:
    """Refuse a value that the annotation of an option does not allow.

    Raises:
        ValueError: of another type, not finite, or out of range.
    """
    parameter = inspect.signature(function).parameters[name]
    allowed = next((part for part in getattr(parameter.annotation, "__metadata__", ())), Range())
    kind, words = KINDS[type(parameter.default)]
    is_kind = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if not is_kind or (kind is not bool and not allowed.holds(value)):
        raise ValueError(
            f"Option {name!r} of method {method!r} is {value!r}; expected {words} {allowed}".rstrip() + "."
        )
