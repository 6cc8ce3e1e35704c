"""Values of the arguments of ``ExplainableModel``: a wrong one is refused where it is given."""

import math
from collections.abc import Mapping
from typing import Any

MAX_TOP_K = 2**24
"""The largest number of classes that an artifact can have."""

NOISE = 0.15
"""Standard deviation of noise, as a share of the image's range."""


def as_whole(value: Any, name: str, expected: str, low: int = 0, high: int = 2**31 - 1) -> int:
    """A whole number from ``low`` to ``high``; NumPy's and PyTorch's count, too.

    Raises:
        ValueError: another value.
    """
    try:
        number = value.__index__()
        if low <= number <= high:
            return int(number)
    except (AttributeError, TypeError, ValueError, RuntimeError):  # a tensor of many values raises what it will
        pass
    raise ValueError(f"{name} is {describe(value)}; expected {expected}.")


def as_flag(value: Any, name: str) -> bool:
    """True or false; NumPy's count, and 0 and 1.

    Raises:
        ValueError: another value.
    """
    if value is None or isinstance(value, bool):
        return bool(value)
    return bool(as_whole(_item(value), name, "True or False", 0, 1))


def as_lengths(value: Any, name: str, expected: str) -> tuple[int, ...]:
    """Whole numbers of at least 1 in a tuple.

    Raises:
        ValueError: another value.
    """
    try:
        parts = list(value)
    except TypeError as error:
        raise ValueError(f"{name} is {describe(value)}; expected {expected}.") from error
    try:
        return tuple(as_whole(part, name, expected, 1) for part in parts)
    except ValueError as error:
        raise ValueError(f"{name} is {describe(value)}; expected {expected}.") from error


def as_noise(value: Any) -> tuple[int, float] | None:
    """How many noisy copies, and the standard deviation of the noise; a number alone has the default noise.

    Raises:
        ValueError: something else.
    """
    if value is None:
        return None
    expected = "a number of noisy copies from 1 on, or (copies, noise), such as (16, 0.15)"
    copies, noise = value if isinstance(value, tuple | list) and len(value) == 2 else (value, NOISE)
    try:
        spread = float(noise)
    except (TypeError, ValueError, RuntimeError):
        spread = -1.0
    if not (math.isfinite(spread) and spread >= 0) or isinstance(noise, bool | str):
        raise ValueError(f"smooth is {describe(value)}; expected {expected}.")
    return as_whole(copies, "smooth", expected, 1), spread


def as_options(value: Any) -> dict[str, Any]:
    """The options of a method by name.

    Raises:
        ValueError: something else than a mapping.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"options is {describe(value)}; expected a mapping, such as {{'samples': 16}}.")
    return dict(value)


def describe(value: Any) -> str:
    """A value in a few characters: of a tensor or an array, its type and shape."""
    if hasattr(value, "shape"):
        return f"a {type(value).__name__} of shape {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _item(value: Any) -> Any:
    """NumPy's true and false as Python's, which are numbers."""
    return value.item() if type(value).__name__ in ("bool", "bool_") else value
