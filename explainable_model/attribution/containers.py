"""Tensors inside the containers that a layer or a network returns."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeAlias

from torch import Tensor

Change = Callable[[Tensor, tuple[Any, ...]], Tensor]  # (layer output, layer inputs) -> new output

Path: TypeAlias = tuple[Any, ...]
"""The place of a tensor in nested containers: keys, attribute names and positions."""


def first_tensor(output: Any) -> Tensor | None:
    """The first floating point tensor of a layer's output: itself, or the first in a container."""
    return next(floating_tensors(output), None)


def floating_tensors(output: Any) -> Iterator[Tensor]:
    """Every floating point tensor of an output, in order."""
    for _, tensor in named_tensors(output):
        yield tensor


def named_tensors(output: Any, path: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    """Every floating point tensor of an output with its place, in order."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield path, output
        return
    for name, value in named_values(output):
        yield from named_tensors(value, (*path, name))


def named_values(output: Any) -> Iterator[tuple[Any, Any]]:
    """The parts of a container with their key, attribute name or position; nothing for anything else."""
    if isinstance(output, Mapping):
        yield from output.items()
    elif isinstance(output, tuple) and hasattr(output, "_fields"):
        yield from zip(output._fields, output, strict=True)
    elif isinstance(output, (tuple, list)):
        yield from enumerate(output)
    elif is_dataclass(output) and not isinstance(output, type):
        yield from ((field.name, getattr(output, field.name)) for field in fields(output))


def replace_tensor(output: Any, old: Tensor, new: Tensor) -> Any:
    """``output`` with ``old`` exchanged for ``new``; containers keep their type."""
    if output is old:
        return new
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return type(output)(*(replace_tensor(value, old, new) for value in output))
    if isinstance(output, (tuple, list)):
        return type(output)(replace_tensor(value, old, new) for value in output)
    if isinstance(output, Mapping):
        changed = {key: replace_tensor(value, old, new) for key, value in output.items()}
        return type(output)(**changed) if is_dataclass(output) else type(output)(changed)  # type: ignore[call-arg]
    if is_dataclass(output) and not isinstance(output, type):
        names = [field.name for field in fields(output)]
        return replace(output, **{name: replace_tensor(getattr(output, name), old, new) for name in names})
    return output
