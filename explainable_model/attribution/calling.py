"""How a network is called: as ``network(image, *inputs)``, by the names of its parameters, or by a function."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from torch import Tensor, nn

Forward: TypeAlias = str | Sequence[str] | Callable[..., Any] | None
"""As a user says it: the name of the parameter that takes the image, the names of all, or a function."""

Caller: TypeAlias = tuple[str, ...] | Callable[..., Any] | None
"""The same, with one name as a tuple."""


def as_caller(forward: Forward) -> Caller:
    """Check what a user gives as ``forward=``.

    Raises:
        TypeError: neither a name, nor names, nor a function.
    """
    if forward is None or callable(forward):
        return forward
    names = (forward,) if isinstance(forward, str) else forward
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
        raise TypeError(
            f"forward is {forward!r}; expected the name of the parameter that takes the image, such as 'pixel_values', "
            "the names of the image's and the further inputs' parameters, or a function (network, image, *inputs) -> "
            "output."
        )
    return tuple(names)


def call_network(network: nn.Module, caller: Caller, image: Tensor, inputs: Sequence[Tensor]) -> Any:
    """What the network returns.

    Args:
        network: the network.
        caller: how it is called. With one name, the further inputs go by position; with several, by name.
        image: ``(N, C, *spatial)``.
        inputs: its further inputs.
    """
    if caller is None:
        return network(image, *inputs)
    if callable(caller):
        return caller(network, image, *inputs)
    if len(caller) == 1:
        return network(*inputs, **{caller[0]: image})
    return network(**dict(zip(caller, (image, *inputs), strict=True)))


def record_caller(caller: Caller) -> list[str] | str | None:
    """The caller as an artifact's metadata stores it: names, or the name of a function in parentheses."""
    if callable(caller):
        return f"({getattr(caller, '__name__', type(caller).__name__)})"
    return None if caller is None else list(caller)
