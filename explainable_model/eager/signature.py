"""Check that a network can be called with an image, and say how where it cannot."""

import inspect
import linecache
import re
import traceback
from pathlib import Path

from torch import nn

from explainable_model.attribution.calling import Caller
from explainable_model.errors import ModelError

IMAGE_NAMES = ("pixel_values", "image", "images", "img", "imgs", "pixels", "video", "x", "input")
OTHER_NAMES = (
    "input_ids",
    "text",
    "texts",
    "tokens",
    "token_ids",
    "prompt",
    "caption",
    "captions",
    "tabular",
    "labels",
)
EAGER = str(Path(__file__).parent)  # whose functions may stand between an operator and the network that calls it
FORWARD = "ExplainableModel(network, ..., forward={})"

# What PyTorch says of a tensor where the network expected a dictionary, a list or another object.
NOT_A_CONTAINER = re.compile(
    r"too many indices for tensor|only integers, slices|'Tensor' object has no attribute|must be a mapping, not Tensor|"
    r"unhashable type: 'Tensor'|'str' object cannot be interpreted"
)
NOT_IDS = re.compile(r"'indices' to have one of the following scalar types: Long, Int")  # of an embedding
KEY = re.compile(r"\w\[[\"'](\w+)[\"']\]|\.get\([\"'](\w+)[\"']")


def check_signature(model: nn.Module, caller: Caller, inputs: int) -> None:
    """Refuse a network that cannot be called as the plan says.

    Args:
        model: the network.
        caller: how it is called.
        inputs: how many extra inputs there are.

    Raises:
        ModelError: the image goes by keyword only, is not the first argument, or another number of inputs is needed;
            the error shows the argument to write. Or the network has no parameter of such a name.
    """
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):  # a forward without a signature, such as a compiled one
        return
    if isinstance(caller, tuple):
        _check_names(model, signature, caller, inputs)
    elif caller is None:
        _check_positions(model, signature, inputs)


def _check_names(model: nn.Module, signature: inspect.Signature, names: tuple[str, ...], inputs: int) -> None:
    if len(names) not in (1, 1 + inputs):
        raise ModelError(
            f"forward={list(names)} names {len(names)} parameters, and {1 + inputs} tensors were given, the image "
            "first; name one for each, or the image's alone, and the others go by position."
        )
    positions = range(inputs if len(names) == 1 else 0)
    try:
        signature.bind(*positions, **dict.fromkeys(names))
    except TypeError as error:
        raise ModelError(
            f"{_call(model, signature)} does not take forward={names[0] if len(names) == 1 else list(names)!r} with "
            f"{inputs} further input(s): {error}."
        ) from error


def _check_positions(model: nn.Module, signature: inspect.Signature, inputs: int) -> None:
    names = [name for name, p in signature.parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    image = next((name for name in IMAGE_NAMES if name in names), names[0] if names else "pixel_values")
    if names and names[0] in OTHER_NAMES and image != names[0]:
        raise ModelError(_advice(model, signature, f"its first argument is {names[0]!r}, not the image", image))
    try:
        signature.bind(*range(1 + inputs))
    except TypeError as error:
        reason = f"{1 + inputs} argument(s), the image first, do not fit: {error}"
        raise ModelError(_advice(model, signature, reason, image)) from error


def _call(model: nn.Module, signature: inspect.Signature) -> str:
    return f"{type(model).__name__}.forward({', '.join(signature.parameters)})"


def _advice(model: nn.Module, signature: inspect.Signature, reason: str, image: str) -> str:
    required = [
        name
        for name, p in signature.parameters.items()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and name != image
    ]
    if required:
        listed = ", ".join(required)
        others = f", and give {listed} as further input(s): explainable(image, None, {listed})"
    else:
        others = ", and give what it takes besides as further inputs"
    function = f"lambda network, image: network({''.join(f'{name}=..., ' for name in required)}{image}=image)"
    return (
        f"{_call(model, signature)} cannot be called as network(image, ...): {reason}. Name the parameter that takes "
        f"the image: {FORWARD.format(repr(image))}{others}. Or say the call: {FORWARD.format(function)}."
    )


def container_advice(model: nn.Module, error: Exception) -> str | None:
    """What to write where a network failed because it was given a tensor; ``None`` for other failures."""
    if not NOT_A_CONTAINER.search(str(error)):
        return None
    frames = traceback.extract_tb(error.__traceback__)
    line = next((each for each in reversed(frames) if not each.filename.startswith(EAGER)), frames[-1])
    found = KEY.search(linecache.getline(line.filename, line.lineno or 0))
    key = next(filter(None, found.groups()), "image") if found else "image"
    return (
        f"{type(model).__name__} failed on a tensor: {error}. If it takes a dictionary, a list or another container, "
        f"say how it is called: {FORWARD.format(f'lambda network, image: network({{{key!r}: image}})')}."
    )


def ids_advice(model: nn.Module, error: Exception) -> str | None:
    """What to write where a network looked an image up in an embedding; ``None`` for other failures."""
    if not NOT_IDS.search(str(error)):
        return None
    try:
        names = list(inspect.signature(model.forward).parameters)
    except (TypeError, ValueError):
        names = []
    first = f", {names[0]!r}," if names else ""
    return (
        f"{type(model).__name__} looks values up in a table, so its first argument{first} takes whole numbers, such as "
        "token ids, where it was given an image. If another parameter takes the image, name it: "
        f"{FORWARD.format(repr('pixel_values'))}. If the network sees images as ids alone, it has no gradient at the "
        "pixels: explain a module that takes the embedded tokens as its image, (N, K, *grid), and looks nothing up."
    )
