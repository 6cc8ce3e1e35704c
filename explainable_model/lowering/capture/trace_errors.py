"""Why ``torch.export`` could not follow a network, and in which of its layers."""

import linecache
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

VALUES_DECIDE = (
    "what it computes depends on the values in the image (an if, a loop, or int() of them); torch.where, or a "
    "mask, computes both ways"
)

NOT_THE_NETWORK = (nn.modules.module.__file__, str(Path(__file__).parents[2]))  # these call it


def untraceable(model: nn.Module, error: Exception) -> str:
    """The message for a network that cannot be traced: reason, layer and line."""
    scripted = [name for name, module in model.named_modules() if isinstance(module, torch.jit.ScriptModule)]
    if scripted:
        return (
            f"{type(model).__name__} has a TorchScript module, {scripted[0]!r}, which torch.export cannot follow, so "
            "it cannot be lowered (it can still be explained eagerly, by methods that need no graph). Put the module "
            f"that it was made from in its place. PyTorch says: {reason_of(error)}"
        )
    return (
        f"{type(model).__name__} cannot be traced by torch.export, so it cannot be lowered (with methods that need no "
        "graph, such as 'gradcam', it can be explained eagerly). "
        f"The reason{_place(model, error)}: {reason_of(error)}"
    )


def reason_of(error: BaseException) -> str:
    """The message of an error, without the advice that may follow it."""
    if any(isinstance(cause, GuardOnDataDependentSymNode) for cause in _causes(error)):
        return VALUES_DECIDE
    lines = (str(error).strip() or type(error).__name__).splitlines()
    if lines[0].startswith("Constraints violated") and len(lines) > 1:  # what they are comes as a list
        return lines[1].strip().removeprefix("- ").partition(" If you're using")[0]
    return lines[0]


def _place(model: nn.Module, error: BaseException) -> str:
    """The innermost layer that was running, and its line, from the traceback."""
    names = {id(module): name for name, module in model.named_modules()}
    for cause in _causes(error):
        for frame, line in reversed(list(traceback.walk_tb(cause.__traceback__))):
            code = frame.f_code
            module = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None  # a method's self
            if id(module) in names and not code.co_filename.startswith(NOT_THE_NETWORK):
                source = linecache.getline(code.co_filename, line).strip()
                name = names[id(module)]
                layer = f"layer {name!r} ({type(module).__name__})" if name else "its own forward"
                return f", in {layer}" + (f" at `{source}`" if source else "")
    return ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and those that led to it, the innermost first."""
    below = error.__cause__ or error.__context__
    if below is not None:
        yield from _causes(below)
    yield error
