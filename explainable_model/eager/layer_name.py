"""The name of a layer inside its network, from what a user gave."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from explainable_model.attribution.argument_values import describe
from explainable_model.errors import LayerError

WRAPPERS = ("module.", "_orig_mod.")


def resolve_layer(model: nn.Module, target_layer: str | nn.Module) -> str:
    """The name, inside ``model``, of a layer given by name or as a module of it.

    A module with several names may be given by any of them, and what ``DataParallel`` and ``torch.compile`` put before
    every name may stay.

    Raises:
        LayerError: no such layer, or a TorchScript module.
    """
    modules: dict[str, nn.Module] = dict(model.named_modules(remove_duplicate=False))
    del modules[""]
    if isinstance(target_layer, nn.Module):
        for name, module in modules.items():
            if module is target_layer:
                _refuse_scripted(name, module)
                return name
        raise LayerError(
            f"target_layer is a {type(target_layer).__name__} that is not a module of "
            f"{type(model).__name__}; expected one of its submodules or their names."
        )
    if not isinstance(target_layer, str):
        raise LayerError(
            f"target_layer is {describe(target_layer)}; expected a module of the network or its name, or several."
        )
    name = target_layer
    while name not in modules and name.startswith(WRAPPERS):
        name = name.partition(".")[2]
    aliases = getattr(model, "layer_aliases", {})  # of a network that was read from a file
    name = name if name in modules else aliases.get(name, name)
    if name in modules:
        _refuse_scripted(name, modules[name])
        return name
    known = {*modules, *aliases}
    note = f" {model.layer_note}" if hasattr(model, "layer_note") else ""  # where a file keeps some of its layers
    hint = f"{_suggest(target_layer, known)}{note}"
    raise LayerError(f"target_layer {target_layer!r} is not in {type(model).__name__}. {hint}")


def _refuse_scripted(name: str, module: nn.Module) -> None:
    if isinstance(module, torch.jit.ScriptModule):
        raise LayerError(
            f"target_layer {name!r} is a TorchScript module, which has no forward hooks to capture its output with. "
            "Choose a layer outside of it, or put the module that it was made from in its place."
        )


def resolve_layers(
    model: nn.Module, target_layer: str | nn.Module | Sequence[str | nn.Module] | None
) -> tuple[str, ...]:
    """The names of one layer or of several; none for ``None``.

    Raises:
        LayerError: no such layer, the same layer twice, or an empty sequence.
    """
    if target_layer is None:
        return ()
    several = isinstance(target_layer, Iterable) and not isinstance(target_layer, (str, bytes, nn.Module, torch.Tensor))
    layers: Any = target_layer if several else [target_layer]
    names = tuple(resolve_layer(model, layer) for layer in layers)
    if not names or len(set(names)) < len(names):
        raise LayerError(f"target_layer is {list(names)}; expected different layers, or None.")
    return names


def _suggest(wrong: str, known: set[str]) -> str:
    import difflib

    near = difflib.get_close_matches(wrong, known, n=3)
    top = sorted(name for name in known if "." not in name)
    hint = f"Did you mean {', '.join(map(repr, near))}? " if near else ""
    listing = "find_layers(model, image) and the command explainable-model layers list those with a spatial map"
    return f"{hint}Its top-level layers are {', '.join(top)}; {listing}."
