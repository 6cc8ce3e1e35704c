"""Options of methods: keyword arguments whose annotation says which values they take."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Any, TypeAlias

from torch import Tensor

from explainable_model.attribution.argument_values import describe


@dataclass(frozen=True)
class Words:
    """The words that an option may be.

    Attributes:
        words: all of them.
    """

    words: tuple[str, ...]


@dataclass(frozen=True)
class Range:
    """The values that a number may have.

    Attributes:
        low: the smallest; ``None`` for no bound.
        high: the largest; ``None`` for no bound.
        open: whether the bounds themselves are left out.
        below: a bound that is left out by itself; ``None`` for none.
        or_images: whether a tensor of images may stand for the number.
    """

    low: int | None = None
    high: int | None = None
    open: bool = False
    below: int | None = None
    or_images: bool = False

    def holds(self, value: float) -> bool:
        """Whether a number is finite and lies between the bounds."""
        return (
            math.isfinite(value)
            and (self.low is None or self.low <= value)
            and (self.high is None or value <= self.high)
            and (self.below is None or value < self.below)
            and not (self.open and value in (self.low, self.high))
        )

    def __str__(self) -> str:
        if self.open:
            return f"between {self.low} and {self.high}"
        bounds = [f"of at least {self.low}"] if self.low is not None else []
        bounds += [f"of at most {self.high}"] if self.high is not None else []
        bounds += [f"below {self.below}"] if self.below is not None else []
        return " and ".join(bounds)


Count: TypeAlias = Annotated[int, Range(1)]
Several: TypeAlias = Annotated[int, Range(2)]
Seed: TypeAlias = Annotated[int, Range(0, 2**31 - 2)]
NotNegative: TypeAlias = Annotated[float, Range(0)]
Pixels: TypeAlias = Annotated[int, Range(0)]
"""A length; zero for one that the method chooses."""
Ratio: TypeAlias = Annotated[float, Range(0, below=1)]
Share: TypeAlias = Annotated[float, Range(0, 1, open=True)]
Baseline: TypeAlias = Annotated[float | Tensor, Range(or_images=True)]
"""The image, or the images, that stand for nothing to see: one value for every pixel, or ``(B, C, *size)``."""

IMAGES = "images"

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
    if isinstance(parameter.default, str):
        _check_word(method, parameter, value)
        return
    allowed = next((part for part in getattr(parameter.annotation, "__metadata__", ())), Range())
    kind, words = KINDS[type(parameter.default)]
    if isinstance(value, Tensor) and allowed.or_images:
        if not value.is_floating_point() or value.ndim < 2 or not bool(value.isfinite().all()):
            raise ValueError(
                f"Option {name!r} of method {method!r} is a tensor of {value.dtype}, shape {tuple(value.shape)}; "
                "expected finite floating point images (B, C, *size), prepared as those of the network, or one number."
            )
        return
    is_kind = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if not is_kind or (kind is not bool and not allowed.holds(value)):
        expected = f"{words} {allowed}".rstrip() + (" or a tensor of images" if allowed.or_images else "")
        raise ValueError(f"Option {name!r} of method {method!r} is {describe(value)}; expected {expected}.")


def _check_word(method: str, parameter: inspect.Parameter, value: Any) -> None:
    allowed = next(part for part in parameter.annotation.__metadata__ if isinstance(part, Words))
    if value not in allowed.words:
        words = ", ".join(map(repr, allowed.words))
        raise ValueError(f"Option {parameter.name!r} of method {method!r} is {describe(value)}; expected {words}.")


def record_option(value: Any) -> Any:
    """An option as a record holds it: of images, their shape in words."""
    return f"{IMAGES} {tuple(value.shape)}" if isinstance(value, Tensor) else value


def is_record_of_images(value: Any) -> bool:
    """Whether a record says that an option was images."""
    return isinstance(value, str) and value.startswith(f"{IMAGES} (")
